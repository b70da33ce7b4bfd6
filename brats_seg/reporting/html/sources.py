"""What a report is made from: an evaluation's folder, the record of how it was made, and the runs behind it.

In: folders that `evaluate` (or a run's validation) wrote. Out: `Source` records. `cases.csv` must be there and whole;
everything else is optional, and what is not there, or cannot be read, is told in `Source.notes`.
"""

from __future__ import annotations

import csv
import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from brats_seg.errors import DataError, UsageError, did_you_mean
from brats_seg.evaluation.protocols import PROTOCOLS, Protocol
from brats_seg.evaluation.saved import SavedEvaluation, read_evaluation
from brats_seg.files import hash_of_file, read_json

__all__ = ["Calibration", "Curve", "Source", "TrainingRun", "read_source", "select_of_source"]

_HASHED = ("cases.csv", "summary.json", "calibration.csv", "lesions.csv")
_AMOUNTS = ("reference_ml", "prediction_ml")
Curve = tuple[tuple[float, ...], tuple[float, ...]]
"""Places along both axes."""


@dataclass(frozen=True)
class Calibration:
    """How true the probabilities are, region by region."""

    reliability: dict[str, Curve]
    """Region -> mean probability and observed share of each bin that has voxels."""
    precision_recall: dict[str, Curve]
    """Region -> recall and precision at each threshold where both are defined."""
    numbers: dict[str, dict[str, float]]
    """Region -> `ece`, `brier`, `average_precision`."""
    rules: str


@dataclass(frozen=True)
class TrainingRun:
    """A run's settings and what it logged."""

    folder: Path
    curves: dict[str, Curve]
    """Column of `metrics.csv` -> steps and values, where there is one."""
    settings: dict[str, Any]
    """Content of `config.yaml`; empty if it is not there."""
    record: dict[str, Any]
    """Content of `run.json`; empty if it is not there."""
    hashes: dict[str, str]
    """File name -> sha256."""

    @property
    def network(self) -> str:
        """The network in words; "" where no settings are there."""
        own = self.settings.get("network")
        name = own.get("name") if isinstance(own, dict) else None
        return "" if name is None else str(name)


@dataclass(frozen=True, eq=False)
class Source:
    """One evaluation as a report sees it."""

    name: str
    scores: SavedEvaluation
    protocol: Protocol
    rules: tuple[str, ...]
    """A sentence a task: how lesions are told apart and what they cost."""
    warnings: tuple[str, ...]
    """What the evaluation warned of."""
    record: dict[str, Any]
    """`run.json`."""
    models: dict[str, Any]
    """`predictions.json` of the folder of predictions, without its cases."""
    runs: tuple[TrainingRun, ...]
    calibration: Calibration | None
    hashes: dict[str, str]
    """File name -> sha256."""
    notes: tuple[str, ...] = field(default=())
    """What was looked for and is not there."""

    def place(self, what: str) -> Path | None:
        """Return the folder of `reference`, `prediction` or `images` that the record names, if it is still there."""
        named = self.record.get(what)
        return Path(named) if isinstance(named, str) and Path(named).is_dir() else None


def read_source(folder: Path, edition: str | None = None, runs: Sequence[Path] = ()) -> Source:
    """Return what there is to report of an evaluation.

    Args:
        folder: an evaluation's, or a run's (its `validation/` is reported).
        edition: name of the edition, over what the summary tells.
        runs: folders of the runs behind it, over what `run.json` tells.

    Raises:
        DataError: there is no `cases.csv`, it is malformed, or of another version: its protocol is unknown, or columns
            that the protocol needs are not there.
    """
    if not (folder / "cases.csv").is_file() and (folder / "validation" / "cases.csv").is_file():
        folder = folder / "validation"
    scores = read_evaluation(folder, edition)
    protocol = _protocol_of(scores)
    notes: list[str] = []
    summary, record = (_read_record(folder / name, notes) for name in ("summary.json", "run.json"))
    is_validation = (folder.parent / "model.safetensors").is_file()
    if is_validation:
        record = {"prediction": str(folder.resolve()), "runs": [str(folder.parent.resolve())], **record}
    named = [Path(run) for run in _texts(record.get("runs"))]
    return Source(
        name=folder.parent.name if is_validation and folder.name == "validation" else folder.resolve().name,
        scores=scores,
        protocol=protocol,
        rules=tuple(_texts(summary.get("rules"))),
        warnings=tuple(_texts(summary.get("warnings"))),
        record=record,
        models=_models_of(record),
        runs=tuple(_read_run(run, notes) for run in (runs or named) if _is_there(run, notes)),
        calibration=_read_calibration(folder, summary, scores.regions, notes),
        hashes={name: hash_of_file(folder / name) for name in _HASHED if (folder / name).is_file()},
        notes=tuple(notes),
    )


def select_of_source(source: Source, cases: Sequence[str]) -> Source:
    """Return the source with the scores of some of its cases; calibration is of all cases, and left out if they differ.

    Raises:
        UsageError: there are none.
    """
    scores = source.scores
    if tuple(cases) == scores.cases:
        return source
    if not cases:
        raise UsageError("--cases: names none, expected one case or more")
    rows = [scores.cases.index(case) for case in cases]
    columns = {name: values[rows] for name, values in scores.columns.items()}
    gone = tuple(case for case in scores.without_prediction if case in cases)
    notes = source.notes
    if source.calibration is not None:
        notes = (*notes, "calibration is left out: it was measured over all cases, and these are a selection")
    own = replace(scores, cases=tuple(cases), columns=columns, without_prediction=gone)
    return replace(source, scores=own, calibration=None, notes=notes)


def _protocol_of(scores: SavedEvaluation) -> Protocol:
    path = scores.folder / "cases.csv"
    if scores.protocol not in PROTOCOLS:
        hint = did_you_mean(scores.protocol, PROTOCOLS)
        raise DataError(f"{path}: protocol {scores.protocol!r} is unknown to this version{hint}")
    protocol = PROTOCOLS[scores.protocol]
    needed = dict.fromkeys(("dice", "hd95_mm", *protocol.main_metrics, *_AMOUNTS))
    if missing := [name for name in needed if name not in scores.columns]:
        raise DataError(
            f"{path}: no column {', '.join(missing)}, which protocol {protocol.name} has; it is of another version: "
            "make it again with `brats-seg evaluate`"
        )
    return protocol


def _read_record(path: Path, notes: list[str]) -> dict[str, Any]:
    """Return a JSON object; where there is none, an empty one and a note."""
    if not path.is_file():
        notes.append(f"{path.name} is not there")
        return {}
    try:
        content = read_json(path)
    except (OSError, ValueError) as error:
        notes.append(f"{path.name} cannot be read ({error})")
        return {}
    if not isinstance(content, dict):
        notes.append(f"{path.name} is no record of an evaluation")
        return {}
    return content


def _texts(value: Any) -> list[str]:
    return [str(one) for one in value] if isinstance(value, list) else []


def _models_of(record: dict[str, Any]) -> dict[str, Any]:
    """Return what `predictions.json` says of the models, with the hashes of their weights as `weights_sha256`."""
    folder = record.get("prediction")
    path = Path(folder) / "predictions.json" if isinstance(folder, str) else None
    if path is None or not path.is_file():
        return {}
    content = _read_record(path, [])
    cases = content.pop("cases", {})
    made = (
        [one.get("made_by", {}) for one in cases.values() if isinstance(one, dict)] if isinstance(cases, dict) else []
    )
    hashes = dict.fromkeys(text for one in made if isinstance(one, dict) for text in _texts(one.get("weights_sha256")))
    return {**content, "weights_sha256": list(hashes)}


def _is_there(run: Path, notes: list[str]) -> bool:
    if not run.is_dir():
        notes.append(f"run {run}: no such folder, so its training curves are left out")
    return run.is_dir()


def _read_run(folder: Path, notes: list[str]) -> TrainingRun:
    settings: dict[str, Any] = {}
    path = folder / "config.yaml"
    if path.is_file():
        try:
            content = yaml.safe_load(path.read_text(encoding="utf-8"))
            settings = content if isinstance(content, dict) else {}
        except (OSError, ValueError, yaml.YAMLError) as error:
            notes.append(f"{path}: cannot be read ({type(error).__name__})")
    weights = folder / "model.safetensors"
    return TrainingRun(
        folder=folder,
        curves=_read_metrics(folder / "metrics.csv", notes),
        settings=settings,
        record=_read_record(folder / "run.json", []),
        hashes={weights.name: hash_of_file(weights)} if weights.is_file() else {},
    )


def _read_metrics(path: Path, notes: list[str]) -> dict[str, Curve]:
    if not path.is_file():
        notes.append(f"{path}: not there, so the training curves are left out")
        return {}
    try:
        rows = _read_rows(path)
        points: dict[str, list[tuple[float, float]]] = {}
        for row in rows:
            for column, text in row.items():
                if column != "step" and text and math.isfinite(value := float(text)):
                    points.setdefault(column, []).append((float(row["step"]), value))
    except (OSError, ValueError, KeyError, csv.Error) as error:
        notes.append(f"{path}: cannot be read ({error!r}), so the training curves are left out")
        return {}
    return {column: _curve_of(own) for column, own in points.items()}


def _read_rows(path: Path) -> list[dict[str, str]]:
    with path.open(newline="", encoding="utf-8") as file:
        return [{str(name): text or "" for name, text in row.items()} for row in csv.DictReader(file)]


def _curve_of(points: Sequence[tuple[float, float]]) -> Curve:
    return tuple(x for x, _ in points), tuple(y for _, y in points)


def _read_calibration(
    folder: Path, summary: dict[str, Any], regions: Sequence[str], notes: list[str]
) -> Calibration | None:
    path, recall = folder / "calibration.csv", folder / "precision_recall.csv"
    if not path.is_file():
        return None
    try:
        reliability = _curves_of(_read_rows(path), "mean_probability", "observed_share", regions)
        rows = _read_rows(recall) if recall.is_file() else []
        curves = _curves_of(rows, "recall", "precision", regions)
        own = summary["calibration"]
        numbers = {
            region: {name: float(of[name]) for name in ("ece", "brier", "average_precision")}
            for region, of in own["regions"].items()
        }
        return Calibration(reliability, curves, numbers, str(own["rules"]))
    except (OSError, ValueError, KeyError, TypeError, AttributeError, csv.Error) as error:
        notes.append(f"{path.name} cannot be read ({error!r}), so calibration is left out")
        return None


def _curves_of(rows: Sequence[dict[str, str]], x: str, y: str, regions: Sequence[str]) -> dict[str, Curve]:
    """Return the points of each region where both columns are finite."""
    curves = {}
    for region in regions:
        values = np.array([(float(row[x]), float(row[y])) for row in rows if row["region"] == region]).reshape(-1, 2)
        own = values[np.isfinite(values).all(axis=1)]
        curves[region] = (tuple(own[:, 0].tolist()), tuple(own[:, 1].tolist()))
    return curves
