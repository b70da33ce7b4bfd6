"""Options that several verbs share, and the one way a function becomes a command."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import typer

from brats_seg.errors import UsageError

__all__ = [
    "CasesOption",
    "DeviceOption",
    "EditionOption",
    "JobsOption",
    "ModalitiesOption",
    "OverwriteOption",
    "QuietOption",
    "command_from",
    "is_silent",
    "select_cases",
]

EditionOption = Annotated[
    str | None, typer.Option("--edition", metavar="NAME", help="Edition of the data, over what names and labels tell.")
]
ModalitiesOption = Annotated[
    str | None,
    typer.Option(
        "--modalities",
        metavar="M,M",
        help="Modalities of nnU-Net's <case>_0000.nii.gz, <case>_0001.nii.gz ..., such as t1,t1c,t2,flair.",
    ),
]
DeviceOption = Annotated[str, typer.Option("--device", metavar="auto|cpu|cuda[:N]", help="Where to compute.")]
JobsOption = Annotated[int, typer.Option("--jobs", min=1, help="Processes that work at the same time.")]
QuietOption = Annotated[bool, typer.Option("--quiet", help="No progress bar, no tables; errors only.")]
OverwriteOption = Annotated[bool, typer.Option("--overwrite", help="Replace what is already there.")]
CasesOption = Annotated[
    str | None,
    typer.Option("--cases", metavar="ID,ID|FILE", help="Only these cases: names, or a file with one a line."),
]


def default_jobs() -> int:
    """Return the number of cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def command_from(*functions: Callable[..., Any], help: str | None = None) -> Any:
    """Return the command of a function with typer's annotations; several functions become sub-commands of their names.

    A function's docstring is its help text; a line of `\\b` before a paragraph keeps that paragraph's line breaks.
    """
    app = typer.Typer(add_completion=False, rich_markup_mode=None, pretty_exceptions_enable=False)
    settings = {"help_option_names": ["-h", "--help"], "max_content_width": 100}
    if help is not None:  # a group, even with one sub-command so far
        app.callback(help=help)(lambda: None)
    for function in functions:
        app.command(context_settings=settings)(function)
    return typer.main.get_command(app)


def is_silent(quiet: bool) -> bool:
    """Return whether progress bars stay away: `--quiet`, or standard error is no terminal."""
    return quiet or not sys.stderr.isatty()


def select_cases(known: list[str], wanted: str | None) -> list[str]:
    """Return the known case names that `--cases` selects, in the order of `known`; all of them without it.

    Raises:
        UsageError: names every case that is not there, or no case is named.
    """
    if wanted is None:
        return known
    is_file = os.path.isfile(wanted)  # a long list of names is no path; Path.is_file raises there
    text = Path(wanted).read_text(encoding="utf-8") if is_file else wanted.replace(",", "\n")
    names = {line.strip() for line in text.splitlines() if line.strip()}
    if not names:
        raise UsageError(f"--cases {wanted!r}: names no case; expected ID,ID,... or a file with one a line")
    missing = sorted(names - set(known))
    if missing:
        raise UsageError(f"--cases: not found: {', '.join(missing)} ({len(known)} cases are there, first {known[:3]})")
    return [name for name in known if name in names]
