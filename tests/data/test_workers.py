"""Worker processes: order, progress, and a killed one."""

from __future__ import annotations

import os

import pytest

from brats_seg.data.workers import map_in_processes
from brats_seg.errors import WorkError


@pytest.mark.parametrize("jobs", [1, 2])
def test_results_come_in_the_order_of_the_items_with_a_tick_each(jobs: int) -> None:
    ticks: list[int] = []
    assert map_in_processes(abs, [-3, -1, -2], jobs=jobs, progress=lambda: ticks.append(1)) == [3, 1, 2]
    assert len(ticks) == 3


def test_nothing_to_do_needs_no_process() -> None:
    assert map_in_processes(abs, [], jobs=4) == []


def test_killed_process_is_an_error_that_names_a_remedy() -> None:
    with pytest.raises(WorkError, match="fewer --jobs"):
        map_in_processes(os._exit, [1, 1], jobs=2)
