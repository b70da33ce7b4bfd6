"""Worker processes: one function over many cases, in order, with progress and a clear end when one is killed."""

from __future__ import annotations

import signal
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from multiprocessing import get_context
from typing import TypeVar

from brats_seg.errors import WorkError

__all__ = ["map_in_processes"]

_Item = TypeVar("_Item")
_Result = TypeVar("_Result")


def map_in_processes(
    function: Callable[[_Item], _Result],
    items: Sequence[_Item],
    *,
    jobs: int,
    progress: Callable[[], object] | None = None,
) -> list[_Result]:
    """Return `function` of every item, in the items' order; `progress` is called after each.

    With one job, or one item, it runs in this process. Others are started afresh: a fork of a process that has threads
    (torch, say) can hang.

    Raises:
        WorkError: a process was killed, as when memory runs out.
    """
    tell = progress or (lambda: None)
    if jobs == 1 or len(items) <= 1:
        results = []
        for item in items:
            results.append(function(item))
            tell()
        return results
    executor = ProcessPoolExecutor(
        min(jobs, len(items)),
        mp_context=get_context("spawn"),
        initializer=signal.signal,
        initargs=(signal.SIGINT, signal.SIG_IGN),  # Ctrl-C ends this process, which ends the others
    )
    try:
        futures = [executor.submit(function, item) for item in items]
        for future in as_completed(futures):
            future.result()
            tell()
        return [future.result() for future in futures]
    except BrokenProcessPool as error:
        raise WorkError("a working process was killed; memory may have run out: use fewer --jobs") from error
    finally:
        executor.shutdown(cancel_futures=True)
