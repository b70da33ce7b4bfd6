"""The sections of a report that hold charts: which charts, in which order, with what said below them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from brats_seg.evaluation.protocols import Protocol
from brats_seg.evaluation.saved import SavedEvaluation, names_of_folders
from brats_seg.reporting.html.charts import draw_agreement, draw_by_volume, draw_distribution, letter_of
from brats_seg.reporting.html.curves import (
    draw_loss,
    draw_precision_recall,
    draw_reliability,
    draw_validation,
    draw_validation_of_run,
    validated_regions,
)
from brats_seg.reporting.html.sources import Source
from brats_seg.reporting.html.summary_tables import is_distance, metric_title, metric_unit, number
from brats_seg.reporting.html.svg import NUM_COLORS

__all__ = ["chart_sections"]


def chart_sections(sources: Sequence[Source], names: Sequence[str]) -> list[dict[str, Any]]:
    """Return the sections that there is something to show for, in the order of the page."""
    evaluations, protocol = [source.scores for source in sources], sources[0].protocol
    legend = [{"letter": letter_of(n), "series": n % NUM_COLORS, "name": name} for n, name in enumerate(names)]
    legend = legend if len(names) > 1 else []
    sections = [_distributions(evaluations, protocol, legend), *_volumes(evaluations, legend)]
    if any(source.calibration for source in sources):
        sections.append(_calibration(sources, names, legend))
    if any(run.curves for source in sources for run in source.runs):
        sections.append(_training(sources))
    return sections


_Legend = Sequence[dict[str, Any]]


def _distributions(evaluations: Sequence[SavedEvaluation], protocol: Protocol, legend: _Legend) -> dict[str, Any]:
    figures = []
    for metric in dict.fromkeys((*protocol.main_metrics, "dice", "hd95_mm")):
        unit = metric_unit(metric, protocol)
        title = f"{metric_title(metric)}, {unit}" if unit else metric_title(metric)
        svg = draw_distribution(evaluations, metric, title, is_distance=is_distance(metric))
        figures.append({"title": title, "svg": svg})
    text = (
        "Every dot is a case; the shaded box reaches from the lower to the upper quartile, the line is the median. "
        "Distances are drawn linearly up to 10 and logarithmically beyond; a dashed line marks a penalty. Point at a "
        "dot for its case, click for its picture or row."
    )
    return _section("distributions", "Distributions", "Distributions", "two", figures, legend, text)


def _volumes(evaluations: Sequence[SavedEvaluation], legend: _Legend) -> list[dict[str, Any]]:
    columns = range(len(evaluations[0].regions))
    by_volume = [{"title": "", "svg": draw_by_volume(evaluations, column)} for column in columns]
    agreement = [{"title": "", "svg": draw_agreement(evaluations, column)} for column in columns]
    text = (
        "Small regions have low Dice for few wrong voxels. Dice of the whole region; the axis of volume is "
        "logarithmic; cases whose reference lacks the region are left out."
    )
    limits = "; dashed lines: bias ± 1.96 standard deviations" if len(evaluations) == 1 else ""
    agreed = (
        "Bland-Altman charts: predicted minus reference volume over their mean, all cases. "
        f"Line: mean difference (bias){limits}."
    )
    return [
        _section("by-volume", "Dice against tumour volume", "By volume", "three", by_volume, legend, text),
        _section("agreement", "Agreement of volumes", "Volumes", "three", agreement, legend, agreed),
    ]


def _calibration(sources: Sequence[Source], names: Sequence[str], legend: _Legend) -> dict[str, Any]:
    curves = [source.calibration for source in sources]
    regions = sources[0].scores.regions
    figures = [
        {"title": "", "svg": draw(curves, region, column)}
        for draw in (draw_reliability, draw_precision_recall)
        for column, region in enumerate(regions)
    ]
    rows = []
    for model, own in enumerate(curves):
        for region, of in own.numbers.items() if own else ():
            name = f"{letter_of(model)}, {region}" if len(names) > 1 else region
            rows.append([name, *(number(of[key], 3) for key in ("ece", "brier", "average_precision"))])
    rules = next(own.rules for own in curves if own)
    text = (
        "Upper row: share of voxels that belong to the region, by predicted probability; the diagonal is perfect. "
        f"{rules[:1].upper()}{rules[1:]}."
    )
    table = {"heads": ["region", "ECE", "Brier score", "average precision"], "rows": rows}
    return _section("calibration", "Calibration", "Calibration", "three", figures, legend, text, table)


def _training(sources: Sequence[Source]) -> dict[str, Any]:
    runs = list({run.folder.resolve(): run for source in sources for run in source.runs if run.curves}.values())
    names = names_of_folders([run.folder for run in runs])
    figures = [{"title": "", "svg": draw_loss(runs)}]
    regions = validated_regions(runs)
    if len(runs) == 1:
        figures += [{"title": "", "svg": draw_validation_of_run(runs[0], regions)}] * bool(regions)
    else:
        figures += [{"title": "", "svg": draw_validation(runs, region)} for region in regions]
    legend = [{"letter": str(n + 1), "series": n % NUM_COLORS, "name": name} for n, name in enumerate(names)]
    text = "As logged by the runs: training loss, and the mean Dice of the held-out cases at each validation."
    return _section("training", "Training", "Training", "three", figures, legend if len(runs) > 1 else [], text)


def _section(
    key: str,
    title: str,
    short: str,
    css: str,
    figures: Sequence[dict[str, Any]],
    legend: _Legend,
    text: str,
    table: dict[str, Any] | None = None,
) -> dict[str, Any]:
    return {
        "key": key,
        "title": title,
        "short": short,
        "css": css,
        "figures": figures,
        "legend": legend,
        "text": text,
        "table": table,
    }
