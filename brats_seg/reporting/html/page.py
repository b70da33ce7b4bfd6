"""The page of a report: its sections put together and rendered, with everything in one file.

In: sources, pictures, notes. Out: the text of an HTML page that asks nobody for anything: style, script, charts and
pictures are in it. All texts are escaped by Jinja; what is `Markup` was made by this package.
"""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import quote

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from brats_seg.evaluation.protocols import DIAGONAL, PENALTY, EmptyTable, Protocol
from brats_seg.files import provenance
from brats_seg.reporting.html.case_pictures import PICTURE_STYLE, CasePicture
from brats_seg.reporting.html.case_tables import card_of, case_table, empty_rows, tips
from brats_seg.reporting.html.chart_sections import chart_sections
from brats_seg.reporting.html.charts import letter_of
from brats_seg.reporting.html.sources import Source
from brats_seg.reporting.html.summary_tables import (
    comparison_tables,
    counts_table,
    metric_title,
    summary_tables,
    tiles,
)
from brats_seg.reporting.html.worst import WorstCase, find_empty_regions
from brats_seg.reporting.tables import counted

__all__ = ["PagePictures", "render_page", "rules_in_words"]

_TEMPLATES = Path(__file__).resolve().parent / "templates"


@dataclass(frozen=True)
class PagePictures:
    """The pictures of a report, and where they are."""

    by_case: Mapping[str, Sequence[CasePicture]] = field(default_factory=dict)
    """A picture an evaluation."""
    files: Mapping[str, Sequence[str]] = field(default_factory=dict)
    """Case -> place beside the page of each of its pictures; "" or not there = within the page."""
    notes: tuple[str, ...] = ()
    """Why there are none, or not all."""


def render_page(sources: Sequence[Source], names: Sequence[str], worst: Sequence[WorstCase], own: PagePictures) -> str:
    """Return the page.

    Args:
        sources: of the same cases, protocol and edition.
        names: of the sources.
        worst: cases that have a card, in their order.
        own: pictures of these, and of further cases in files.
    """
    first, evaluations = sources[0], [source.scores for source in sources]
    several = len(sources) > 1
    main_tables, more_tables = summary_tables(evaluations, first.protocol)
    empties, more_empty = empty_rows(evaluations, find_empty_regions(evaluations))
    charts = chart_sections(sources, names)
    linked = {case: file for case, files in own.files.items() for file in files[:1] if file}
    cards = [
        card_of(
            one, evaluations, names, first.protocol, own.by_case.get(one.case, ()), _files_of(one.case, own, several)
        )
        for one in worst
    ]
    links = {case: quote(file) for case, file in linked.items()} | {
        card["case"]: f"#worst-{card['index']}" for card in cards
    }
    context = {
        "title": f"Segmentation report: {', '.join(names)}",
        "heading": " and ".join(names) if len(names) < 3 else f"{len(names)} evaluations",
        "notices": _notices(sources, names),
        "facts": _facts(sources, names),
        "letters": several,
        "tiles": tiles(evaluations, first.protocol),
        "tables": main_tables,
        "more_tables": more_tables,
        "counts": counts_table(evaluations),
        "comparison": comparison_tables(evaluations) if several else None,
        "charts": charts,
        "empty_regions": empties,
        "more_empty": more_empty,
        "cards": cards,
        "worst_notes": own.notes,
        "has_pictures": any(card["pictures"] for card in cards),
        "overlap_name": metric_title(first.protocol.main_metrics[0]),
        "table": case_table(evaluations, first.protocol, links),
        "num_files": len(linked),
        "folder_name": str(Path(next(iter(linked.values()))).parent) if linked else "",
        "num_cases": counted(len(first.scores.cases), "case"),
        "tips": tips(evaluations, first.protocol.main_metrics[0]),
        "made": _made(sources, names),
        "sections": _sections(charts, several=several, has_empty=bool(empties)),
        "style": Markup(_part("report.css") + PICTURE_STYLE),
        "script": Markup(_part("report.js")),
    }
    environment = Environment(
        loader=FileSystemLoader(_TEMPLATES), autoescape=True, undefined=StrictUndefined, trim_blocks=True
    )
    return environment.get_template("report.html").render(context) + "\n"


def rules_in_words(protocol: Protocol) -> list[str]:
    """Return what a protocol gives where a mask is empty, a sentence a situation."""
    tables = {
        "Region in neither": protocol.both_empty,
        "only in the prediction": protocol.reference_empty,
        "only in the reference": protocol.prediction_empty,
        "no prediction at all": protocol.prediction_missing,
    }
    parts = [
        f"{words}: Dice {_charged(table, 'dice')}, HD95 {_charged(table, 'hd95_mm')}" for words, table in tables.items()
    ]
    return ["; ".join(parts) + "."]


def _charged(table: EmptyTable, metric: str) -> str:
    value = table.get(metric)
    if value is None:
        return "by its formula"
    if isinstance(value, str):
        return {DIAGONAL: "the grid's diagonal", PENALTY: "the penalty"}[value]
    return "undefined" if value != value else f"{value:g}"


def _part(name: str) -> str:
    return (_TEMPLATES / name).read_text(encoding="utf-8")


def _files_of(case: str, own: PagePictures, several: bool) -> Sequence[str]:
    num = len(own.by_case.get(case, ()))
    return own.files.get(case) or [""] * num


def _notices(sources: Sequence[Source], names: Sequence[str]) -> list[str]:
    lines = []
    for source, name in zip(sources, names, strict=True):
        before = f"{name}: " if len(sources) > 1 else ""
        lines += [f"{before}{text[0].upper()}{text[1:]}." for text in source.warnings if text]
        if gone := source.scores.without_prediction:
            some = ", ".join(gone[:10]) + (f" and {len(gone) - 10} more" if len(gone) > 10 else "")
            lines.append(f"{before}No prediction, scored as failures: {some}.")
    return lines


def _facts(sources: Sequence[Source], names: Sequence[str]) -> list[tuple[str, list[str]]]:
    """Return the header's terms and texts: model, data, protocol, rules."""
    first = sources[0]
    several = len(sources) > 1
    models = []
    for model, (source, name) in enumerate(zip(sources, names, strict=True)):
        models.append(f"{letter_of(model)}: {name}. " * several + _model_in_words(source))
    reference = first.record.get("reference")
    data = f"{counted(len(first.scores.cases), 'case')}, edition {', '.join(first.scores.editions)}"
    rules = [*first.rules, *rules_in_words(first.protocol)]
    return [
        ("Model", models),
        ("Data", [data, *([f"references in {reference}"] if reference else [])]),
        ("Protocol", [f"{first.protocol.name}: {first.scores.protocol_title}"]),
        ("Rules", rules),
    ]


def _model_in_words(source: Source) -> str:
    runs = []
    for run in source.runs:
        train = run.settings.get("train")
        own = train if isinstance(train, dict) else {}
        patch = own.get("patch")
        words = [run.network, f"{own['steps']} steps" if "steps" in own else ""]
        words.append(f"patch {' × '.join(map(str, patch))}" if isinstance(patch, list) else "")  # noqa: RUF001
        runs.append(f"{run.folder.name} ({', '.join(word for word in words if word) or 'no settings'})")
    named = source.models.get("models")
    others = [str(one) for one in named] if isinstance(named, list) else []
    if not runs and others:
        runs = [Path(one).name for one in others]
    prediction = source.record.get("prediction")
    return "; ".join(runs) or (f"not recorded; predictions in {prediction}" if prediction else "not recorded")


def _sections(charts: Sequence[Mapping[str, Any]], *, several: bool, has_empty: bool) -> list[tuple[str, str]]:
    found = [("summary", "Summary")]
    found += [("comparison", "Side by side")] * several
    found += [(part["key"], part["short"]) for part in charts]
    found += [("empty", "Missed and invented")] * has_empty
    return [*found, ("worst", "Worst cases"), ("cases", "All cases"), ("made", "How it was made")]


_Row = tuple[str, str, bool]
"""Term, text, whether it is code."""


def _made(sources: Sequence[Source], names: Sequence[str]) -> list[dict[str, Any]]:
    blocks = []
    for source, name in zip(sources, names, strict=True):
        rows: list[_Row] = [("folder", str(source.scores.folder.resolve()), True)]
        rows += _record_rows(source.record)
        rows += [(f"sha256 of {file}", value, True) for file, value in source.hashes.items()]
        rows += [("predicted by", _command_of(source.models), True)] if source.models.get("command") else []
        weights = source.models.get("weights_sha256") or []
        rows += [("sha256 of the weights", value, True) for value in weights]
        rows += [("not found", text, False) for text in source.notes]
        blocks.append({"title": f"Evaluation {name}", "rows": rows})
        for run in source.runs:
            own: list[_Row] = [("folder", str(run.folder.resolve()), True), *_record_rows(run.record)]
            own += [(f"sha256 of {file}", value, True) for file, value in run.hashes.items()]
            blocks.append({"title": f"Run {run.folder.name}", "rows": own})
    blocks.append({"title": "This report", "rows": _record_rows(provenance())})
    return blocks


def _record_rows(record: Mapping[str, Any]) -> list[_Row]:
    rows: list[_Row] = []
    if isinstance(record.get("command"), list):
        rows.append(("command", _command_of(record), True))
    if isinstance(versions := record.get("versions"), dict):
        rows.append(("versions", ", ".join(f"{name} {version}" for name, version in versions.items()), False))
    for name in ("python", "system", "processor", "device", "git"):
        if record.get(name):
            rows.append((name.capitalize() if name == "python" else name, str(record[name]), False))
    return rows


def _command_of(record: Mapping[str, Any]) -> str:
    command = record.get("command")
    return shlex.join(map(str, command)) if isinstance(command, list) else str(command or "")
