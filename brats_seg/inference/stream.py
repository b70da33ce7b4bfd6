"""Many cases one after another: the next is read and the one before is written while the network works.

What waits between the stages is bounded, so memory stays the same for one case or ten thousand. A case that fails does
not stop the others.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

from brats_seg.errors import BratsSegError, WorkError

__all__ = ["stream"]

Task = TypeVar("Task")
Read = TypeVar("Read")
Made = TypeVar("Made")


def stream(
    tasks: Iterable[Task],
    read: Callable[[Task], Read],
    make: Callable[[Task, Read], Made],
    write: Callable[[Task, Read, Made], None],
    *,
    num_readers: int = 1,
    num_writers: int = 1,
) -> Iterator[tuple[Task, BratsSegError | None]]:
    """Yield each task, in order, once it is written, with the error that it ended in.

    Args:
        tasks: taken as they are needed.
        read: called in one of the readers' threads, up to `num_readers` tasks ahead.
        make: called in the caller's own thread, one task at a time.
        write: called in one of the writers' threads; at most so many tasks wait to be written.
        num_readers: threads that read.
        num_writers: threads that write.

    Any other exception than an error of ours or a lack of memory ends everything.
    """
    waiting = iter(tasks)
    ahead: deque[tuple[Task, Future[Read]]] = deque()
    behind: deque[tuple[Task, Future[None] | BratsSegError]] = deque()
    with (
        ThreadPoolExecutor(num_readers, thread_name_prefix="reader") as readers,
        ThreadPoolExecutor(num_writers, thread_name_prefix="writer") as writers,
    ):
        try:
            while True:
                while len(ahead) <= num_readers and (task := next(waiting, None)) is not None:
                    ahead.append((task, readers.submit(read, task)))
                if not ahead:
                    break
                task, reading = ahead.popleft()
                behind.append((task, _made(task, reading, make, lambda *job: writers.submit(write, *job))))
                while len(behind) > num_writers:
                    yield _written(*behind.popleft())
            while behind:
                yield _written(*behind.popleft())
        finally:
            for _, future in ahead:
                future.cancel()


def _made(
    task: Task,
    reading: Future[Read],
    make: Callable[[Task, Read], Made],
    submit: Callable[[Task, Read, Made], Future[None]],
) -> Future[None] | BratsSegError:
    try:
        found = reading.result()
        return submit(task, found, make(task, found))
    except (BratsSegError, MemoryError) as error:
        return _own(error)


def _written(task: Task, outcome: Future[None] | BratsSegError) -> tuple[Task, BratsSegError | None]:
    if isinstance(outcome, BratsSegError):
        return task, outcome
    try:
        outcome.result()
    except (BratsSegError, MemoryError) as error:
        return task, _own(error)
    return task, None


def _own(error: BratsSegError | MemoryError) -> BratsSegError:
    if isinstance(error, BratsSegError):
        return error
    return WorkError(f"not enough memory for its volumes ({' '.join(str(error).split())[:120] or 'no detail'})")
