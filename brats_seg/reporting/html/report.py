"""Evaluation folders to one HTML file, and pictures beside it: what is read, chosen, drawn and written.

The worst cases stand in the page, twelve pictures in all, as long as their bytes allow; pictures of further cases,
where they are asked for, are SVG files in a folder beside it. Without images there is a report without pictures, which
says so.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from brats_seg.errors import OutputError
from brats_seg.evaluation.saved import names_of_folders, require_comparable
from brats_seg.files import atomic_folder, make_output_folder, require_outside, write_text
from brats_seg.reporting.html.case_files import find_case_files
from brats_seg.reporting.html.case_pictures import CasePicture, draw_case, standalone
from brats_seg.reporting.html.case_slices import CaseFiles
from brats_seg.reporting.html.page import PagePictures, render_page
from brats_seg.reporting.html.sources import Source, read_source, select_of_source
from brats_seg.reporting.html.worst import WorstCase, find_worst_cases

__all__ = ["NUM_PICTURES", "WrittenReport", "write_report"]

NUM_PICTURES = 12
"""Pictures within a page, of all evaluations together."""

_MOST_BYTES = 1_300_000
"""Of pictures within a page; those beyond lie beside it."""


@dataclass(frozen=True)
class WrittenReport:
    """What `write_report` made."""

    path: Path
    num_cases: int
    num_pictures: int
    """In the page and beside it."""
    folder: Path | None
    """Of the pictures beside the page, if there are any."""
    notes: tuple[str, ...]
    """What a reader should know: pictures that are missing, and why."""


def write_report(
    folders: Sequence[Path],
    out: Path | None = None,
    *,
    data: Path | None = None,
    edition: str | None = None,
    runs: Sequence[Path] = (),
    select: Callable[[list[str]], list[str]] = list,
    num_cases: int | None = None,
    jobs: int = 1,
    overwrite: bool = False,
    is_silent: bool = True,
) -> WrittenReport:
    """Write the report of one evaluation, or of several side by side.

    Args:
        folders: written by `evaluate`, or runs (their `validation/`).
        out: the HTML file; None = `report.html` in the first folder.
        data: a download with the cases' images; None = what `run.json` names.
        edition: name of the edition of all cases, over what summaries, names and labels tell.
        runs: folders of the runs behind the evaluations, over what `run.json` names.
        select: picks the cases to be reported out of all names.
        num_cases: cases that have pictures, the worst first; None = as many as stand in the page; 0 = none.
        jobs: processes that draw pictures.
        overwrite: replace a report that is there already.
        is_silent: no progress bar.

    Raises:
        DataError: a folder has no `cases.csv`, or one of another version; or the evaluations cannot stand side by side.
        OutputError: the file is there already, or cannot be written.
        UsageError: no case is selected.
    """
    sources = [read_source(folder, edition, runs) for folder in folders]
    evaluations = [source.scores for source in sources]
    names = require_comparable(evaluations) if len(sources) > 1 else names_of_folders([evaluations[0].folder])
    names = _names(sources, names)
    wanted = select(list(evaluations[0].cases))
    sources = [select_of_source(source, wanted) for source in sources]
    target = out or sources[0].scores.folder / "report.html"
    beside = target.parent / f"{target.stem}_pictures"
    _check_target(target, beside, data, overwrite)
    worst, others = _choose(sources, num_cases)
    files, notes = (
        find_case_files(sources, [*worst, *others], data, edition)
        if num_cases != 0
        else ({}, ["pictures were not asked for"])
    )
    drawn = _draw(list(files.values()), jobs, is_silent)
    pictures, written = _place(drawn, [one.case for one in worst], beside, len(names))
    if written:
        _write_pictures(beside, written)
    missing = [f"case {case}: {own[0].notes[0]}" for case, own in drawn.items() if not own[0].svg and own[0].notes]
    page = render_page(sources, names, worst, PagePictures(drawn, pictures, tuple(notes)))
    write_text(target, page)
    num = sum(bool(picture.svg) for own in drawn.values() for picture in own)
    return WrittenReport(target, len(wanted), num, beside if written else None, (*notes, *missing))


def _names(sources: Sequence[Source], names: Sequence[str]) -> tuple[str, ...]:
    """Return the sources' own names where those tell them apart (a run for its `validation`), else the folders'."""
    own = tuple(source.name for source in sources)
    return own if len(set(own)) == len(own) else tuple(names)


def _check_target(target: Path, beside: Path, data: Path | None, overwrite: bool) -> None:
    if target.is_dir():
        raise OutputError(f"{target}: is a folder; name the report's file, as in --out {target / 'report.html'}")
    make_output_folder(target.parent)
    if data is not None:
        require_outside(target, data)
    for path in (target, beside):
        if path.exists() and not overwrite:
            raise OutputError(f"{path}: is there already; choose another --out, or replace it with --overwrite")


def _choose(sources: Sequence[Source], num_cases: int | None) -> tuple[list[WorstCase], list[WorstCase]]:
    """Return the cases that have a card in the page, and the further ones whose pictures lie beside it."""
    evaluations, metric = [source.scores for source in sources], sources[0].protocol.main_metrics[0]
    in_page = max(1, NUM_PICTURES // len(sources))
    most = max(in_page, num_cases or 0)
    ranked = find_worst_cases(evaluations, metric, most)
    missing = [case for case in evaluations[0].cases if case not in {one.case for one in ranked}]
    region = evaluations[0].regions[-1]
    rest = [WorstCase(case, region, 0.0, 0) for case in missing[: most - len(ranked)]] if num_cases else []
    return ranked[:in_page], [*ranked[in_page:], *rest]


def _draw(files: Sequence[CaseFiles], jobs: int, is_silent: bool) -> dict[str, list[CasePicture]]:
    from tqdm import tqdm  # noqa: PLC0415 (only work needs it)

    from brats_seg.data.workers import map_in_processes  # noqa: PLC0415

    with tqdm(total=len(files), desc="pictures", unit="case", disable=is_silent) as bar:
        drawn = map_in_processes(draw_case, files, jobs=jobs, progress=bar.update)
    return {one.case: own for one, own in zip(files, drawn, strict=True)}


def _place(
    drawn: dict[str, list[CasePicture]], in_page: Sequence[str], beside: Path, num_models: int
) -> tuple[dict[str, list[str]], dict[str, str]]:
    """Return case -> places beside the page ("" = in the page), and file name -> text of those to be written."""
    places: dict[str, list[str]] = {}
    texts: dict[str, str] = {}
    num_bytes = 0
    for number, (case, pictures) in enumerate(drawn.items()):
        size = sum(len(picture.svg) for picture in pictures)
        is_within = case in in_page and num_bytes + size <= _MOST_BYTES
        num_bytes += size if is_within else 0
        own = []
        for model, picture in enumerate(pictures):
            if is_within or not picture.svg:
                own.append("")
                continue
            slug = re.sub(r"[^A-Za-z0-9._-]+", "_", case)[:80]
            name = f"{number + 1:04d}_{slug}{f'_{model + 1}' * (num_models > 1)}.svg"
            texts[name] = standalone(picture, case)
            own.append(f"{beside.name}/{name}")
        places[case] = own
    return places, texts


def _write_pictures(folder: Path, texts: dict[str, str]) -> None:
    with atomic_folder(folder) as temporary:
        for name, text in texts.items():
            (temporary / name).write_text(text, encoding="utf-8")
