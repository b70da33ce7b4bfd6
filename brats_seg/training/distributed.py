"""More than one process: not yet. Asked for, it is refused in one line rather than trained wrongly."""

from __future__ import annotations

import os

from brats_seg.errors import UsageError

__all__ = ["require_one_process"]


def require_one_process() -> None:
    """Refuse to be one of several processes.

    Raises:
        UsageError: torchrun or SLURM started more than one.
    """
    world_size = int(os.environ.get("WORLD_SIZE", "1") or "1")
    if world_size > 1:
        raise UsageError(
            f"{world_size} training processes were started, but a run uses one; start it with one process and one GPU"
        )
