"""The challenge's ranking of models, and how sure it is.

    scores = Scores(("a", "b"), ("case1", "case2"), ("ET", "TC", "WT"), metrics_named(["dice", "hd95_mm"]), values)
    rank_models(scores).ranks          # 1 = best

Each model is ranked in each case, region and metric (ties share the lowest rank), all ranks of a model are averaged,
and the averages are ranked. Source: Bakas et al. 2018 (arXiv 1811.02629), the BraTS challenges since 2017, FeTS 2022.

An undefined value (nan) is the worst of its case, and ties with infinite distances and with other undefined ones: what
FeTS does with its Dice 0 and HD95 1000. There is one exception, ours: where both masks are empty there was nothing to
find and nothing was found, so that undefined value is the best. Otherwise a model that rightly predicts nothing would
rank behind one that invents a lesion (protocol plain: Dice nan against Dice 0).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from brats_seg.errors import DataError, UsageError, did_you_mean
from brats_seg.evaluation.protocols import PROTOCOLS

__all__ = [
    "Metric",
    "Ranking",
    "Scores",
    "default_metrics",
    "is_metric",
    "metrics_named",
    "rank_models",
    "resampled_counts",
]

NUM_RESAMPLES = 10_000
"""Bootstrap samples of the cases behind every interval and share."""

_RESAMPLES_AT_ONCE = 500
"""Bootstrap samples held in memory together."""

_IS_HIGHER_BETTER = {
    "dice": True,
    "iou": True,
    "sensitivity": True,
    "specificity": True,
    "precision": True,
    "recall": True,
    "f1": True,
    "accuracy": True,
    "pixel_accuracy": True,
    "nsd": True,
    "num_tp": True,
    "num_fp": False,
    "num_fn": False,
    "hd95_mm": False,
    "assd_mm": False,
}
"""Metrics without the prefix of lesion-wise and instance scores, and without the tolerance of an NSD."""


@dataclass(frozen=True)
class Metric:
    """A column of `cases.csv` by which models can be ranked."""

    name: str
    is_higher_better: bool


@dataclass(frozen=True, eq=False)
class Scores:
    """The scores of several models on the same cases.

    Raises:
        DataError: an axis is empty or does not fit the names; `is_nothing_missed` has another shape.
    """

    models: tuple[str, ...]
    cases: tuple[str, ...]
    regions: tuple[str, ...]
    metrics: tuple[Metric, ...]
    values: NDArray[np.float64]
    """(model, case, region, metric); nan = undefined, inf = an infinite distance."""
    is_nothing_missed: NDArray[np.bool_] | None = None
    """(model, case, region): both masks are empty, so an undefined value is the best; None = nowhere."""

    def __post_init__(self) -> None:
        """Check that names and values fit."""
        expected = tuple(len(names) for names in (self.models, self.cases, self.regions, self.metrics))
        if self.values.shape != expected or 0 in expected:
            raise DataError(
                f"scores of shape {self.values.shape}, expected {expected} (model, case, region, metric), none 0"
            )
        if self.is_nothing_missed is not None and self.is_nothing_missed.shape != expected[:3]:
            raise DataError(f"is_nothing_missed of shape {self.is_nothing_missed.shape}, expected {expected[:3]}")

    @cached_property
    def ordered(self) -> NDArray[np.float64]:
        """(model, case, region, metric): larger is better, nothing is nan; see the module on undefined values."""
        is_higher_better = np.array([metric.is_higher_better for metric in self.metrics])
        ordered = np.where(is_higher_better, self.values, -self.values)
        is_undefined = np.isnan(ordered)
        ordered[is_undefined] = -np.inf
        if self.is_nothing_missed is not None:
            ordered[is_undefined & self.is_nothing_missed[..., None]] = np.inf
        return ordered


@dataclass(frozen=True, eq=False)
class Ranking:
    """Ranks of the models of `Scores`, in the order of its models; 1 is the best."""

    case_ranks: NDArray[np.int64]
    """(model, case, region, metric): rank among the models; ties share the lowest."""
    mean_ranks: NDArray[np.float64]
    """(model,): mean of all ranks of a model; ranked, it decides."""
    ranks: NDArray[np.int64]
    """(model,): ranks of `mean_ranks`; ties share the lowest."""
    ci95_low: NDArray[np.float64]
    """(model,): 2.5th percentile of the mean rank over bootstrap samples of the cases."""
    ci95_high: NDArray[np.float64]
    """(model,): 97.5th percentile."""
    share_first: NDArray[np.float64]
    """(model,): share of the bootstrap samples in which a model is first; models that tie share the sample, sum 1."""

    @property
    def mean_ranks_by_measure(self) -> NDArray[np.float64]:
        """(model, region, metric): mean rank over the cases."""
        means: NDArray[np.float64] = self.case_ranks.mean(axis=1)
        return means

    @property
    def case_sums(self) -> NDArray[np.int64]:
        """(model, case): sum of a case's ranks over regions and metrics, the challenge's cumulative rank."""
        sums: NDArray[np.int64] = self.case_ranks.sum(axis=(2, 3))
        return sums


def is_metric(name: str) -> bool:
    """Return whether a column of `cases.csv` is a metric that ranks models: volumes and voxel counts are not."""
    return _stem(name) in _IS_HIGHER_BETTER


def metrics_named(names: Iterable[str], known: Iterable[str] = ()) -> tuple[Metric, ...]:
    """Return metrics by the names of their columns in `cases.csv`.

    Args:
        names: the columns.
        known: the metrics that there are, for the message; default: all names without prefix or tolerance.

    Raises:
        UsageError: a name is no metric that says which of two values is better, is not among `known`, or comes twice.
    """
    chosen = list(names)
    there = [name for name in known if is_metric(name)]
    for name in chosen:
        if not is_metric(name) or (there and name not in there):
            raise UsageError(f"metric {name!r} is not there{did_you_mean(name, there or _IS_HIGHER_BETTER)}")
        if chosen.count(name) > 1:
            raise UsageError(f"metric {name!r} is named twice; each counts once")
    return tuple(Metric(name, _IS_HIGHER_BETTER[_stem(name)]) for name in chosen)


def default_metrics(protocol: str) -> tuple[str, ...]:
    """Return the names of the metrics that the challenge of a protocol ranked by.

    Raises:
        UsageError: there are none for this protocol.
    """
    if protocol not in PROTOCOLS:
        raise UsageError(f"protocol {protocol!r} has no metrics to rank by; name them with --metrics")
    return PROTOCOLS[protocol].ranked_by


def rank_models(scores: Scores, *, num_resamples: int = NUM_RESAMPLES, seed: int = 0) -> Ranking:
    """Return the ranking of the models, with its bootstrap over the cases.

    Args:
        scores: values of at least one model; the result does not depend on the order of models, regions or metrics.
        num_resamples: bootstrap samples of the cases.
        seed: of the samples.
    """
    ordered = scores.ordered
    case_ranks = np.stack([1 + (ordered > own).sum(axis=0) for own in ordered])
    ranking_sums = case_ranks.sum(axis=(2, 3))
    totals = ranking_sums.sum(axis=1)
    num_ranks = case_ranks[0].size
    # Sums of whole numbers are exact, so models that tie do so in every sample, whatever the order of summation.
    samples = [counts @ ranking_sums.T for counts in resampled_counts(len(scores.cases), num_resamples, seed)]
    sums = np.concatenate(samples)
    is_first = sums == sums.min(axis=1, keepdims=True)
    low, high = np.percentile(sums / num_ranks, [2.5, 97.5], axis=0)
    return Ranking(
        case_ranks=case_ranks,
        mean_ranks=totals / num_ranks,
        ranks=np.array([1 + int((totals < own).sum()) for own in totals]),
        ci95_low=low,
        ci95_high=high,
        share_first=(is_first / is_first.sum(axis=1, keepdims=True)).mean(axis=0),
    )


def resampled_counts(num_cases: int, num_resamples: int, seed: int = 0) -> Iterator[NDArray[np.float64]]:
    """Yield bootstrap samples of the cases as (sample, case): how often each case is drawn, whole numbers.

    A sample draws `num_cases` cases with replacement. `counts @ values` is then the sum over each sample. The same
    seed gives the same samples in every call, so that all numbers of one comparison come from the same ones.
    """
    generator = np.random.default_rng(seed)
    for start in range(0, num_resamples, _RESAMPLES_AT_ONCE):
        size = min(_RESAMPLES_AT_ONCE, num_resamples - start)
        drawn = generator.integers(num_cases, size=(size, num_cases))
        drawn += np.arange(size)[:, None] * num_cases
        yield np.bincount(drawn.ravel(), minlength=size * num_cases).reshape(size, num_cases).astype(np.float64)


def _stem(name: str) -> str:
    """Return a metric without what says of what: `lesionwise_nsd_0_5mm` -> `nsd`."""
    for prefix in ("lesionwise_", "instance_"):
        name = name.removeprefix(prefix)
    return "nsd" if name.startswith("nsd_") else name
