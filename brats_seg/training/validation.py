"""Validation on whole cases: the same windows and metrics as `predict` and `evaluate`, from the store."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from brats_seg.data.nifti import write_label_map
from brats_seg.editions import get_edition
from brats_seg.evaluation.evaluate import evaluate_case
from brats_seg.evaluation.overlap import confusion, dice, iou
from brats_seg.evaluation.records import Row, write_cases_csv
from brats_seg.files import make_output_folder, write_text
from brats_seg.inference.predict import Predictor, paste
from brats_seg.preprocessing.store import StoredCase
from brats_seg.training.distributed import ALONE, Processes

__all__ = ["Scores", "mean_scores", "write_validation"]

_PROTOCOL = "brats2020"


@dataclass(frozen=True)
class Scores:
    """Mean scores over cases, per region and as `mean` over the regions."""

    dice: dict[str, float]
    iou: dict[str, float]


def _unseen(number: int, case: StoredCase, prediction: NDArray[np.uint8]) -> None:
    """Look at no prediction."""


def mean_scores(
    predictor: Predictor,
    cases: Sequence[StoredCase],
    processes: Processes = ALONE,
    seen: Callable[[int, StoredCase, NDArray[np.uint8]], None] = _unseen,
) -> Scores:
    """Return the mean Dice and IoU over cases; a region absent on both sides counts 1, as in `brats2020`.

    Each case is predicted by one of the processes; all of them return the same means. `seen` is called for each case
    of this process with its number among them and its predicted label map, (K, J, I) of the crop.
    """
    own = {}
    for number, case in enumerate(processes.share(cases)):
        prediction = _predicted_crop(predictor, case)
        own[case.name] = _scores(case, prediction, predictor.description.regions)
        seen(number, case, prediction)
    of_case = _joined(processes.gathered(own, predictor.compute.device))
    means = {}
    for metric in ("dice", "iou"):
        of_region = {
            region: float(np.mean([of_case[case.name][metric][region] for case in cases]))
            for region in predictor.description.regions
        }
        means[metric] = of_region | {"mean": sum(of_region.values()) / len(of_region)}
    return Scores(**means)


def _scores(case: StoredCase, prediction: NDArray[np.uint8], regions: Sequence[str]) -> dict[str, dict[str, float]]:
    counts = confusion(np.asarray(case.label_map()), prediction, get_edition(case.edition))
    return {
        name: {region: _or_one(float(metric(counts[region]))) for region in regions}
        for name, metric in (("dice", dice), ("iou", iou))
    }


def _or_one(value: float) -> float:
    return 1.0 if np.isnan(value) else value


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
