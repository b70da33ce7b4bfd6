"""Device, precision and threads: chosen once, said aloud, never replaced silently."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from brats_seg.errors import DeviceError
from brats_seg.networks.fusing import make_norms_fusible
from brats_seg.processor import computes_bf16_fast, has_amx, processor_name

__all__ = ["Compute", "choose_compute", "compiled", "is_compiled", "placed"]

_CHANNELS_LAST = {4: torch.channels_last, 5: torch.channels_last_3d}
"""Number of axes of a kernel's weights -> the layout with channels last."""


@dataclass(frozen=True)
class Compute:
    """Where and how a network runs."""

    device: torch.device
    precision: str
    """`fp32`, `bf16` or `fp16`."""
    device_name: str
    """The device in words, for people and `run.json`."""

    def autocast(self) -> AbstractContextManager[object]:
        """Return the context in which the network is called."""
        if self.precision == "fp32":
            return nullcontext()
        return torch.autocast(self.device.type, torch.bfloat16 if self.precision == "bf16" else torch.float16)

    def favours_channels_last(self, *, is_compiled: bool) -> bool:
        """Return whether channels innermost pay for most networks: bf16 with AMX, 16 bits compiled on a GPU."""
        if self.device.type == "cpu":
            return self.precision == "bf16" and has_amx()
        return self.precision != "fp32" and is_compiled

    def layout_of(self, network: nn.Module, asked: str = "auto", *, is_compiled: bool = False) -> torch.memory_format:
        """Return the memory format for a network's weights and inputs; `asked` may be contiguous or channels_last.

        channels_last_3d pays with bf16 on a CPU with AMX (not on others), and on a GPU for compiled code (`fusing.py`):
        there a step of the 31 M DynUNet took 95 ms so and 73 ms contiguous as long as nothing was compiled. Group
        normalisation has a backward in channels_last that is 15 to 50 times slower, so such networks stay contiguous.
        U-Nets of slices with batch norm are faster so on a CPU in fp32, too: 370 ms a slice of 256 x 256 forward and
        back against 433 (BasicUNet, AMD EPYC with AVX-512, one thread).
        """
        if asked != "auto":
            return torch.channels_last_3d if asked == "channels_last" else torch.contiguous_format
        kinds = {type(module) for module in network.modules()}
        has_batch_norm = self.device.type == "cpu" and nn.BatchNorm2d in kinds
        pays = has_batch_norm or self.favours_channels_last(is_compiled=is_compiled)
        return torch.channels_last_3d if pays and nn.GroupNorm not in kinds else torch.contiguous_format

    def __str__(self) -> str:
        threads = f", {torch.get_num_threads()} threads" if self.device.type == "cpu" else ""
        return f"{self.device} ({self.device_name}{threads}), {self.precision}"


def placed(network: nn.Module, device: torch.device, layout: torch.memory_format) -> nn.Module:
    """Return the network on a device, its weights in the layout of its inputs (kernels of two axes in theirs)."""
    network = network.to(device)
    if layout == torch.channels_last_3d:
        for weights in network.parameters():
            if weights.ndim in _CHANNELS_LAST:
                weights.data = weights.data.contiguous(memory_format=_CHANNELS_LAST[weights.ndim])
    return network


def choose_compute(device: str, precision: str, threads: int | None = None) -> Compute:
    """Return the device and precision asked for; `auto` takes a GPU where there is one, and bf16 where it is fast.

    bf16 is fast on CUDA and on some CPUs (`processor.py`), and slower than fp32 on every other CPU.

    Raises:
        DeviceError: the device is not there (names it and what is), or fp16 is asked of a CPU.
    """
    chosen = _device(device)
    if chosen.type == "cpu" and threads is not None:
        torch.set_num_threads(threads)
    if precision == "auto":
        precision = "bf16" if chosen.type == "cuda" or computes_bf16_fast() else "fp32"
    if precision == "fp16" and chosen.type == "cpu":
        raise DeviceError("precision fp16 on a CPU: no unit computes it there; use precision=auto, fp32 or a GPU")
    name = torch.cuda.get_device_name(chosen) if chosen.type == "cuda" else processor_name()
    return Compute(chosen, precision, name)


def is_compiled(compute: Compute, asked: str | bool = "auto") -> bool:
    """Return whether a network is compiled: where that was asked for, and for `auto` on CUDA alone."""
    return compute.device.type == "cuda" if asked == "auto" else bool(asked)


def compiled(network: nn.Module, compute: Compute, asked: str | bool = "auto") -> Callable[[Tensor], Tensor]:
    """Return the network as a function, compiled where `is_compiled` says so.

    The weights are the network's own, under the same names; only who calls the function runs compiled code. A compiled
    network's norms are made fusible, in place.
    """
    if not is_compiled(compute, asked):
        return network
    make_norms_fusible(network)
    return torch.compile(network, dynamic=False)


def _device(name: str) -> torch.device:
    count = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if name == "auto":
        return torch.device("cuda", 0) if count else torch.device("cpu")
    kind, _, number = name.partition(":")
    if kind not in ("cpu", "cuda") or (number and not number.isdigit()) or (kind == "cpu" and number):
        raise DeviceError(f"device {name!r}: expected auto, cpu, cuda or cuda:N")
    if kind == "cpu":
        return torch.device("cpu")
    if int(number or 0) >= count:
        there = f"{count} GPU(s), numbered from 0" if count else "no GPU that this PyTorch can use"
        raise DeviceError(f"device {name!r} is not there: this machine has {there}; use device auto or cpu")
    return torch.device("cuda", int(number or 0))
