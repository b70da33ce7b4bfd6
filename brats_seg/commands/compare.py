"""`brats-seg compare`: evaluated models ranked as the challenge does, and tested in pairs."""

from __future__ import annotations

import textwrap
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from brats_seg.commands.options import EditionOption, OverwriteOption, QuietOption, command_from
from brats_seg.errors import UsageError
from brats_seg.reporting.tables import counted, format_table, table_width

if TYPE_CHECKING:
    from brats_seg.evaluation.comparison import Comparison
    from brats_seg.evaluation.paired import PairedTest, RankTest

__all__ = ["command", "compare", "format_comparison"]


def compare(
    folders: Annotated[
        list[Path], typer.Argument(metavar="DIR DIR [DIR ...]", help="Folders written by brats-seg evaluate.")
    ],
    out: Annotated[
        Path | None, typer.Option("--out", metavar="DIR", help="Folder for ranking.csv, pairwise.csv and more.")
    ] = None,
    metrics: Annotated[
        str | None,
        typer.Option("--metrics", metavar="NAME,NAME", help="Columns of cases.csv to rank by, not the challenge's."),
    ] = None,
    regions: Annotated[
        str | None,
        typer.Option("--regions", metavar="NAME,NAME", help="Regions or single labels, not the edition's regions."),
    ] = None,
    edition: EditionOption = None,
    overwrite: OverwriteOption = False,
    quiet: QuietOption = False,
) -> None:
    """Rank evaluated models as the challenge does, with paired tests.

    Each model is ranked in every case, region and metric (ties share the lowest rank); the mean of its ranks decides.
    Metrics: Dice and HD95 (brats2020, plain), lesion-wise Dice and HD95 (brats2023, brats2024), instance Dice
    (instance), or those named by --metrics. An undefined value (nan) is the worst of its case; the best where both
    masks are empty, for there was nothing to find. Regions are the edition's (ET, TC, WT), or those named by --regions.

    Each pair of models is tested per region and metric (Wilcoxon signed-rank, Holm's correction over all tests), and
    over all ranks (permutation). Evaluations under different protocols, of different cases, editions or references
    are refused.

    \b
    Examples:
      brats-seg compare evaluation_unet evaluation_swin
      brats-seg compare evaluation_* --metrics dice,nsd_1mm --out comparison
      brats-seg compare runs/a/validation runs/b/validation --edition brats2020
    """
    from brats_seg.evaluation.comparison import (  # noqa: PLC0415 (keeps --help fast)
        check_output,
        compare_evaluations,
        write_comparison,
    )

    columns, parts = _names(metrics, "--metrics", "dice,hd95_mm"), _names(regions, "--regions", "ET,NCR")
    if out is not None:
        check_output(out, folders, overwrite=overwrite)
    comparison = compare_evaluations(folders, metrics=columns, regions=parts, edition=edition)
    files = () if out is None else write_comparison(out, comparison)
    if quiet:
        return
    print(format_comparison(comparison) + "\n")
    if out is None:
        print("nothing written; --out DIR keeps these tables, every pair and every case's ranks")
    else:
        print(f"Wrote {', '.join(path.name for path in files)} to {out}")


command = command_from(compare)


def _names(text: str | None, option: str, example: str) -> list[str] | None:
    names = None if text is None else [name.strip() for name in text.split(",") if name.strip()]
    if names == []:
        raise UsageError(f"{option} {text!r} names none, expected names with commas, as in {example}")
    return names


def format_comparison(comparison: Comparison) -> str:
    """Return the report of a comparison as the terminal shows it: ranking, scores, and the best against each other."""
    first, scores = comparison.evaluations[0], comparison.scores
    best = scores.models[comparison.order[0]]
    metrics = ", ".join(metric.name for metric in scores.metrics)
    paragraphs = [
        f"Protocol {first.protocol}" + f": {first.protocol_title}" * bool(first.protocol_title),
        f"{len(scores.models)} models, {counted(len(scores.cases), 'case')}, edition {', '.join(first.editions)}, "
        f"regions {', '.join(scores.regions)}; ranked by {metrics}",
        *_remarks(comparison),
    ]
    parts = ["\n".join(_filled(paragraph) for paragraph in paragraphs), _ranking_table(comparison)]
    parts += [_scores_table(comparison, column) for column in range(len(scores.metrics))]
    parts += [_pair_table(test, comparison.tests) for test in comparison.rank_tests if test.first == best]
    return "\n\n".join([*parts, _legend(comparison, best)])


def _ranking_table(comparison: Comparison) -> str:
    ranking, models = comparison.ranking, comparison.scores.models
    rows = [
        [
            int(ranking.ranks[model]),
            models[model],
            float(ranking.mean_ranks[model]),
            f"{ranking.ci95_low[model]:.3f} to {ranking.ci95_high[model]:.3f}",
            f"{100 * ranking.share_first[model]:.1f} %",
        ]
        for model in comparison.order
    ]
    heading = f"Mean of {ranking.case_ranks[0].size} ranks a model; interval and share by bootstrap over the cases:"
    table = format_table(["rank", "model", "mean rank", "95 % interval", "first in"], rows)
    return f"{_filled(heading)}\n{table}"


def _scores_table(comparison: Comparison, column: int) -> str:
    """Return the mean rank and the mean value of one metric, a row a model."""
    import numpy as np  # noqa: PLC0415 (keeps --help fast)

    scores, metric = comparison.scores, comparison.scores.metrics[column]
    ranks = comparison.ranking.mean_ranks_by_measure[..., column]
    header, digits = ["model"], [0]
    for region in scores.regions:
        header += [f"{region} rank", f"{region} mean"]
        digits += [3, 3]
    rows = []
    for model in comparison.order:
        row: list[str | float] = [scores.models[model]]
        for place in range(len(scores.regions)):
            values = scores.values[model, :, place, column]
            defined = values[~np.isnan(values)]
            row += [float(ranks[model, place]), float(defined.mean()) if defined.size else float("nan")]
        rows.append(row)
    which = "higher" if metric.is_higher_better else "lower"
    heading = f"{metric.name} ({which} is better): mean rank, and mean over the cases where it is defined:"
    return f"{_filled(heading)}\n{format_table(header, rows, digits=digits)}"


def _pair_table(whole: RankTest, tests: list[PairedTest]) -> str:
    rows = [
        [
            test.region,
            test.metric,
            test.mean_difference,
            f"{test.ci95_low:.4f} to {test.ci95_high:.4f}",
            f"{test.wins} / {test.ties} / {test.losses}",
            _p_value(test.p_value),
            _p_value(test.p_holm),
        ]
        for test in tests
        if (test.first, test.second) == (whole.first, whole.second)
    ]
    overall = f"{whole.wins} / {whole.ties} / {whole.losses}"
    low = [*("all", "mean rank"), whole.mean_difference, "", overall, _p_value(whole.p_value), _p_value(whole.p_holm)]
    header = ["region", "metric", "difference", "95 % interval", "better/equal/worse", "p", "p (Holm)"]
    table = format_table(header, [*rows, low], digits=4)
    return f"{_filled(f'{whole.first} against {whole.second}:')}\n{table}"


def _legend(comparison: Comparison, best: str) -> str:
    methods = sorted({test.method for test in comparison.tests})
    num = len(comparison.rank_tests)
    lines = [
        "difference = first - second, mean over the cases where both are finite, interval by bootstrap; better / equal "
        "/ worse = cases of the first, undefined values ranked as above.",
        f"p: Wilcoxon signed-rank, two-sided, zeros left out ({' and '.join(methods)}); Holm over all "
        f"{len(comparison.tests)} tests of this comparison. mean rank: permutation test, exact, Holm over "
        f"{counted(num, 'pair')}.",
    ]
    if num >= len(comparison.scores.models):
        lines.append(f"Shown: {best} against each other model; all {num} pairs are in pairwise.csv (--out).")
    return "\n".join(_filled(line) for line in lines)


def _remarks(comparison: Comparison) -> list[str]:
    """Return a line each on missing predictions and on undefined values."""
    import numpy as np  # noqa: PLC0415 (keeps --help fast)

    scores, lines = comparison.scores, []
    for one, name in zip(comparison.evaluations, scores.models, strict=True):
        if one.without_prediction:
            lines.append(f"No prediction, scored as failures, in {name}: {', '.join(one.without_prediction)}")
    undefined = np.isnan(scores.values).sum(axis=1)  # (model, region, metric)
    texts = []
    for model in comparison.order:
        found = [
            f"{region} {metric.name} {int(undefined[model, row, column])}"
            for row, region in enumerate(scores.regions)
            for column, metric in enumerate(scores.metrics)
            if undefined[model, row, column]
        ]
        texts += [f"{scores.models[model]} {', '.join(found)}"] * bool(found)
    if texts:
        lines.append(f"Undefined (nan): {'; '.join(texts)}. They rank worst, or best where both masks are empty.")
    return lines


def _p_value(value: float) -> str:
    return "<0.0001" if value < 0.0001 else f"{value:.4f}"


def _filled(text: str) -> str:
    return textwrap.fill(text, table_width(), subsequent_indent="  ", break_on_hyphens=False, break_long_words=False)
