"""Whether a case looks like those that a model was trained on, by numbers that are measured on both.

The reference of a model is `reference.json` beside its weights: the space in which its training cases lie, and the
range, mean and sd over these cases of a few numbers a case. No number of a single case is kept, but for the ends of the
ranges, and no name, but for its digest. A case gets a warning for

- a brain volume, a share of the brain's box, a quantile or sd / mean of a modality, or a correlation of two modalities
  that lies more than half the training range outside of it; for each modality the worst number alone is named;
- modalities whose numbers fit the training cases better when they are exchanged;
- a modality that is 0 in more than a tenth of the brain, or two that are one image (correlation above .99);
- voxels more than one and a half times as large as the model's;
- an edition of another task than the training cases'.

Quantiles are those of the z-scored brain, since that is what a network sees.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import combinations, permutations
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from brats_seg.data.header import header_from_bytes
from brats_seg.editions import get_edition
from brats_seg.errors import CheckpointError, DataError
from brats_seg.files import read_json, write_json
from brats_seg.preprocessing.geometry import Space, orientation_of
from brats_seg.preprocessing.prepare import PreparedCase
from brats_seg.preprocessing.store import StoredCase

__all__ = ["REFERENCE", "Reference", "case_statistics", "make_reference", "read_reference", "write_reference"]

REFERENCE = "reference.json"
_FORMAT = 1

_MARGIN = 0.5
"""Shares of the training range by which a number may lie outside of it."""
_FEWEST_CASES = 10
"""Training cases from which their range says something."""
_MOST_CASES = 50
"""Training cases that are measured, evenly taken."""
_COVER = 0.9
"""Smallest share of the brain in which a modality is not 0."""
_SAME = 0.99
"""Correlation from which two modalities are one image under two names."""
_COARSER = 1.5
"""Voxel size / the model's from which detail that the model knows is lost."""
_FIT = 1.5
"""Largest mean squared z-score at which exchanged modalities count as fitting."""
_BETTER = 0.9
"""They must also fit better than the order given, by this factor."""

_QUANTILES = {"q05": 0.05, "q25": 0.25, "q50": 0.5, "q75": 0.75, "q95": 0.95}
_MOST_VOXELS = 300_000

_Item = TypeVar("_Item")


@dataclass(frozen=True)
class Range:
    """One number over the training cases."""

    min: float
    max: float
    mean: float
    sd: float

    def excess(self, value: float) -> float:
        """Return how far a value lies outside, in lengths of the range; 0 inside."""
        length = max(self.max - self.min, 1e-6)
        return max(self.min - value, value - self.max, 0.0) / length


@dataclass(frozen=True)
class Reference:
    """What is known of a model's training cases."""

    space: Space | None
    """Where they lie; None where they differ in orientation, or have none."""
    num_cases: int
    """Of how many the statistics are."""
    tasks: tuple[str, ...]
    """GLI, MEN ..."""
    statistics: Mapping[str, Range]
    """Name, as in `case_statistics` -> its range."""
    case_digests: frozenset[str] = frozenset()
    """Of the names of all training cases; the names themselves are not kept."""

    def has_trained_on(self, case: str) -> bool:
        """Return whether a case of this name was among the training cases."""
        return _digest(case) in self.case_digests

    def warnings(self, case: PreparedCase) -> list[str]:
        """Return in what the case does not look like the training cases, a line each."""
        task = get_edition(case.edition).task
        lines = [f"edition {case.edition} ({task}), but the model was trained on {', '.join(self.tasks)}"]
        lines = [] if task in self.tasks or not self.tasks else lines
        spacing = _spacing_of(case)
        lines += self._coarse(spacing)
        if self.num_cases < _FEWEST_CASES:
            return lines
        modalities = get_edition(case.edition).modalities
        own = case_statistics(case.image, case.mean, case.sd, modalities, self._voxel_ml(case, spacing))
        there = [modality for modality in modalities if modality not in case.missing]
        return [
            *lines,
            *self._brain(own),
            *self._cover(own, there),
            *self._odd(own, there),
            *self._exchanged(own, there),
        ]

    def _voxel_ml(self, case: PreparedCase, spacing: tuple[float, float, float] | None) -> float:
        """Return the volume of a voxel of the case in the model's space; arrays without a header have the model's."""
        own = spacing or (self.space.spacing_mm if self.space else None) or (1.0, 1.0, 1.0)
        ratio = 1.0 if case.placement is None else case.placement.voxels_per_model_voxel
        return float(np.prod(own)) * ratio / 1000

    def _coarse(self, spacing: tuple[float, float, float] | None) -> Iterator[str]:
        wanted = None if self.space is None else self.space.spacing_mm
        if spacing is None or wanted is None:
            return
        if max(spacing) > _COARSER * max(wanted):
            found, known = (" x ".join(f"{mm:.3g}" for mm in sizes[::-1]) for sizes in (spacing, wanted))
            yield f"voxels of {found} mm, the training cases' were {known} mm: fine detail is lost"

    def _brain(self, own: Mapping[str, float]) -> Iterator[str]:
        """Yield a warning for a brain that is too large, too small, or no brain alone."""
        volume, share = (self.statistics.get(name) for name in ("brain_ml", "box_share"))
        if (
            volume is None
            or share is None
            or max(volume.excess(own["brain_ml"]), share.excess(own["box_share"])) <= _MARGIN
        ):
            return
        is_more = own["brain_ml"] > volume.max or own["box_share"] > share.max
        why = "is the skull, or noise around the head, still there?" if is_more else "is part of the brain cut off?"
        yield (
            f"{own['brain_ml']:.0f} ml are not 0 (training cases {volume.min:.0f} to {volume.max:.0f}), "
            f"{own['box_share']:.0%} of their box (training cases {share.min:.0%} to {share.max:.0%}): {why}"
        )

    def _cover(self, own: Mapping[str, float], modalities: Sequence[str]) -> Iterator[str]:
        """Yield a warning for a modality that lacks a part of the brain, and for one that is there twice."""
        for modality in modalities:
            if own[f"{modality}.cover"] < _COVER:
                yield f"{modality} is 0 in {1 - own[f'{modality}.cover']:.0%} of the brain"
        for first, second in combinations(modalities, 2):
            if own[_pair(first, second)] > _SAME:
                yield f"{first} and {second} are the same image (correlation {own[_pair(first, second)]:.3f})"

    def _odd(self, own: Mapping[str, float], modalities: Sequence[str]) -> Iterator[str]:
        """Yield, for each modality and for all pairs, the number that lies furthest outside."""
        groups = [[f"{modality}.{name}" for name in (*_QUANTILES, "sd_of_mean")] for modality in modalities]
        groups.append([_pair(*pair) for pair in combinations(modalities, 2)])
        for names in groups:
            known = [name for name in names if name in own and name in self.statistics]
            worst = max(known, key=lambda name: self.statistics[name].excess(own[name]), default=None)
            if worst is not None and self.statistics[worst].excess(own[worst]) > _MARGIN:
                of = self.statistics[worst]
                yield f"{_in_words(worst)} is {own[worst]:.2f}, the training cases' was {of.min:.2f} to {of.max:.2f}"

    def _exchanged(self, own: Mapping[str, float], modalities: Sequence[str]) -> Iterator[str]:
        """Yield a warning if another order of the modalities fits the training cases better."""
        names = list(modalities)
        distances = {order: self._distance(own, dict(zip(names, order, strict=True))) for order in permutations(names)}
        given = distances[tuple(names)]
        best = min(distances, key=lambda order: distances[order])
        if distances[best] < min(_FIT, _BETTER * given):
            looks_like = dict(zip(best, names, strict=True))
            pairs = [f"{name} looks like {looks_like[name]}" for name in names if name != looks_like[name]]
            yield f"{', '.join(pairs)}: are the modalities exchanged?"

    def _distance(self, own: Mapping[str, float], source_of: Mapping[str, str]) -> float:
        """Return the mean squared z-score of the case's numbers if the images of modalities were those of others."""
        scores = []
        for modality, source in source_of.items():
            scores += [(f"{modality}.{name}", own[f"{source}.{name}"]) for name in (*_QUANTILES, "sd_of_mean")]
        for first, second in combinations(source_of, 2):
            scores.append((_pair(first, second), own[_pair(source_of[first], source_of[second])]))
        known = [(self.statistics[name], value) for name, value in scores if name in self.statistics]
        return float(np.mean([((value - of.mean) / max(of.sd, 1e-6)) ** 2 for of, value in known])) if known else 0.0


def case_statistics(
    image: NDArray[Any], mean: Sequence[float], sd: Sequence[float], modalities: Sequence[str], voxel_ml: float
) -> dict[str, float]:
    """Return the numbers by which cases are compared.

    Args:
        image: (modality, K, J, I), raw, cropped to the brain, background 0.
        mean: of each modality over its nonzero voxels.
        sd: as `mean`.
        modalities: their names.
        voxel_ml: volume of a voxel.

    Returns:
        `brain_ml`; `box_share`, the brain's share of the crop; for each modality that is not 0 everywhere `t1.cover`
        (share of the brain in which it is not 0), `t1.sd_of_mean` and quantiles of its z-scores (`t1.q05` ...); and
        `t1~t2`, the correlation of two modalities where both are not 0. Quantiles and correlations are those of evenly
        taken voxels, 300,000 at most.
    """
    num_brain = int(np.count_nonzero((image != 0).any(axis=0)))
    numbers = {"brain_ml": num_brain * voxel_ml, "box_share": num_brain / image[0].size}
    step = max(1, image[0].size // _MOST_VOXELS)
    values = image.reshape(len(image), -1)[:, ::step].astype(np.float64)
    there = [n for n, volume in enumerate(values) if volume.any()]
    for n in there:
        own = (values[n][values[n] != 0] - mean[n]) / sd[n]
        numbers[f"{modalities[n]}.cover"] = int(np.count_nonzero(image[n])) / max(num_brain, 1)
        numbers[f"{modalities[n]}.sd_of_mean"] = sd[n] / abs(mean[n]) if mean[n] else float("inf")
        quantiles = np.quantile(own, list(_QUANTILES.values())).tolist()
        numbers |= {f"{modalities[n]}.{name}": value for name, value in zip(_QUANTILES, quantiles, strict=True)}
    for first, second in combinations(there, 2):
        both = (values[first] != 0) & (values[second] != 0)
        numbers[_pair(modalities[first], modalities[second])] = _correlation(values[first][both], values[second][both])
    return {name: float(value) for name, value in numbers.items()}


def make_reference(cases: Sequence[StoredCase], modalities: Sequence[str]) -> Reference:
    """Return the reference of training cases; of more than 50 the space of all, and the numbers of 50.

    Args:
        cases: of a store.
        modalities: the store's.
    """
    measured: dict[str, list[float]] = {}
    some = _evenly(cases, _MOST_CASES)
    for case in some:
        spacing = _header_spacing(case.header_bytes) or (1.0, 1.0, 1.0)
        numbers = case_statistics(case.image(), case.mean, case.sd, modalities, float(np.prod(spacing)) / 1000)
        for name, value in numbers.items():
            measured.setdefault(name, []).append(value)
    ranges = {
        name: Range(float(np.min(of)), float(np.max(of)), float(np.mean(of)), float(np.std(of)))
        for name, of in measured.items()
        if np.isfinite(of).all()
    }
    tasks = tuple(sorted({get_edition(case.edition).task for case in cases}))
    return Reference(_common_space(cases), len(some), tasks, ranges, frozenset(_digest(case.name) for case in cases))


def write_reference(folder: Path, reference: Reference) -> None:
    """Write `reference.json` into a model's folder."""
    space = reference.space
    record = {
        "format": _FORMAT,
        "orientation": None if space is None else space.orientation,
        "spacing_mm": None if space is None or space.spacing_mm is None else list(space.spacing_mm),
        "num_cases": reference.num_cases,
        "tasks": list(reference.tasks),
        "statistics": {name: asdict(of) for name, of in reference.statistics.items()},
        "case_digests": sorted(reference.case_digests),
    }
    write_json(folder / REFERENCE, record)


def read_reference(folder: Path) -> Reference | None:
    """Return the reference of a model's folder; None where it has none.

    Raises:
        CheckpointError: it cannot be read.
    """
    path = folder / REFERENCE
    if not path.is_file():
        return None
    try:
        record = read_json(path)
        if record["format"] != _FORMAT:
            raise ValueError(f"format {record['format']}, expected {_FORMAT}")
        spacing = record["spacing_mm"]
        k, j, i = (1.0, 1.0, 1.0) if spacing is None else map(float, spacing)
        space = Space(record["orientation"], None if spacing is None else (k, j, i))
        return Reference(
            space=None if record["orientation"] is None else space,
            num_cases=int(record["num_cases"]),
            tasks=tuple(record["tasks"]),
            statistics={name: Range(**of) for name, of in record["statistics"].items()},
            case_digests=frozenset(map(str, record["case_digests"])),
        )
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise CheckpointError(
            f"{path}: cannot be read ({error}); restore it, or remove it to predict cases as they lie, without warnings"
        ) from error


def _digest(case: str) -> str:
    return hashlib.sha256(case.lower().encode()).hexdigest()[:16]


def _common_space(cases: Sequence[StoredCase]) -> Space | None:
    """Return the space in which all cases lie: None if orientations differ, without spacing if that differs by 1 %."""
    try:
        headers = [header_from_bytes(case.header_bytes) for case in cases]
    except DataError:
        return None
    orientations = {orientation_of(header.affine) for header in headers}
    if len(orientations) != 1:
        return None
    spacings = np.array([header.spacing_mm for header in headers])
    k, j, i = np.median(spacings, axis=0).round(4).tolist()  # headers hold single precision
    is_one = bool((np.abs(spacings / (k, j, i) - 1) < 0.01).all())
    return Space(orientations.pop(), (k, j, i) if is_one else None)


def _header_spacing(header_bytes: bytes) -> tuple[float, float, float] | None:
    return header_from_bytes(header_bytes).spacing_mm if header_bytes else None


def _spacing_of(case: PreparedCase) -> tuple[float, float, float] | None:
    return _header_spacing(case.header_bytes)


def _evenly(items: Sequence[_Item], limit: int) -> list[_Item]:
    num = min(len(items), limit)
    return [items[n * len(items) // num] for n in range(num)]


def _pair(first: str, second: str) -> str:
    return "~".join(sorted((first, second)))


def _correlation(first: NDArray[np.float64], second: NDArray[np.float64]) -> float:
    if len(first) < 2 or first.std() == 0 or second.std() == 0:
        return 0.0
    return float(np.corrcoef(first, second)[0, 1])


def _in_words(name: str) -> str:
    if "~" in name:
        return f"the correlation of {name.replace('~', ' and ')}"
    modality, _, what = name.partition(".")
    if what == "sd_of_mean":
        return f"{modality}: sd / mean of the brain"
    return f"{modality}: the {int(what[1:])}th percentile of the z-scored brain"
