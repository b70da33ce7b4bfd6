"""`inference.window=auto`: the size of the windows is chosen on the held-out cases, with the trained network."""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from brats_seg.config import NetworkConfig, RunConfig, parse_config, to_yaml
from brats_seg.files import write_csv, write_text
from brats_seg.inference.memory import OutOfMemoryError
from brats_seg.inference.predict import Predictor, load_predictor
from brats_seg.networks.build import stride_of
from brats_seg.networks.compute import Compute
from brats_seg.preprocessing.store import StoredCase
from brats_seg.reporting.tables import format_table
from brats_seg.training.distributed import ALONE, Processes
from brats_seg.training.validation import mean_scores

__all__ = ["WINDOWS", "Tried", "candidate_windows", "choose_window", "has_chosen_window", "keep_window", "try_windows"]

WINDOWS = "windows.csv"
"""The windows that were tried, in the RUN folder."""

Shape = tuple[int, int, int]
_SHARES = (1.0, 1.25, 1.5)
"""Edges of the windows that are tried, as shares of the training patch."""


@dataclass(frozen=True)
class Tried:
    """A window that was tried on the held-out cases."""

    window: Shape
    dice: dict[str, float] | None
    """Mean Dice per region and `mean`; None where memory ran out."""
    seconds: float
    """A case, reading from the store included."""


def candidate_windows(network: NetworkConfig, patch: Shape) -> list[Shape]:
    """Return the windows to try, each once: 1, 1.25 and 1.5 times the patch, as near as the network's strides allow.

    Of two equally near ones the larger is tried.
    """
    strides = stride_of(network)
    scaled = []
    for share in _SHARES:
        k, j, i = (
            math.floor(edge * share / stride + 0.5) * stride for edge, stride in zip(patch, strides, strict=True)
        )
        scaled.append((k, j, i))
    return list(dict.fromkeys(scaled))


def has_chosen_window(run: Path, config: RunConfig) -> bool:
    """Return whether a run's window was asked to be chosen, and is chosen already."""
    return config.inference.window == "auto" and (run / WINDOWS).is_file()


def choose_window(
    run: Path, config: RunConfig, cases: Sequence[StoredCase], compute: Compute, processes: Processes = ALONE
) -> tuple[RunConfig, str]:
    """Try windows, keep the best in the RUN's files, and return the configuration with it and a table for people.

    Raises:
        OutOfMemoryError: memory does not even suffice for the patch.
    """
    tried = try_windows(run, config, cases, compute, processes)
    chosen = keep_window(run, config, tried, is_writing=processes.is_first)
    names = list(next(one.dice for one in tried if one.dice is not None))
    rows = [
        [" x ".join(map(str, one.window)), *((one.dice or {}).get(name) for name in names), one.seconds]
        for one in tried
    ]
    table = format_table(["window", *(f"Dice {name}" for name in names), "s a case"], rows)
    return chosen, f"windows tried on the held-out cases; kept: {list(chosen.inference.window or [])}\n{table}"


def try_windows(
    run: Path, config: RunConfig, cases: Sequence[StoredCase], compute: Compute, processes: Processes = ALONE
) -> list[Tried]:
    """Return how a run's best weights score on its held-out cases, window by window, post-processing included.

    All processes return the same scores. A window larger than the patch that memory does not suffice for is passed
    over where one process works alone.

    Raises:
        OutOfMemoryError: memory does not even suffice for the patch.
    """
    values = config.model_dump(mode="json")
    loaded = load_predictor(run, parse_config(values, ["inference.window=null"]), compute)
    tried: list[Tried] = []
    for window in candidate_windows(config.network, config.train.patch):
        inference = parse_config(values, [f"inference.window={list(window)}"]).inference
        predictor = Predictor(loaded.network, loaded.description, inference, compute)
        begun = time.perf_counter()
        try:
            dice = mean_scores(predictor, cases, processes).dice
        except OutOfMemoryError:
            if not tried or processes.count > 1:
                raise
            dice = None
        tried.append(Tried(window, dice, (time.perf_counter() - begun) * processes.count / len(cases)))
    return tried


def keep_window(run: Path, config: RunConfig, tried: Sequence[Tried], *, is_writing: bool = True) -> RunConfig:
    """Return the configuration with the window of the best mean Dice, the smallest of equals.

    Writes all that were tried to `RUN/windows.csv`, then the configuration to `RUN/config.yaml`.
    """
    scored = [(one.dice["mean"], one.window) for one in tried if one.dice is not None]
    best = max(dice for dice, _ in scored)
    window = next(window for dice, window in scored if dice == best)
    values = config.model_dump(mode="json")
    chosen = parse_config(values, [f"inference.window={list(window)}"])
    if is_writing:
        regions = list(next(one.dice for one in tried if one.dice is not None))
        header = ["window_k", "window_j", "window_i", *(f"dice_{region}" for region in regions), "seconds", "is_kept"]
        write_csv(run / WINDOWS, [header, *(_line(one, regions, window) for one in tried)])
        write_text(run / "config.yaml", to_yaml(chosen))
    return chosen


def _line(one: Tried, regions: Sequence[str], kept: Shape) -> list[object]:
    dice = one.dice or dict.fromkeys(regions, float("nan"))
    return [*one.window, *(dice[region] for region in regions), round(one.seconds, 3), int(one.window == kept)]
