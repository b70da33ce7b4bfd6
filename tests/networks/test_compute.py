"""Device and precision."""

from __future__ import annotations

import pytest
import torch

from brats_seg.errors import DeviceError
from brats_seg.networks import compute
from brats_seg.networks.compute import choose_compute


@pytest.mark.parametrize(("has_amx", "expected"), [(True, "bf16"), (False, "fp32")])
def test_auto_precision_of_a_cpu_follows_amx(monkeypatch: pytest.MonkeyPatch, has_amx: bool, expected: str) -> None:
    monkeypatch.setattr(compute, "has_amx", lambda: has_amx)
    assert choose_compute("cpu", "auto").precision == expected


def test_precision_asked_for_is_kept() -> None:
    assert choose_compute("cpu", "bf16").precision == "bf16"


@pytest.mark.skipif(torch.cuda.is_available(), reason="a GPU is there")
@pytest.mark.parametrize("name", ["cuda", "cuda:0", "cuda:3"])
def test_gpu_that_is_not_there_is_named(name: str) -> None:
    with pytest.raises(DeviceError, match=rf"device '{name}' is not there: .*no GPU"):
        choose_compute(name, "auto")


def test_gpu_beyond_the_last_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    with pytest.raises(DeviceError, match=r"'cuda:2' is not there: this machine has 2 GPU"):
        choose_compute("cuda:2", "auto")


@pytest.mark.parametrize("name", ["gpu", "cuda:x", "cpu:1", ""])
def test_unknown_device_is_refused(name: str) -> None:
    with pytest.raises(DeviceError, match="expected auto, cpu, cuda or cuda:N"):
        choose_compute(name, "auto")
