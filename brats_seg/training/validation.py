"""Validation on whole cases: the same windows and metrics as `predict` and `evaluate`, from the store."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

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
from brats_seg.training.distributed import ALONE, Processes

__all__ = ["mean_dice", "write_validation"]

_PROTOCOL = "brats2020"


def mean_dice(predictor: Predictor, cases: Sequence[StoredCase], processes: Processes = ALONE) -> dict[str, float]:
    """Return the mean Dice of each region over cases; a region absent on both sides counts 1, as in `brats2020`.

    Each case is predicted by one of the processes; all of them return the same means.
    """
    own = {case.name: _dice(predictor, case) for case in processes.share(cases)}
    of_case = _joined(processes.gathered(own, predictor.compute.device))
    return {
        region: float(np.mean([of_case[case.name][region] for case in cases]))
        for region in predictor.description.regions
    }


def _dice(predictor: Predictor, case: StoredCase) -> dict[str, float]:
    edition = get_edition(case.edition)
    counts = confusion(np.asarray(case.label_map()), _predicted_crop(predictor, case), edition)
    values = {region: float(dice(counts[region])) for region in predictor.description.regions}
    return {region: 1.0 if np.isnan(value) else value for region, value in values.items()}


def _joined(parts: Sequence[dict[str, Any]]) -> dict[str, Any]:
    return {name: value for part in parts for name, value in part.items()}


def write_validation(
    predictor: Predictor,
    cases: Sequence[StoredCase],
    folder: Path,
    tick: Callable[[], None] = lambda: None,
    processes: Processes = ALONE,
) -> list[Row]:
    """Write the label maps of the fold's cases, `cases.txt` and `cases.csv` (protocol brats2020), and return the rows.

    The label maps equal those that `brats-seg predict` writes for the same cases. `tick` is called after each case of
    this process; the first process writes the tables.
    """
    make_output_folder(folder)
    own = {}
    for case in processes.share(cases):
        own[case.name] = [asdict(row) for row in _write_case(predictor, case, folder)]
        tick()
    of_case = _joined(processes.gathered(own, predictor.compute.device))
    rows = [Row(**values) for case in cases for values in of_case[case.name]]
    if processes.is_first:
        write_text(folder / "cases.txt", "".join(f"{case.name}\n" for case in cases))
        write_cases_csv(folder / "cases.csv", rows)
    return rows


def _write_case(predictor: Predictor, case: StoredCase, folder: Path) -> list[Row]:
    edition = get_edition(case.edition)
    prediction, reference = (
        paste(crop, case.crop_start, case.shape) for crop in (_predicted_crop(predictor, case), case.label_map())
    )
    write_label_map(folder / f"{case.name}.nii.gz", prediction, case.header_bytes)
    return evaluate_case(case.name, reference, prediction, edition, _PROTOCOL, case.spacing_mm)


def _predicted_crop(predictor: Predictor, case: StoredCase) -> NDArray[np.uint8]:
    probabilities = predictor.probabilities(case.image(), case.mean, case.sd)
    return predictor.label_map(probabilities, get_edition(case.edition))
