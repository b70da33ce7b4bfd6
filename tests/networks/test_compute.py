"""Device and precision."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import nn

from brats_seg.errors import DeviceError
from brats_seg.networks import compute
from brats_seg.networks.compute import Compute, choose_compute, compiled, placed


@pytest.mark.parametrize(("is_fast", "expected"), [(True, "bf16"), (False, "fp32")])
def test_auto_precision_of_a_cpu_follows_its_units(
    monkeypatch: pytest.MonkeyPatch, is_fast: bool, expected: str
) -> None:
    monkeypatch.setattr(compute, "computes_bf16_fast", lambda: is_fast)
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


def test_fp16_on_a_cpu_is_refused() -> None:
    with pytest.raises(DeviceError, match=r"fp16 on a CPU.*use precision=auto"):
        choose_compute("cpu", "fp16")


@pytest.mark.parametrize(
    ("norm", "precision", "asked", "is_channels_last"),
    [
        (nn.InstanceNorm3d, "bf16", "auto", True),
        (nn.InstanceNorm3d, "fp32", "auto", False),
        (nn.InstanceNorm3d, "fp32", "channels_last", True),
        (nn.BatchNorm3d, "fp32", "auto", False),
        (nn.BatchNorm2d, "fp32", "auto", True),
        (nn.BatchNorm2d, "fp32", "contiguous", False),
        (nn.InstanceNorm3d, "bf16", "contiguous", False),
        (lambda channels: nn.GroupNorm(2, channels), "bf16", "auto", False),
    ],
)
def test_layout_follows_norm_precision_and_what_was_asked(
    monkeypatch: pytest.MonkeyPatch,
    norm: Callable[[int], nn.Module],
    precision: str,
    asked: str,
    is_channels_last: bool,
) -> None:
    monkeypatch.setattr(compute, "has_amx", lambda: True)
    network = nn.Sequential(nn.Conv3d(1, 4, 3), nn.Sequential(norm(4)))
    found = choose_compute("cpu", precision).layout_of(network, asked)
    assert (found == torch.channels_last_3d) is is_channels_last


def test_bf16_without_amx_stays_contiguous(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compute, "has_amx", lambda: False)
    network = nn.Sequential(nn.Conv3d(1, 4, 3), nn.InstanceNorm3d(4))
    assert choose_compute("cpu", "bf16").layout_of(network) == torch.contiguous_format


@pytest.mark.parametrize(
    ("norm", "precision", "is_compiled", "is_channels_last"),
    [
        (nn.InstanceNorm3d, "bf16", True, True),
        (nn.InstanceNorm3d, "fp16", True, True),
        (nn.InstanceNorm3d, "bf16", False, False),
        (nn.InstanceNorm3d, "fp32", True, False),
        (lambda channels: nn.GroupNorm(2, channels), "bf16", True, False),
    ],
)
def test_a_gpu_keeps_channels_last_for_compiled_code_of_16_bits(
    norm: Callable[[int], nn.Module], precision: str, is_compiled: bool, is_channels_last: bool
) -> None:
    gpu = Compute(torch.device("cuda", 0), precision, "")
    network = nn.Sequential(nn.Conv3d(1, 4, 3), norm(4))
    found = gpu.layout_of(network, is_compiled=is_compiled)
    assert (found == torch.channels_last_3d) is is_channels_last
    assert gpu.layout_of(network, "channels_last") == torch.channels_last_3d


def test_network_is_compiled_on_a_gpu_alone_unless_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    network = nn.Conv3d(1, 1, 1)
    monkeypatch.setattr(torch, "compile", lambda *_, **__: "compiled")
    cpu, gpu = Compute(torch.device("cpu"), "fp32", ""), Compute(torch.device("cuda", 0), "bf16", "")
    assert compiled(network, cpu) is network
    assert compiled(network, cpu, True) == "compiled"
    assert compiled(network, gpu) == "compiled"
    assert compiled(network, gpu, False) is network


def test_weights_of_slices_are_placed_in_their_own_layout() -> None:
    network = nn.Sequential(nn.Conv2d(4, 8, 3), nn.BatchNorm2d(8))
    before = network[0].weight.detach().clone()
    weight = placed(network, torch.device("cpu"), torch.channels_last_3d)[0].weight  # type: ignore[index]
    assert weight.is_contiguous(memory_format=torch.channels_last)
    assert torch.equal(weight, before)
