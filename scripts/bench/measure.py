"""How the benchmarks measure: each side in a process of its own, in turns, on a machine that others may use, too.

A benchmark starts a `Side` for itself and one for each peer (a Python environment that `peers.sh` makes). Each is
warmed up, then they take turns, so that whatever else the machine does falls on all alike. A turn's time is its wall
time; its processor time and the cores that other processes took meanwhile stand beside it. Needs nothing but Python, so
that a peer's process can import it.
"""

from __future__ import annotations

import json
import os
import platform
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

__all__ = ["Side", "Turn", "in_turns", "machine", "median_ms", "peer_python", "report", "row", "serve", "versions"]

_CALM = 0.15
"""Cores that others may take before a row should be doubted."""


def peer_python(name: str) -> Path | None:
    """Return the Python of a peer's environment, or None where `peers.sh` has not made it."""
    root = Path(os.environ.get("BRATS_SEG_PEERS", "~/.cache/brats-seg/peers")).expanduser()
    python = root / name / "bin" / "python"
    return python if python.is_file() else None


@dataclass(frozen=True)
class Turn:
    """One measured call."""

    wall_s: float
    cpu_s: float
    others: float
    """Cores that other processes took meanwhile."""
    answer: Mapping[str, Any]
    """What the call itself told."""


class Side:
    """A process that makes one call at each turn; `words` start it, and it must run `serve`."""

    def __init__(self, name: str, words: Sequence[str | Path], *, threads: int) -> None:
        self.name = name
        count = str(threads)
        environment = os.environ | {
            "OMP_NUM_THREADS": count,
            "OPENBLAS_NUM_THREADS": count,
            "OMP_WAIT_POLICY": "PASSIVE",
        }
        self._process = subprocess.Popen(
            [str(word) for word in words], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment
        )

    def turn(self, **task: Any) -> Turn:
        """Have the process make one call, with `task` for its argument."""
        if self._process.stdin is None or self._process.stdout is None:
            raise SystemExit(f"{self.name}: not started with pipes")
        print(json.dumps(task), file=self._process.stdin, flush=True)
        line = self._process.stdout.readline()
        if not line:
            raise SystemExit(f"{self.name}: ended with exit code {self._process.wait()} (its message is above)")
        return Turn(**json.loads(line))

    def close(self) -> None:
        """End the process."""
        if self._process.stdin is not None:
            self._process.stdin.close()
        self._process.wait()


def serve(call: Callable[..., Mapping[str, Any] | None]) -> None:
    """Be a side: make one timed call for each line of standard input, and answer each with a line."""
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what libraries print must not mix with the answers
    for line in sys.stdin:
        task = json.loads(line)
        busy, cpu, start = _busy_seconds(), time.process_time(), time.perf_counter()
        answer = call(**task)
        wall, cpu = time.perf_counter() - start, time.process_time() - cpu
        others = max(0.0, (_busy_seconds() - busy - cpu) / wall)
        print(
            json.dumps({"wall_s": wall, "cpu_s": cpu, "others": others, "answer": answer or {}}),
            file=answers,
            flush=True,
        )


def in_turns(
    sides: Sequence[Side], rounds: int, task: Callable[[str, int], Mapping[str, Any]]
) -> dict[str, list[Turn]]:
    """Return the turns of each side: one to warm up that does not count, then `rounds`, the sides one after another.

    `task(side, round)` gives the argument of each call; round 0 is the warm-up.
    """
    turns: dict[str, list[Turn]] = {side.name: [] for side in sides}
    for number in range(rounds + 1):
        for side in sides:
            turn = side.turn(**task(side.name, number))
            if number:
                turns[side.name].append(turn)
    return turns


def _busy_seconds() -> float:
    """Return the processor seconds that the whole machine has spent since boot (0 where that cannot be told)."""
    try:
        fields = [int(value) for value in Path("/proc/stat").read_text().split("\n", 1)[0].split()[1:]]
    except OSError:
        return 0.0
    return (sum(fields[:8]) - fields[3] - fields[4]) / float(os.sysconf("SC_CLK_TCK"))


def machine() -> dict[str, Any]:
    """Return what the numbers were measured on; AMX decides what bf16 is worth."""
    try:
        flags = Path("/proc/cpuinfo").read_text()
    except OSError:
        flags = ""
    models = [line.split(":", 1)[1].strip() for line in flags.splitlines() if line.startswith("model name")]
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return {
        "processor": models[0] if models else platform.processor() or platform.machine(),
        "has_amx": "amx_bf16" in flags,
        "cores": cores,
        "system": platform.platform(),
        "python": platform.python_version(),
    }


def versions() -> dict[str, Any]:
    """Return our versions, and what `peers.sh` installed for each peer."""
    from brats_seg.files import provenance  # a peer's process has no brats_seg

    found: dict[str, Any] = dict(provenance()["versions"])
    for name in ("monai", "medpy", "nnunet"):
        python = peer_python(name)
        made_of = python.parent.parent / "made-of.txt" if python else None
        if made_of and made_of.is_file():
            found[f"peer {name}"] = made_of.read_text().strip()
    return found


def median_ms(turns: Sequence[Turn]) -> float:
    """Return the median wall time in milliseconds."""
    return statistics.median(turn.wall_s for turn in turns) * 1e3


def row(what: str, turns: Sequence[Turn]) -> dict[str, Any]:
    """Return a row of the table: medians of wall and processor time, the least, and what others took."""
    return {
        "what": what,
        "median_ms": round(median_ms(turns), 1),
        "min_ms": round(min(turn.wall_s for turn in turns) * 1e3, 1),
        "cpu_ms": round(statistics.median(turn.cpu_s for turn in turns) * 1e3, 1),
        "rounds": len(turns),
        "others": round(statistics.mean(turn.others for turn in turns), 2),
    }


def report(
    bench: str,
    rows: Sequence[Mapping[str, Any]],
    *,
    ratios: Mapping[str, float],
    figures: Mapping[str, Any],
    conditions: Mapping[str, Any],
    target: Path,
) -> None:
    """Print the table, write everything to a JSON file, and end with the one line that scripts read."""
    columns = list(rows[0])
    cells = [columns, *([str(one.get(column, "")) for column in columns] for one in rows)]
    widths = [max(len(line[n]) for line in cells) for n in range(len(columns))]
    for first, *others in cells:
        print("  ".join([first.ljust(widths[0]), *(cell.rjust(w) for cell, w in zip(others, widths[1:], strict=True))]))
    where = machine()
    print(f"{where['processor']}, {'with' if where['has_amx'] else 'without'} AMX, {where['cores']} cores")
    if any(float(one.get("others", 0)) > _CALM for one in rows):
        print(f"others took more than {_CALM} cores (column others): trust the ratios, not the milliseconds")
    last = {
        "bench": bench,
        "ratios": {name: round(value, 2) for name, value in ratios.items()},
        "figures": dict(figures),
    }
    content = {**last, "rows": list(rows), "machine": where, "conditions": dict(conditions)}
    target.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
    print(f"wrote {target}")
    print(json.dumps(last))
