"""The processor: its name for records, and where it computes in bf16 faster than in fp32."""

from __future__ import annotations

import platform
from itertools import takewhile
from pathlib import Path

__all__ = ["computes_bf16_fast", "has_amx", "processor_name"]

_CPUINFO = Path("/proc/cpuinfo")


def processor_name() -> str:
    """Return the processor's model and whether it has AMX, the unit that makes bf16 fast on an Intel processor."""
    model = _described().get("model name", "") or platform.processor() or platform.machine()
    return f"{model}, {'with' if has_amx() else 'without'} AMX"


def has_amx() -> bool:
    """Return whether the processor has AMX units for bf16."""
    return "amx_bf16" in _flags()


def computes_bf16_fast() -> bool:
    """Return whether networks take less time in bf16 than in fp32: with AMX, or with AMD's `avx512_bf16`.

    Intel's processors with `avx512_bf16` and without AMX are slower in bf16; AMD's (from Zen 4 on) take .5 of the time
    forwards and .6 forwards and back (docs/benchmarks.md).
    """
    return has_amx() or (_described().get("vendor_id") == "AuthenticAMD" and "avx512_bf16" in _flags())


def _flags() -> set[str]:
    return set(_described().get("flags", "").split())


def _described() -> dict[str, str]:
    """Return what the system tells of its first processor; nothing where it tells nothing."""
    try:
        with _CPUINFO.open(encoding="utf-8") as lines:  # no further than its empty line: hundreds of others may follow
            pairs = [line.partition(":") for line in takewhile(str.strip, lines)]
    except OSError:
        return {}
    return {name.strip(): value.strip() for name, _, value in pairs}
