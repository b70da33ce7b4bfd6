"""What a person sees of a training: a bar or lines, curves, TensorBoard events."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from brats_seg.reporting.figures import can_draw, draw_training_curves

__all__ = ["TrainingWatcher"]

_SCALARS = {"loss": "loss", "learning_rate": "learning_rate", "patches_per_second": "patches_per_second"}
"""Column of metrics.csv -> name of its event, for what every row has."""


class TrainingWatcher:
    """Shows progress on the terminal, draws the run's curves, and writes its events.

    Args:
        run: the RUN folder.
        num_steps: steps of the whole run.
        is_silent: no bar (no terminal, or `--quiet`).
        is_quiet: no lines either.
        is_writing: whether curves and events are written; not so by all but the first of several processes.
        heard: called with step and row after each row of metrics.csv.
    """

    def __init__(
        self,
        run: Path,
        num_steps: int,
        *,
        is_silent: bool,
        is_quiet: bool,
        is_writing: bool = True,
        heard: Callable[[int, Mapping[str, Any]], None] | None = None,
    ) -> None:
        self.run = run
        self.num_steps = num_steps
        self.is_silent = is_silent
        self.is_quiet = is_quiet
        self.is_writing = is_writing
        self._heard = heard
        self._bar: tqdm[Any] | None = None
        self._events: Any = None
        self._dice = ""
        self._done = self._first = 0
        self._epoch_steps, self._epoch = 1, 0
        self._begun = 0.0

    def left_out(self) -> list[str]:
        """Return a line for each optional package that is not there, and what is left out without it."""
        lines = []
        if not can_draw():
            lines.append("matplotlib is not installed: curves.png is left out")
        if find_spec("tensorboard") is None:
            lines.append("tensorboard is not installed: events are left out")
        elif find_spec("PIL") is None:
            lines.append("pillow is not installed: pictures in the events are left out")
        return lines

    def begin(self, step: int, epoch_steps: int = 1) -> None:
        """Open bar and events at a step; an epoch, in which every training case is seen once, has so many steps."""
        self._done = self._first = step
        self._epoch_steps, self._epoch = epoch_steps, step // epoch_steps
        self._begun = time.perf_counter()
        self._bar = tqdm(total=self.num_steps, initial=step, unit="step", disable=self.is_silent, smoothing=0.05)
        if self.is_writing and find_spec("tensorboard") is not None:
            from torch.utils.tensorboard import SummaryWriter  # noqa: PLC0415 (optional, slow to import)

            self._events = SummaryWriter(str(self.run / "events"), purge_step=step + 1 if step else None)

    def stepped(self, step: int, loss: float | None) -> None:
        """Move the bar; `loss` is the mean since the last look."""
        if self._bar is not None:
            self._bar.update(step - self._done)
            self._done = step
            if loss is not None:
                self._bar.set_postfix_str(f"loss {loss:.3f}{self._dice}", refresh=False)

    def validated(self, step: int, scores: dict[str, float]) -> None:
        """Print a validation's Dice scores and draw the curves up to the one before."""
        text = "  ".join(f"{name} {value:.3f}" for name, value in scores.items())
        self._dice = f", Dice {scores['mean']:.3f}"
        self.said(f"{self._place(step)}: held-out Dice  {text}")
        self.draw()

    @property
    def wants_pictures(self) -> bool:
        """Whether there are events to put pictures into."""
        return self._events is not None and find_spec("PIL") is not None

    def measured(self, step: int, row: Mapping[str, Any]) -> None:
        """Keep a row of metrics.csv as events; print a line where an epoch has ended and there is no bar."""
        for column, value in row.items():
            metric, _, region = column.partition("_")
            name = _SCALARS.get(column) or (f"{metric}/{region}" if metric in ("dice", "iou") else None)
            if self._events is not None and name is not None and value != "":
                self._events.add_scalar(name, value, step)
        epoch = step // self._epoch_steps
        if self.is_silent and epoch > self._epoch:
            self._epoch = epoch
            self.said(self._epoch_line(step, row))
        if self._heard is not None:
            self._heard(step, row)

    def pictured(self, step: int, case: str, picture: NDArray[np.uint8]) -> None:
        """Keep a picture of a held-out case as an event."""
        if self._events is not None:
            self._events.add_image(f"held_out/{case}", picture, step, dataformats="HWC")

    def said(self, line: str) -> None:
        """Print a line above the bar."""
        if not self.is_quiet:
            tqdm.write(line)

    def draw(self) -> None:
        """Draw curves.png from metrics.csv."""
        metrics = self.run / "metrics.csv"
        if self.is_writing and can_draw() and metrics.is_file():
            draw_training_curves(metrics, self.run / "curves.png")

    def validating(self, num_cases: int) -> Callable[[], None]:
        """Return what to call after each case of the final validation; it moves a bar of its own."""
        self.close()
        self._bar = tqdm(total=num_cases, unit="case", desc="validation", disable=self.is_silent)
        bar = self._bar
        return lambda: (bar.update(1), None)[1]

    def close(self) -> None:
        """Close bar and events."""
        if self._bar is not None:
            self._bar.close()
        if self._events is not None:
            self._events.close()
        self._bar = self._events = None

    def _place(self, step: int) -> str:
        return f"step {step:>{len(str(self.num_steps))}} of {self.num_steps}"

    def _epoch_line(self, step: int, row: Mapping[str, Any]) -> str:
        """Return a line about the epochs so far; the time left is that of the mean step of this call."""
        seconds = (time.perf_counter() - self._begun) / max(step - self._first, 1) * (self.num_steps - step)
        left = f"{seconds / 3600:.1f} h" if seconds >= 5400 else f"{seconds / 60:.1f} min"
        return (
            f"{self._place(step)}: epoch {step // self._epoch_steps}, loss {row['loss']:.4f}, learning rate "
            f"{row['learning_rate']:.3g}, {row['patches_per_second']:.3g} patches a second, {left} left"
        )
