"""Settings of the process itself, made before torch is imported: the allocator and how threads wait."""

from __future__ import annotations

import ctypes
import os

__all__ = ["keep_freed_memory", "prepare_process"]


def prepare_process() -> None:
    """Set up a process that computes; call it before torch is imported.

    Threads that wait do not spin: two spinning threads beside one busy process are nine times slower than one thread.
    """
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    keep_freed_memory()


def keep_freed_memory() -> bool:
    """Stop glibc from handing large blocks back to the kernel after every layer; True if it took effect.

    A training step otherwise pays page faults for every activation, up to half of its time. The price is resident
    memory that is not given back. No effect, and False, where the C library is not glibc.
    """
    mmap_max, trim_threshold, top_pad = -4, -1, -2
    settings = ((mmap_max, 0), (trim_threshold, 2**31 - 1), (top_pad, 256 << 20))
    try:
        libc = ctypes.CDLL("libc.so.6")
        return all(libc.mallopt(option, value) for option, value in settings)
    except (OSError, AttributeError):
        return False
