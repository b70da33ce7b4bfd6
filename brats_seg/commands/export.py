"""`brats-seg export`: predictions for other programs. One sub-command a program."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from tqdm import tqdm

from brats_seg.commands.label_maps import match_label_maps
from brats_seg.commands.options import (
    CasesOption,
    EditionOption,
    OverwriteOption,
    QuietOption,
    command_from,
    is_silent,
    select_cases,
)
from brats_seg.data.cases import Case, find_cases, stem_of
from brats_seg.editions import get_edition
from brats_seg.errors import DataError, OutputError, UsageError, all_findings
from brats_seg.files import make_output_folder, require_outside, write_text
from brats_seg.reporting.itksnap import View, label_file, open_case
from brats_seg.reporting.tables import counted

if TYPE_CHECKING:
    from brats_seg.reporting.workspace_files import FileBeside

__all__ = ["command", "itksnap"]


def itksnap(
    data: Annotated[Path, typer.Argument(metavar="CASE|DATA", help="Folder of one case, or a download.")],
    prediction: Annotated[
        Path, typer.Option("--prediction", metavar="P", help="Label map of the case, or a folder of <case>.nii.gz.")
    ],
    out: Annotated[Path, typer.Option("--out", metavar="DIR", help="Folder for the workspaces and the label file.")],
    reference: Annotated[
        Path | None,
        typer.Option("--reference", metavar="R", help="As --prediction; default: the case's own segmentation, if any."),
    ] = None,
    no_reference: Annotated[bool, typer.Option("--no-reference", help="Show the prediction alone.")] = False,
    copy: Annotated[
        bool, typer.Option("--copy", help="Copy images and label maps into DIR, to carry it to another machine.")
    ] = False,
    edition: EditionOption = None,
    cases: CasesOption = None,
    overwrite: OverwriteOption = False,
    quiet: QuietOption = False,
) -> None:
    """Write an ITK-SNAP workspace a case, DIR/<case>.itksnap, and the edition's label file.

    T1c is the main image, the other modalities are tiles beside it; prediction and reference are two segmentation
    layers with the edition's label names and colours. A workspace points to the files where they lie; with --copy it
    points to copies in DIR/<case>/, and opens wherever DIR is carried to. A label map whose grid differs from T1c's by
    rounding alone is written anew in DIR/<case>/, on exactly that grid, as ITK-SNAP demands. A folder of predictions
    may hold some of the cases only: the others are passed over.

    \b
    Examples:
      brats-seg export itksnap DATA/BraTS20_Training_001 --prediction predictions --out itksnap
      brats-seg export itksnap DATA --prediction predictions --out itksnap --copy
    """
    if reference and no_reference:
        raise UsageError("--reference and --no-reference: give one of them")
    require_outside(out, data)
    found, problems = _find(data, edition, cases)
    predictions = match_label_maps(found, prediction, "prediction", is_partial=cases is None)
    with_prediction = [case for case in found if case.name in predictions]
    references = _references(with_prediction, reference, is_wanted=not no_reference)
    views = _open_all(with_prediction, predictions, references, problems, is_silent(quiet))
    views, beside = _gather(views, out, is_copied=copy)
    files = _write(out, views, beside, overwrite=overwrite)
    if not quiet:
        _say_what_else(found, predictions, prediction)
        _say_what_was_aligned(beside)
        print(f"wrote {counted(len(files), 'file')} to {out}; open them with")
        _print_shell_lines(out, views)


def _find(data: Path, edition: str | None, wanted: str | None) -> tuple[list[Case], dict[str, list[str]]]:
    """Return the selected cases, and what discovery found wrong with each of them."""
    download = find_cases(data, edition=edition, strict=False)
    if any(get_edition(case.edition).is_two_dimensional for case in download.cases):
        raise UsageError(f"{data}: a 2D set; ITK-SNAP files are for volumes: predict with --save-masks, look at those")
    names = select_cases([case.name for case in download.cases], wanted)
    problems: dict[str, list[str]] = {}
    for problem in download.found_problems:
        problems.setdefault(problem.case, []).append(str(problem))
    return [case for case in download.cases if case.name in names], problems


def _references(cases: Sequence[Case], place: Path | None, *, is_wanted: bool) -> dict[str, Path]:
    if not is_wanted:
        return {}
    if place is not None:
        return match_label_maps(cases, place, "reference", is_partial=False)
    return {case.name: case.label for case in cases if case.label is not None}


def _open_all(
    cases: Sequence[Case],
    predictions: Mapping[str, Path],
    references: Mapping[str, Path],
    problems: Mapping[str, Sequence[str]],
    silent: bool,
) -> dict[str, View]:
    """Read and check every case before anything is written; one error names all that is wrong."""
    views: dict[str, View] = {}
    findings: list[str] = []
    for case in tqdm(cases, "export", unit="case", disable=silent):
        label_maps = {"prediction": predictions[case.name]}
        if case.name in references:
            label_maps["reference"] = references[case.name]
        view, its_findings = open_case(case, label_maps) if case.name not in problems else (None, problems[case.name])
        findings += its_findings
        if view:
            views[case.name] = view
    if findings:
        raise DataError(all_findings("nothing was written", findings))
    return views


def _label_path(out: Path, view: View) -> Path:
    return out / f"{view.edition.name}.label"


def _workspace_path(out: Path, case: str) -> Path:
    return out / f"{case}.itksnap"


def _gather(views: Mapping[str, View], out: Path, *, is_copied: bool) -> tuple[dict[str, View], list[FileBeside]]:
    """Return the views with the files that the workspaces are to name, and those of them that must be written."""
    from brats_seg.reporting.workspace_files import gather_files  # noqa: PLC0415 (keeps --help fast)

    placed: dict[str, View] = {}
    beside: list[FileBeside] = []
    findings: list[str] = []
    for case, view in views.items():
        try:
            placed[case], files = gather_files(view, out / case, is_copied=is_copied)
        except DataError as error:
            findings.append(f"case {case}: {error}")
            continue
        beside += files
    if findings:
        raise DataError(all_findings("nothing was written", findings))
    return placed, beside


def _write(out: Path, views: Mapping[str, View], beside: Sequence[FileBeside], *, overwrite: bool) -> list[Path]:
    """Write all files, or none where one is there already with other content; return them."""
    texts = {_label_path(out, view): label_file(view.edition) for view in views.values()}
    texts |= {_workspace_path(out, case): view.workspace(out) for case, view in views.items()}
    make_output_folder(out)
    wanted = [file for file in beside if not file.is_there()]
    changed = [path for path, text in texts.items() if path.exists() and path.read_text(encoding="utf-8") != text]
    changed += [file.target for file in wanted if file.target.exists()]
    if changed and not overwrite:
        remedy = "choose another --out, or replace it with --overwrite"
        raise OutputError(
            all_findings(str(out), [f"{path}: is there with other content; {remedy}" for path in changed])
        )
    for file in wanted:
        file.write()
    for path, text in texts.items():
        write_text(path, text)
    return [*texts, *(file.target for file in beside)]


def _say_what_else(cases: Sequence[Case], predictions: Mapping[str, Path], place: Path) -> None:
    without = [case.name for case in cases if case.name not in predictions]
    if without:
        print(f"{len(without)} of {len(cases)} cases have no prediction in {place} and are passed over")
    if place.is_dir():
        strangers = {stem_of(path.name) for path in place.iterdir() if path.is_file()} - {
            None,
            *(c.name for c in cases),
        }
        if strangers:
            names = ", ".join(sorted(map(str, strangers)))
            print(f"{len(strangers)} predictions in {place} belong to no selected case: {names}")


def _say_what_was_aligned(beside: Sequence[FileBeside]) -> None:
    names = [str(file.source) for file in beside if file.header_bytes is not None]
    if names:
        print(f"{len(names)} label maps lie off the image's grid by rounding and were written anew: {', '.join(names)}")


def _print_shell_lines(out: Path, views: Mapping[str, View]) -> None:
    for case in views:
        print(f"  itksnap -w {shlex.quote(str(_workspace_path(out, case)))}")
    if len(views) == 1:
        view = next(iter(views.values()))
        print(f"or, without the workspace,\n  {view.shell_line(_label_path(out, view))}")


command = command_from(itksnap, help="Hand predictions to other programs.")
