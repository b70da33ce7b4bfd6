"""Memory: how much a training took, and what to try where it was not enough."""

from __future__ import annotations

import resource
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import torch

from brats_seg.config import RunConfig
from brats_seg.errors import WorkError
from brats_seg.networks.build import nearest_patch
from brats_seg.networks.compute import Compute
from brats_seg.networks.memory import is_out_of_memory, memory_of

__all__ = ["explained_out_of_memory", "peak_bytes"]


def peak_bytes(device: torch.device) -> int:
    """Return the most memory that this process has held so far: of a GPU, or of the machine."""
    if device.type == "cuda":
        return int(torch.cuda.max_memory_reserved(device))
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else 1024 * peak


@contextmanager
def explained_out_of_memory(config: RunConfig, compute: Compute) -> Iterator[None]:
    """Turn the one error that every user of a small card meets into a line that says what to try.

    Raises:
        WorkError: memory ran out; says what was asked, what the device has, which smaller batch or patch to try.
    """
    try:
        yield
    except (RuntimeError, MemoryError) as error:
        if not is_out_of_memory(error):
            raise
        raise WorkError(_message(config, compute, str(error))) from error


def _message(config: RunConfig, compute: Compute, text: str) -> str:
    train = config.train
    sizes = " x ".join(map(str, train.patch))
    parts = f" in {train.accumulate} parts" if train.accumulate > 1 else ""
    remedies = []
    if train.accumulate < train.batch:
        parts_then = next(n for n in range(train.accumulate + 1, train.batch + 1) if train.batch % n == 0)
        remedies += [f"train.accumulate={parts_then} (the same step in smaller parts)"]
    if not train.checkpoint_activations:
        remedies += ["train.checkpoint_activations=true (the same step from less memory, slower)"]
    if train.batch > 1:
        remedies += [f"train.batch={train.batch // 2}"]
    k, j, i = train.patch
    smaller = nearest_patch(config.network, (k * 3 // 4, j * 3 // 4, i * 3 // 4))
    if smaller != train.patch:
        remedies += [f"train.patch={list(smaller)}"]
    if train.store_device in ("auto", "device") and compute.device.type == "cuda":
        remedies += ["train.store_device=disk"]
    detail = " ".join(text.split())[:120]
    return (
        f"out of memory: {train.batch} patches of {sizes}{parts}, {compute.precision}, on {compute.device} "
        f"({memory_of(compute)}); try {', or '.join(remedies) or 'a smaller network'} ({detail})"
    )
