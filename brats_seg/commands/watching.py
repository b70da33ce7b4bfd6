"""What a person sees of a training: a bar, a line per validation, curves and TensorBoard events."""

from __future__ import annotations

from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from tqdm import tqdm

from brats_seg.reporting.figures import can_draw, draw_training_curves

__all__ = ["TrainingWatcher"]


class TrainingWatcher:
    """Shows progress on the terminal and draws the run's curves.

    Args:
        run: the RUN folder.
        num_steps: steps of the whole run.
        is_silent: no bar (no terminal, or `--quiet`).
        is_quiet: no lines either.
        is_writing: whether curves and events are written; not so by all but the first of several processes.
    """

    def __init__(self, run: Path, num_steps: int, *, is_silent: bool, is_quiet: bool, is_writing: bool = True) -> None:
        self.run = run
        self.num_steps = num_steps
        self.is_silent = is_silent
        self.is_quiet = is_quiet
        self.is_writing = is_writing
        self._bar: tqdm[Any] | None = None
        self._events: Any = None
        self._dice = ""
        self._done = 0

    def left_out(self) -> list[str]:
        """Return a line for each optional package that is not there, and what is left out without it."""
        lines = []
        if not can_draw():
            lines.append("matplotlib is not installed: curves.png is left out")
        if find_spec("tensorboard") is None:
            lines.append("tensorboard is not installed: events are left out")
        return lines

    def begin(self, step: int) -> None:
        """Open bar and events at a step."""
        self._done = step
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
        if loss is not None:
            self._event("loss", loss, step)

    def validated(self, step: int, scores: dict[str, float]) -> None:
        """Print a validation's scores and draw the curves up to the one before."""
        text = "  ".join(f"{name} {value:.3f}" for name, value in scores.items())
        self._dice = f", Dice {scores['mean']:.3f}"
        self.said(f"step {step:>{len(str(self.num_steps))}} of {self.num_steps}: held-out Dice  {text}")
        for name, value in scores.items():
            self._event(f"dice/{name}", value, step)
        self.draw()

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

    def _event(self, name: str, value: float, step: int) -> None:
        if self._events is not None:
            self._events.add_scalar(name, value, step)
