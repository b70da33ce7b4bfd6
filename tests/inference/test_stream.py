"""Reading and writing beside the network: order, overlap, bounds, and errors that stay with their case."""

from __future__ import annotations

import threading
import time

import pytest

from brats_seg.errors import DataError, OutputError, WorkError
from brats_seg.inference.stream import stream


def test_tasks_are_read_made_and_written_in_order() -> None:
    written: list[tuple[int, int, int]] = []
    outcomes = stream(range(20), lambda n: n * 10, lambda n, read: n + read, lambda *job: written.append(job))
    assert list(outcomes) == [(n, None) for n in range(20)]
    assert written == [(n, n * 10, n * 11) for n in range(20)]


@pytest.mark.parametrize(("readers", "writers"), [(1, 1), (3, 2)])
def test_no_more_wait_than_there_are_threads_for(readers: int, writers: int) -> None:
    lock, counts, most = threading.Lock(), {"read": 0, "made": 0}, {"read": 0, "made": 0}

    def add(kind: str, number: int) -> None:
        with lock:
            counts[kind] += number
            most[kind] = max(most[kind], counts[kind])

    def read(task: int) -> int:
        add("read", 1)
        return task

    def make(task: int, read: int) -> int:
        time.sleep(0.001)
        add("read", -1)
        add("made", 1)
        return read

    def write(*_: int) -> None:
        time.sleep(0.003)  # slower than making: makers have to wait
        add("made", -1)

    outcomes = stream(range(40), read, make, write, num_readers=readers, num_writers=writers)
    assert len(list(outcomes)) == 40
    assert most["read"] <= readers + 1
    assert most["made"] <= writers + 1


def test_next_is_read_and_last_is_written_while_one_is_made() -> None:
    reading, writing = (
        {n: threading.Event() for n in range(3)},
        threading.Event(),
    )

    def read(task: int) -> int:
        reading[task].set()
        return task

    def make(task: int, _: int) -> int:
        if task == 1:
            assert reading[2].wait(5)
            assert writing.wait(5)
        return task

    def write(task: int, *_: int) -> None:
        if task == 0:
            writing.set()

    assert [task for task, _ in stream(range(3), read, make, write)] == [0, 1, 2]


def test_failed_task_does_not_stop_the_others() -> None:
    def read(task: int) -> int:
        if task == 1:
            raise DataError("case 1: cut off")
        if task == 4:
            raise MemoryError("tried to allocate 9 TiB")
        return task

    def make(task: int, _: int) -> int:
        if task == 2:
            raise WorkError("case 2: no")
        return task

    def write(task: int, *_: int) -> None:
        if task == 3:
            raise OutputError("case 3: full")

    found = dict(stream(range(6), read, make, write))
    assert [type(found[n]) for n in range(6)] == [type(None), DataError, WorkError, OutputError, WorkError, type(None)]
    assert "not enough memory for its volumes (tried to allocate 9 TiB)" in str(found[4])


@pytest.mark.parametrize("stage", ["read", "make", "write"])
def test_defect_ends_everything(stage: str) -> None:
    done: list[int] = []

    def broken(task: int, *_: int) -> int:
        if task == 2:
            raise KeyError("a defect")
        done.append(task)
        return task

    stages = {name: broken if name == stage else (lambda task, *_: task) for name in ("read", "make", "write")}
    with pytest.raises(KeyError, match="a defect"):
        list(stream(range(100), *stages.values()))
    assert len(done) < 10
