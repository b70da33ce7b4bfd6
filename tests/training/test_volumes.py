"""Where the cases lie: decided from free memory, said in one line, refused where they do not fit."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from brats_seg.errors import DeviceError
from brats_seg.training.volumes import hold_cases

CPU = torch.device("cpu")


@dataclass
class FakeCase:
    def image(self) -> NDArray[Any]:
        return np.ones((4, 50, 50, 50), np.int16)  # 1,000,000 bytes

    def label_map(self) -> NDArray[np.uint8]:
        return np.ones((50, 50, 50), np.uint8)  # 125,000 bytes


CASES: Any = [FakeCase() for _ in range(8)]  # 9 MB


@pytest.mark.parametrize(("free_mb", "where"), [(0, "disk"), (22, "disk"), (23, "device")])
def test_auto_takes_the_device_where_cases_fit_into_forty_per_cent(
    free_mb: int, where: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("brats_seg.training.volumes._free_bytes", lambda _: free_mb * 10**6)
    held = hold_cases(CASES, "auto", CPU)
    assert held.where == where
    assert "0.0 GB of cases" in held.explanation
    assert held.explanation.count("\n") == 0


def test_processor_reads_from_disk_unless_asked() -> None:
    assert hold_cases(CASES, "auto", CPU).where == "disk"
    in_memory = hold_cases(CASES, "ram", CPU)
    assert "in memory" in in_memory.explanation
    assert in_memory.of_case(3)[0].shape == (4, 50, 50, 50)
    assert not isinstance(in_memory.of_case(3)[0], np.memmap)


@pytest.mark.parametrize(("where", "free"), [("device", "_free_bytes"), ("ram", "_free_ram_bytes")])
def test_cases_that_do_not_fit_are_refused_with_a_remedy(
    where: str, free: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(f"brats_seg.training.volumes.{free}", lambda *_: 10**6)
    with pytest.raises(DeviceError, match=rf"store_device={where}: .*0\.0 GB free; use train\.store_device=disk"):
        hold_cases(CASES, where, CPU)
