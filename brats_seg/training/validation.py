"""Validation on whole cases: the same windows and metrics as `predict` and `evaluate`, from the store."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from brats_seg.data.nifti import write_label_map
from brats_seg.editions import get_edition
from brats_seg.evaluation.evaluate import evaluate_case
from brats_seg.evaluation.overlap import confusion, dice
from brats_seg.evaluation.records import Row, write_cases_csv
from brats_seg.files import make_output_folder, write_text
from brats_seg.inference.predict import Predictor, paste
from brats_seg.preprocessing.store import StoredCase

__all__ = ["mean_dice", "write_validation"]

_PROTOCOL = "brats2020"


def mean_dice(predictor: Predictor, cases: Sequence[StoredCase]) -> dict[str, float]:
    """Return the mean Dice of each region over cases; a region absent on both sides counts 1, as in `brats2020`."""
    regions = predictor.description.regions
    scores = {region: [] for region in regions}  # type: dict[str, list[float]]
    for case in cases:
        edition = get_edition(case.edition)
        counts = confusion(np.asarray(case.label_map()), _predicted_crop(predictor, case), edition)
        for region in regions:
            value = dice(counts[region])
            scores[region].append(1.0 if np.isnan(value) else value)
    return {region: float(np.mean(values)) for region, values in scores.items()}


def write_validation(
    predictor: Predictor, cases: Sequence[StoredCase], folder: Path, tick: Callable[[], None] = lambda: None
) -> list[Row]:
    """Write the label maps of the fold's cases, `cases.txt` and `cases.csv` (protocol brats2020), and return the rows.

    The label maps equal those that `brats-seg predict` writes for the same cases. `tick` is called after each case.
    """
    make_output_folder(folder)
    rows: list[Row] = []
    for case in cases:
        edition = get_edition(case.edition)
        prediction, reference = (
            paste(crop, case.crop_start, case.shape) for crop in (_predicted_crop(predictor, case), case.label_map())
        )
        write_label_map(folder / f"{case.name}.nii.gz", prediction, case.header_bytes)
        rows += evaluate_case(case.name, reference, prediction, edition, _PROTOCOL, case.spacing_mm)
        tick()
    write_text(folder / "cases.txt", "".join(f"{case.name}\n" for case in cases))
    write_cases_csv(folder / "cases.csv", rows)
    return rows


def _predicted_crop(predictor: Predictor, case: StoredCase) -> NDArray[np.uint8]:
    probabilities = predictor.probabilities(case.image(), case.mean, case.sd)
    return predictor.label_map(probabilities, get_edition(case.edition))
