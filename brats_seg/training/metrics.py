"""metrics.csv: a row every few steps of a run, with the scores of the held-out cases where there was a validation."""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from brats_seg.errors import OutputError
from brats_seg.files import write_text
from brats_seg.training.validation import Scores

__all__ = ["METRICS", "NO_RECORDS", "Records", "append_row", "columns_of", "cut_rows", "score_columns"]

METRICS = "metrics.csv"
_OF_THE_TRAINING = ("step", "loss", "learning_rate", "patches_per_second")


class Records(Protocol):
    """Whoever keeps what is measured in a training: events, a study."""

    @property
    def wants_pictures(self) -> bool:
        """Whether pictures of held-out cases are to be made."""

    def measured(self, step: int, row: Mapping[str, Any]) -> None:
        """A row of metrics.csv is written; its columns of scores are empty where there was no validation."""

    def pictured(self, step: int, case: str, picture: NDArray[np.uint8]) -> None:
        """A slice of a held-out case, (rows, columns, 3) of 0-255."""


class _NoRecords:
    wants_pictures = False

    def measured(self, step: int, row: Mapping[str, Any]) -> None:
        pass

    def pictured(self, step: int, case: str, picture: NDArray[np.uint8]) -> None:
        pass


NO_RECORDS: Records = _NoRecords()


def columns_of(regions: Sequence[str]) -> list[str]:
    """Return the columns of metrics.csv in their order."""
    scores = [f"{metric}_{name}" for metric in ("dice", "iou") for name in (*regions, "mean")]
    return [*_OF_THE_TRAINING, *scores]


def score_columns(scores: Scores | None, regions: Sequence[str]) -> dict[str, float | str]:
    """Return the columns of scores, empty without a validation."""
    of_metric = {"dice": scores.dice, "iou": scores.iou} if scores else {"dice": {}, "iou": {}}
    return {
        f"{metric}_{name}": values.get(name, "") for metric, values in of_metric.items() for name in (*regions, "mean")
    }


def append_row(path: Path, row: Mapping[str, Any]) -> None:
    """Append a row, in the order of its keys; the first brings the header.

    Raises:
        OutputError: the file cannot be written.
    """
    try:
        with path.open("a", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, list(row), lineterminator="\n")
            if file.tell() == 0:
                writer.writeheader()
            writer.writerow(row)
    except OSError as error:
        raise OutputError(f"{path}: cannot be written ({error.strerror or error})") from error


def cut_rows(path: Path, step: int, columns: Sequence[str]) -> None:
    """Drop the rows after `step`, and one that was cut off while it was written: the run goes on from there.

    A file begun with fewer columns gets those of today, empty in its rows, so that new rows fit under one header.
    """
    if not path.exists():
        return
    header, *rows = path.read_text(encoding="utf-8").splitlines(keepends=True) or [""]
    whole = [row for row in rows if row.endswith("\n") and int(row.split(",", 1)[0]) <= step]
    missing = len(columns) - len(header.split(","))
    if header and missing > 0 and [*header.strip().split(",")] == list(columns[:-missing]):
        header = ",".join(columns) + "\n"
        whole = [row.removesuffix("\n") + "," * missing + "\n" for row in whole]
    write_text(path, header + "".join(whole))
