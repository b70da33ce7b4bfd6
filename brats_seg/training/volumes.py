"""Where the training cases' voxels lie while a network learns: on disk, in memory, or on the training device.

On disk they are memory-mapped: what fits into free memory stays there after its first reading. On the device, as int16,
a patch costs neither the processor nor the bus anything.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from brats_seg.errors import DeviceError

if TYPE_CHECKING:
    from brats_seg.preprocessing.store import StoredCase

__all__ = ["CaseVolumes", "hold_cases"]

_DEVICE_SHARE = 0.4
"""Of a GPU's free memory that `auto` gives to the cases; the rest is the network's."""
_RAM_SHARE = 0.8
"""Of the free memory that cases may take where they are asked into memory."""
_GB = 1e9


@dataclass(frozen=True)
class CaseVolumes:
    """The cases' images and label maps."""

    where: str
    """`disk`, `ram` or `device`."""
    explanation: str
    """One line for people: where they are, how large, and why."""
    of_case: Callable[[int], tuple[Any, Any]]
    """Image (modality, K, J, I) and label map (K, J, I) of a case by its number; arrays, or tensors on the device."""


def hold_cases(cases: Sequence[StoredCase], where: str, device: torch.device) -> CaseVolumes:
    """Return the volumes of cases in the place asked for; `auto` is the device where they fit, and the disk elsewhere.

    Raises:
        DeviceError: they do not fit where they were asked to.
    """
    num_bytes = sum(case.image().nbytes + case.label_map().nbytes for case in cases)
    free = _free_bytes(device)
    chosen = _choose(num_bytes, free) if where == "auto" else where
    size = f"{num_bytes / _GB:.1f} GB of cases"
    if chosen == "device":
        _require_room(num_bytes, free, 1.0, "device", str(device))
        tensors = [(_tensor(case.image(), device), _tensor(case.label_map(), device)) for case in cases]
        return CaseVolumes(chosen, f"{size} on {device}", tensors.__getitem__)
    if chosen == "ram":
        _require_room(num_bytes, _free_ram_bytes(), _RAM_SHARE, "ram", "this machine")
        arrays = [(np.array(case.image()), np.array(case.label_map())) for case in cases]
        return CaseVolumes(chosen, f"{size} in memory", arrays.__getitem__)
    why = f"; {device} has {free / _GB:.1f} GB free, of which cases may take {_DEVICE_SHARE:.0%}" if free else ""
    return CaseVolumes(
        "disk",
        f"{size} on disk, memory-mapped{why}",
        lambda number: (cases[number].image(), cases[number].label_map()),
    )


def _choose(num_bytes: int, free_on_device: int) -> str:
    return "device" if num_bytes <= _DEVICE_SHARE * free_on_device else "disk"


def _require_room(num_bytes: int, free: int, share: float, name: str, place: str) -> None:
    if num_bytes > share * free:
        raise DeviceError(
            f"train.store_device={name}: the training cases take {num_bytes / _GB:.1f} GB, but {place} has "
            f"{free / _GB:.1f} GB free; use train.store_device=disk"
        )


def _free_bytes(device: torch.device) -> int:
    """Return the free memory of a GPU; 0 for the processor, where `device` and `ram` are the same."""
    return torch.cuda.mem_get_info(device)[0] if device.type == "cuda" else 0


def _free_ram_bytes() -> int:
    """Return what the system could give without swapping (all of its memory where it does not tell)."""
    try:
        lines = Path("/proc/meminfo").read_text(encoding="utf-8").splitlines()
        return next(1024 * int(line.split()[1]) for line in lines if line.startswith("MemAvailable"))
    except (OSError, StopIteration):
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")


def _tensor(array: Any, device: torch.device) -> torch.Tensor:
    return torch.from_numpy(np.array(array)).to(device)
