"""`brats-seg report`: evaluations as one HTML page that opens from disk."""

from __future__ import annotations

import sys
from functools import partial
from pathlib import Path
from typing import Annotated

import typer

from brats_seg.commands.options import (
    CasesOption,
    EditionOption,
    JobsOption,
    OverwriteOption,
    QuietOption,
    command_from,
    default_jobs,
    is_silent,
    select_cases,
)
from brats_seg.errors import UsageError
from brats_seg.reporting.tables import counted

__all__ = ["command", "report"]

_JOBS = default_jobs()


def report(
    folders: Annotated[
        list[Path], typer.Argument(metavar="DIR [DIR ...]", help="Evaluations, or runs (of whose validation).")
    ],
    out: Annotated[
        Path | None, typer.Option("--out", metavar="FILE", help="The page; default: report.html in the first DIR.")
    ] = None,
    data: Annotated[
        Path | None, typer.Option("--data", metavar="DATA", help="Download with the images, if not where evaluated.")
    ] = None,
    run: Annotated[
        list[Path] | None, typer.Option("--run", metavar="RUN", help="Run whose training is shown; may come again.")
    ] = None,
    pictures: Annotated[
        str | None,
        typer.Option("--pictures", metavar="N|all", help="Cases with pictures; 12 pictures stand in the page."),
    ] = None,
    cases: CasesOption = None,
    edition: EditionOption = None,
    jobs: JobsOption = _JOBS,
    overwrite: OverwriteOption = False,
    quiet: QuietOption = False,
) -> None:
    """Write a page about one evaluation, or several side by side: numbers, charts, and pictures of the worst cases.

    One HTML file without any request to elsewhere: light and dark, to be printed, sorted and filtered. Twelve pictures
    of the worst cases stand in it; with --pictures those of further cases are written to FILE_pictures beside it.
    Several evaluations must be of the same cases under one protocol. Without images there are no pictures, and the
    page says so.

    \b
    Examples:
      brats-seg report evaluation
      brats-seg report evaluation_a evaluation_b --data BraTS2020_TrainingData --out both.html
    """
    from brats_seg.reporting.html.report import write_report  # noqa: PLC0415

    written = write_report(
        folders,
        out,
        data=data,
        edition=edition,
        runs=run or (),
        select=partial(select_cases, wanted=cases),
        num_cases=_number_of(pictures),
        jobs=jobs,
        overwrite=overwrite,
        is_silent=is_silent(quiet),
    )
    for line in written.notes:
        print(f"warning: {line}", file=sys.stderr)
    if quiet:
        return
    size, cases = written.path.stat().st_size / 1000, counted(written.num_cases, "case")
    print(f"Wrote {written.path} ({size:.0f} kB): {cases}, {written.num_pictures} with a picture")
    if written.folder:
        print(f"Pictures beside it: {written.folder}")


command = command_from(report)


def _number_of(text: str | None) -> int | None:
    """Return the number of `--pictures`; `all` is more than any set has.

    Raises:
        UsageError: it is neither a number nor `all`.
    """
    if text is None:
        return None
    if text == "all":
        return sys.maxsize
    if not text.isdecimal():
        raise UsageError(f"--pictures {text}: expected a number of cases, such as 30, or all")
    return int(text)
