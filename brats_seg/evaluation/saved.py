"""Evaluations read back from their folders, and several of them put side by side.

In: folders that `evaluate` wrote (`cases.csv`, `summary.json`). Out: `SavedEvaluation`, and `Scores` of the regions of
their edition, which `ranking` and `paired` take. Whatever makes numbers incomparable is refused: another protocol,
edition, set of cases, or reference.
"""

from __future__ import annotations

import csv
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from brats_seg.editions import EDITIONS, get_edition
from brats_seg.errors import DataError, UsageError, did_you_mean
from brats_seg.evaluation.protocols import PROTOCOLS
from brats_seg.evaluation.ranking import Scores, default_metrics, is_metric, metrics_named
from brats_seg.files import read_json

__all__ = ["SavedEvaluation", "join_evaluations", "names_of_folders", "read_evaluation", "require_comparable"]

_VOXELS = ("reference_voxels", "prediction_voxels")
_AMOUNTS = ("reference_ml", "prediction_ml", "num_tp", "num_fp", "num_fn")
"""Columns that rank no model, but that reports show."""
_REMEDY = "make it again with `brats-seg evaluate`"


@dataclass(frozen=True, eq=False)
class SavedEvaluation:
    """One folder's scores."""

    folder: Path
    protocol: str
    protocol_title: str
    editions: tuple[str, ...]
    regions: tuple[str, ...]
    """Those of the edition, in its order."""
    labels: tuple[str, ...]
    """Single labels that are scored in all cases, too (NCR, ED), in the file's order."""
    cases: tuple[str, ...]
    """Sorted by name."""
    without_prediction: tuple[str, ...]
    """Cases that had none and were scored as failures."""
    metrics: tuple[str, ...]
    """Columns by which models can be ranked, in the file's order."""
    columns: dict[str, NDArray[np.float64]]
    """Metric, `reference_voxels`, `prediction_voxels`, or volume (ml) and number of lesions where the file has them ->
    (case, region or label), regions first."""


def read_evaluation(folder: Path, edition: str | None = None) -> SavedEvaluation:
    """Return what `evaluate` wrote to a folder.

    Args:
        folder: with `cases.csv` and `summary.json`.
        edition: name of the edition, over what the summary tells; with it no summary is needed, as in the `validation`
            folder of a run.

    Raises:
        DataError: a file is not there or malformed (file, line and column are named), or a case lacks a region.
    """
    summary = _read_summary(folder, edition)
    regions = get_edition(summary.editions[0]).region_names
    path = folder / "cases.csv"
    header, lines = _read_table(path)
    names = [name for name in header if is_metric(name) or name in (*_VOXELS, *_AMOUNTS)]
    found, protocol = _read_rows(path, header, lines, names)
    cases = tuple(sorted({case for case, _ in found}))
    gaps = [f"case {case} has no row of region {one}" for case in cases for one in regions if (case, one) not in found]
    if gaps:
        raise DataError(f"{path}: {gaps[0]} ({len(gaps)} such rows missing; expected {', '.join(regions)}); {_REMEDY}")
    others = dict.fromkeys(region for _, region in found if region not in regions)
    labels = tuple(label for label in others if all((case, label) in found for case in cases))
    every = (*regions, *labels)
    table = np.array([[found[case, region] for region in every] for case in cases])
    return SavedEvaluation(
        folder=folder,
        protocol=protocol,
        protocol_title=summary.protocol_title or (PROTOCOLS[protocol].title if protocol in PROTOCOLS else ""),
        editions=summary.editions,
        regions=regions,
        labels=labels,
        cases=cases,
        without_prediction=summary.without_prediction,
        metrics=tuple(name for name in names if is_metric(name)),
        columns={name: table[..., column] for column, name in enumerate(names)},
    )


def join_evaluations(
    evaluations: Sequence[SavedEvaluation],
    metrics: Sequence[str] | None = None,
    regions: Sequence[str] | None = None,
) -> Scores:
    """Return the scores of several evaluations on the same cases; models are named after their folders.

    Args:
        evaluations: two or more.
        metrics: columns to rank by; None = those of the protocol's challenge.
        regions: regions or single labels to rank by; None = the edition's regions.

    Raises:
        UsageError: there are fewer than two, or a metric or region is not in all of them.
        DataError: protocol, edition, cases or references differ, and how.
    """
    if len(evaluations) < 2:
        raise UsageError(f"{len(evaluations)} evaluation given, expected two or more to compare")
    names = require_comparable(evaluations)
    first = evaluations[0]
    known = [name for name in first.metrics if all(name in one.metrics for one in evaluations)]
    chosen = metrics_named(default_metrics(first.protocol) if metrics is None else metrics, known)
    places = [_places_of(one, first.regions if regions is None else regions) for one in evaluations]
    return Scores(
        models=names,
        cases=first.cases,
        regions=first.regions if regions is None else tuple(regions),
        metrics=chosen,
        values=np.stack(
            [
                np.stack([one.columns[metric.name][:, own] for metric in chosen], axis=-1)
                for one, own in zip(evaluations, places, strict=True)
            ]
        ),
        is_nothing_missed=np.stack(
            [_is_nothing_missed(one)[:, own] for one, own in zip(evaluations, places, strict=True)]
        ),
    )


def require_comparable(evaluations: Sequence[SavedEvaluation]) -> tuple[str, ...]:
    """Return a name for each evaluation, that of its folder, if the numbers of all can stand side by side.

    Raises:
        DataError: protocol, edition, cases or references differ, and how.
        UsageError: a folder is given twice.
    """
    names = names_of_folders([one.folder for one in evaluations])
    _require_alike(evaluations, names)
    _require_same_cases(evaluations, names)
    _require_same_references(evaluations, names)
    return names


def names_of_folders(folders: Sequence[Path]) -> tuple[str, ...]:
    """Return a name for each folder: its last part, with as many before it as tell equal ones apart.

    Raises:
        UsageError: a folder is given twice.
    """
    parts = [folder.resolve().parts for folder in folders]
    for place, folder in enumerate(folders):
        if parts[place] in parts[:place]:
            raise UsageError(f"{folder}: given twice; a model is not compared with itself")
    names = [own[-1] for own in parts]
    depth = 1
    while len(set(names)) < len(names):
        depth += 1
        names = [
            "/".join(own[-depth:]) if names.count(name) > 1 else name for own, name in zip(parts, names, strict=True)
        ]
    return tuple(names)


@dataclass(frozen=True)
class _Summary:
    """What a folder's `summary.json` says beside its numbers."""

    editions: tuple[str, ...]
    protocol_title: str = ""
    without_prediction: tuple[str, ...] = ()


def _read_summary(folder: Path, edition: str | None) -> _Summary:
    if not (folder / "cases.csv").is_file():
        found = "it has no cases.csv" if folder.is_dir() else "a file" if folder.exists() else "no such folder"
        raise DataError(f"{folder}: {found}; expected a folder written by `brats-seg evaluate ... --out {folder}`")
    path = folder / "summary.json"
    if not path.is_file():
        if edition is None:
            raise DataError(f"{path}: not there, and it tells the edition; name one with --edition, or {_REMEDY}")
        return _Summary((get_edition(edition).name,))
    try:
        content = read_json(path)
        editions = tuple(sorted(str(name) for name in content["editions"]))
        missing = tuple(str(name) for name in content.get("missing", ()))
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise DataError(f"{path}: no summary that names its editions ({error!r}); {_REMEDY}") from error
    if edition is not None:
        editions = (get_edition(edition).name,)
    unknown = [name for name in editions if name not in EDITIONS]
    if unknown or not editions:
        raise DataError(f"{path}: editions {list(editions)}, expected one or more of {', '.join(EDITIONS)}; {_REMEDY}")
    return _Summary(editions, str(content.get("protocol_title", "")), missing)


def _read_table(path: Path) -> tuple[list[str], Iterator[tuple[int, list[str]]]]:
    """Return the header of a `cases.csv` and its rows with their line numbers, all of the header's length."""
    try:
        with path.open(newline="", encoding="utf-8") as file:
            reader = csv.reader(file, strict=True)
            lines = [(reader.line_num, line) for line in reader if line]
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror or error})") from error
    except (csv.Error, UnicodeDecodeError) as error:
        raise DataError(f"{path}: no table in UTF-8 ({error}); {_REMEDY}") from error
    header = lines[0][1] if lines else []
    missing = [name for name in ("case", "region", *_VOXELS, "protocol") if name not in header]
    if missing:
        raise DataError(f"{path}: no column {', '.join(missing)} in line 1 ({','.join(header)[:80]}); {_REMEDY}")
    if len(set(header)) < len(header):
        raise DataError(f"{path}: a column comes twice in line 1 ({','.join(header)}); {_REMEDY}")
    if len(lines) < 2:
        raise DataError(f"{path}: no rows below the header; {_REMEDY}")
    for number, line in lines:
        if len(line) != len(header):
            raise DataError(f"{path}: line {number}: {len(line)} values, expected {len(header)}; {_REMEDY}")
    return header, iter(lines[1:])


def _read_rows(
    path: Path, header: list[str], lines: Iterator[tuple[int, list[str]]], names: list[str]
) -> tuple[dict[tuple[str, str], list[float]], str]:
    """Return (case, region) -> the values of the columns `names`, and the one protocol of all rows."""
    found: dict[tuple[str, str], list[float]] = {}
    protocols: set[str] = set()
    for number, line in lines:
        row = dict(zip(header, line, strict=True))
        place = row["case"], row["region"]
        if place in found:
            raise DataError(f"{path}: line {number}: case {place[0]}, region {place[1]} comes twice; {_REMEDY}")
        found[place] = [_number(row[name], name, number, path) for name in names]
        protocols.add(row["protocol"])
    if len(protocols) != 1:
        raise DataError(f"{path}: rows of several protocols ({', '.join(sorted(protocols))}), expected one; {_REMEDY}")
    return found, protocols.pop()


def _number(text: str, column: str, line: int, path: Path) -> float:
    try:
        value = float(text)
    except ValueError:
        value, is_bad = math.nan, True
    else:
        is_bad = column in _VOXELS and not value.is_integer()  # neither are nan and inf
    if is_bad:
        expected = "a whole number" if column in _VOXELS else "a number, inf or nan"
        raise DataError(f"{path}: line {line}, column {column}: {text!r}, expected {expected}; {_REMEDY}")
    return value


def _require_alike(evaluations: Sequence[SavedEvaluation], names: Sequence[str]) -> None:
    first = evaluations[0]
    for one, name in zip(evaluations, names, strict=True):
        if one.protocol != first.protocol:
            raise DataError(
                f"protocols differ: {names[0]} has {first.protocol}, {name} has {one.protocol}; "
                "numbers of two protocols are not comparable: evaluate all under one"
            )
        if one.editions != first.editions:
            raise DataError(
                f"editions differ: {names[0]} has {', '.join(first.editions)} (regions {', '.join(first.regions)}), "
                f"{name} has {', '.join(one.editions)} ({', '.join(one.regions)}); evaluate all with one --edition"
            )


def _require_same_cases(evaluations: Sequence[SavedEvaluation], names: Sequence[str]) -> None:
    every = sorted({case for one in evaluations for case in one.cases})
    lacking = {}
    for one, name in zip(evaluations, names, strict=True):
        own = set(one.cases)
        if gone := [case for case in every if case not in own]:
            lacking[name] = gone
    if lacking:
        texts = [f"{name} lacks {_some(gone)} ({len(gone)} of {len(every)})" for name, gone in lacking.items()]
        raise DataError(f"cases differ: {'; '.join(texts)}; evaluate the same ones (--cases) in all")


def _require_same_references(evaluations: Sequence[SavedEvaluation], names: Sequence[str]) -> None:
    first = evaluations[0]
    for one, name in zip(evaluations, names, strict=True):
        num = len(first.regions)
        own, others = (each.columns["reference_voxels"][:, :num] for each in (one, first))
        differing = np.argwhere(own != others)
        if len(differing):
            row, column = (int(place) for place in differing[0])
            sizes = [int(each[row, column]) for each in (others, own)]
            raise DataError(
                f"references differ: case {one.cases[row]}, region {one.regions[column]} has {sizes[0]} voxels in "
                f"{names[0]}, {sizes[1]} in {name}; evaluate all against the same references"
            )


def _places_of(one: SavedEvaluation, regions: Sequence[str]) -> list[int]:
    """Return where regions or labels stand in the columns of an evaluation."""
    every = (*one.regions, *one.labels)
    for region in regions:
        if region not in every:
            raise UsageError(f"region {region!r} is not in {one.folder}{did_you_mean(region, every)}")
        if list(regions).count(region) > 1:
            raise UsageError(f"region {region!r} is named twice; each counts once")
    return [every.index(region) for region in regions]


def _is_nothing_missed(one: SavedEvaluation) -> NDArray[np.bool_]:
    """Return where both masks are empty, (case, region); not in cases that had no prediction at all."""
    is_empty: NDArray[np.bool_] = (one.columns["reference_voxels"] == 0) & (one.columns["prediction_voxels"] == 0)
    is_empty[[case in one.without_prediction for case in one.cases]] = False
    return is_empty


def _some(names: Sequence[str], most: int = 10) -> str:
    return ", ".join(names[:most]) + (f", and {len(names) - most} more" if len(names) > most else "")
