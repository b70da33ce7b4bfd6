"""Memory that ran out: how it is told from other errors, and what a device has."""

from __future__ import annotations

import torch

from brats_seg.networks.compute import Compute

__all__ = ["is_out_of_memory", "memory_of"]

_TEXTS = ("not enough memory", "can't allocate memory", "out of memory", "STATUS_ALLOC_FAILED")
_GIB = 2**30


def is_out_of_memory(error: BaseException) -> bool:
    """Return whether an error says that memory ran out, on a GPU or in the machine."""
    return isinstance(error, MemoryError | torch.OutOfMemoryError) or any(text in str(error) for text in _TEXTS)


def memory_of(compute: Compute) -> str:
    """Return a device in words, with a GPU's memory and what is free of it."""
    if compute.device.type != "cuda":
        return compute.device_name
    free, total = torch.cuda.mem_get_info(compute.device)
    return f"{compute.device_name}, {total / _GIB:.0f} GiB, {free / _GIB:.1f} GiB free"
