"""Several evaluations compared: read, ranked, tested in pairs, written.

comparison = compare_evaluations([Path("evaluation_a"), Path("evaluation_b")])
comparison.ranking.mean_ranks
write_comparison(Path("comparison"), comparison)
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from brats_seg.errors import OutputError
from brats_seg.evaluation.paired import PairedTest, RankTest, compare_pairs, compare_ranks, order_of_models
from brats_seg.evaluation.ranking import NUM_RESAMPLES, Ranking, Scores, rank_models
from brats_seg.evaluation.saved import SavedEvaluation, join_evaluations, read_evaluation
from brats_seg.files import make_output_folder, provenance, require_outside, write_csv, write_json

__all__ = ["RULES", "Comparison", "check_output", "compare_evaluations", "write_comparison"]

RULES = {
    "ranking": "each model ranked per case, region and metric, ties share the lowest rank; mean of all ranks, ranked",
    "undefined": "worst of its case, equal to an infinite distance; best where both masks are empty",
    "p_value": "Wilcoxon signed-rank, two-sided, zeros left out; exact up to 50 that are not 0, else normal",
    "p_holm": "Holm's correction over all pairs, regions and metrics (permutation test: over all pairs)",
    "permutation": "ranks of a pair swapped per case, exact, two-sided",
    "mean_difference": "first - second over the cases where both are finite; interval by bootstrap over the cases",
}
"""How the numbers are made, in words, as `compare.json` holds them."""

_SEED = 0


@dataclass(frozen=True, eq=False)
class Comparison:
    """What `compare_evaluations` found."""

    evaluations: tuple[SavedEvaluation, ...]
    scores: Scores
    ranking: Ranking
    tests: list[PairedTest]
    """Per pair, region and metric."""
    rank_tests: list[RankTest]
    """Per pair, over all ranks."""

    @property
    def order(self) -> list[int]:
        """Indices of the models, the best first."""
        return order_of_models(self.scores, self.ranking)


def compare_evaluations(
    folders: Sequence[Path],
    *,
    metrics: Sequence[str] | None = None,
    regions: Sequence[str] | None = None,
    edition: str | None = None,
) -> Comparison:
    """Return the comparison of evaluation folders; the same for any order of them.

    Args:
        folders: two or more, written by `evaluate`.
        metrics: columns of `cases.csv` to rank by; None = those of the protocol's challenge.
        regions: regions or single labels to rank by; None = the edition's regions.
        edition: of all of them, over what their summaries tell.

    Raises:
        DataError: a folder cannot be read, or they cannot be compared.
        UsageError: fewer than two folders, one twice, or a metric or region that is not there.
    """
    evaluations = tuple(read_evaluation(folder, edition) for folder in folders)
    scores = join_evaluations(evaluations, metrics, regions)
    ranking = rank_models(scores, seed=_SEED)
    return Comparison(
        evaluations,
        scores,
        ranking,
        compare_pairs(scores, ranking, seed=_SEED),
        compare_ranks(scores, ranking),
    )


def check_output(out: Path, folders: Iterable[Path], *, overwrite: bool) -> None:
    """Refuse a folder that must not be written to, before any work.

    Raises:
        OutputError: it is an evaluation or lies in one, or has a comparison already.
    """
    for folder in folders:
        require_outside(out, folder)
    if (out / "compare.json").exists() and not overwrite:
        raise OutputError(f"{out}: has a comparison already; choose another --out, or replace it with --overwrite")


def write_comparison(out: Path, comparison: Comparison) -> tuple[Path, ...]:
    """Write `ranking.csv`, `pairwise.csv`, `case_ranks.csv` and, last, `compare.json`; return their paths."""
    make_output_folder(out)
    ranking, pairwise, cases, record = (
        out / name for name in ("ranking.csv", "pairwise.csv", "case_ranks.csv", "compare.json")
    )
    record.unlink(missing_ok=True)
    models = _model_records(comparison)
    write_csv(ranking, [list(models[0]), *(list(model.values()) for model in models)])
    pairs = _pair_records(comparison)
    write_csv(pairwise, [list(pairs[0]), *(list(pair.values()) for pair in pairs)])
    write_csv(cases, [["case", "region", "metric", "model", "value", "rank"], *_case_lines(comparison)])
    write_json(record, _as_json(comparison, models))
    return ranking, pairwise, cases, record


def _model_records(comparison: Comparison) -> list[dict[str, Any]]:
    """Return a record a model, the best first: its ranks, then its mean rank per region and metric."""
    scores, ranking = comparison.scores, comparison.ranking
    records = []
    for model in comparison.order:
        by_measure = ranking.mean_ranks_by_measure[model]
        records.append(
            {
                "model": scores.models[model],
                "mean_rank": float(ranking.mean_ranks[model]),
                "rank": int(ranking.ranks[model]),
                "ci95_low": float(ranking.ci95_low[model]),
                "ci95_high": float(ranking.ci95_high[model]),
                "share_first": float(ranking.share_first[model]),
                **{
                    f"mean_rank_{region}_{metric.name}": float(by_measure[row, column])
                    for row, region in enumerate(scores.regions)
                    for column, metric in enumerate(scores.metrics)
                },
            }
        )
    return records


def _pair_records(comparison: Comparison) -> list[dict[str, Any]]:
    """Return all tests in one form; those of mean ranks have region `all`, metric `mean_rank`."""
    tests = [asdict(test) for test in comparison.tests]
    for test in comparison.rank_tests:
        whole = dict.fromkeys(tests[0], "") | {"region": "all", "metric": "mean_rank", "method": "permutation"}
        tests.append(whole | asdict(test) | {"num_defined": test.num_cases})
    return tests


def _case_lines(comparison: Comparison) -> Iterable[list[Any]]:
    scores = comparison.scores
    values, ranks = scores.values.tolist(), comparison.ranking.case_ranks.tolist()
    return (
        [case, region, metric.name, scores.models[model], values[model][i][j][k], ranks[model][i][j][k]]
        for i, case in enumerate(scores.cases)
        for j, region in enumerate(scores.regions)
        for k, metric in enumerate(scores.metrics)
        for model in comparison.order
    )


def _as_json(comparison: Comparison, models: list[dict[str, Any]]) -> dict[str, Any]:
    scores, first = comparison.scores, comparison.evaluations[0]
    folders = {name: one.folder for name, one in zip(scores.models, comparison.evaluations, strict=True)}
    return {
        "protocol": first.protocol,
        "protocol_title": first.protocol_title,
        "editions": list(first.editions),
        "regions": list(scores.regions),
        "metrics": [asdict(metric) for metric in scores.metrics],
        "num_cases": len(scores.cases),
        "models": [model | {"folder": str(folders[model["model"]].resolve())} for model in models],
        "pairs": [asdict(test) for test in comparison.tests],
        "rank_pairs": [asdict(test) for test in comparison.rank_tests],
        "rules": RULES,
        "num_resamples": NUM_RESAMPLES,
        "seed": _SEED,
        "provenance": provenance(),
    }
