"""`brats-seg view`: cases with their label maps in the browser, or one case as a file."""

from __future__ import annotations

import os
import sys
import threading
import webbrowser
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

from brats_seg.commands.label_maps import match_label_maps
from brats_seg.commands.options import CasesOption, EditionOption, OverwriteOption, command_from, select_cases
from brats_seg.data.cases import Case, find_cases
from brats_seg.data.reading import read_header, same_geometry
from brats_seg.errors import DataError, OutputError, UsageError, all_findings
from brats_seg.files import require_outside
from brats_seg.reporting.viewer.serving import Server
from brats_seg.reporting.viewer.viewed import Viewed
from brats_seg.reporting.viewer.viewer import Viewer, save_page

__all__ = ["command", "view"]


def view(
    data: Annotated[Path, typer.Argument(metavar="CASE|DATA", help="Folder of one case, or a download.")],
    prediction: Annotated[
        Path | None,
        typer.Option(
            "--prediction",
            metavar="P",
            help="Label map of the case, a folder of <case>.nii.gz, or a run.",
        ),
    ] = None,
    reference: Annotated[
        Path | None,
        typer.Option("--reference", metavar="R", help="Label map, or a folder; default: the case's own segmentation."),
    ] = None,
    no_reference: Annotated[bool, typer.Option("--no-reference", help="Show the prediction alone.")] = False,
    edition: EditionOption = None,
    cases: CasesOption = None,
    save: Annotated[
        Path | None, typer.Option("--save", metavar="FILE.html", help="Write one case as a page that opens from disk.")
    ] = None,
    overwrite: OverwriteOption = False,
    port: Annotated[
        int, typer.Option("--port", min=0, max=65535, help="Port on this machine; 0: any that is free.")
    ] = 0,
    no_browser: Annotated[bool, typer.Option("--no-browser", help="Print the address, open nothing.")] = False,
) -> None:
    """Look at cases in the browser: modalities, reference and prediction, slices and 3D. For research only.

    With several cases the page has a list of them, worst first. The page is served to this machine alone, at an address
    with a random token, until Ctrl-C. From a machine far away: ssh -L 8000:127.0.0.1:8000 HOST, and --port 8000 there.

    \b
    Examples:
      brats-seg view DATA/BraTS20_Training_001 --prediction predictions
      brats-seg view DATA --prediction runs/fold0/validation
      brats-seg view DATA/BraTS20_Training_001 --save case.html
    """
    if reference and no_reference:
        raise UsageError("--reference and --no-reference: give one of them")
    viewed = _viewed(_find(data, edition, cases), prediction, reference, is_referenced=not no_reference)
    if len(viewed) == 1:
        _require_one_grid(viewed[0])
    if save is not None:
        _save(viewed, save, data, is_replacing=overwrite)
    else:
        _serve(viewed, port, is_opened=not no_browser)


def _find(data: Path, edition: str | None, wanted: str | None) -> list[Case]:
    """Return the selected cases that have an image; they may lack others."""
    download = find_cases(data, edition=edition, strict=False, allow_missing=True)
    names = select_cases([case.name for case in download.cases], wanted)
    problems = [str(problem) for problem in download.found_problems if problem.case in names]
    found = [case for case in download.cases if case.name in names and case.images]
    if problems and (len(found) < 2 or not found):
        raise DataError(all_findings(str(data), problems))
    for problem in problems:
        print(f"note: {problem}", file=sys.stderr)
    return found


def _viewed(
    cases: Sequence[Case], prediction: Path | None, reference: Path | None, *, is_referenced: bool
) -> list[Viewed]:
    """Return the cases with their label maps: those that have a prediction, where predictions are given.

    Raises:
        DataError: there is no prediction, or no reference, for any of the cases.
    """
    predictions = {} if prediction is None else match_label_maps(cases, prediction, "prediction", is_partial=True)
    references = {case.name: case.label for case in cases if case.label is not None}
    if reference is not None:
        references = match_label_maps(cases, reference, "reference", is_partial=True)
    shown = [case for case in cases if prediction is None or case.name in predictions]
    if without := len(cases) - len(shown):
        print(f"{without} of {len(cases)} cases have no prediction in {prediction} and are passed over")
    found = []
    for case in shown:
        maps = {
            "reference": references.get(case.name) if is_referenced else None,
            "prediction": predictions.get(case.name),
        }
        found.append(Viewed(case, {which: path for which, path in maps.items() if path is not None}))
    return found


def _require_one_grid(viewed: Viewed) -> None:
    """Refuse files of a single case that lie on different grids, before anything is shown."""
    case = viewed.case
    paths = [file.path for file in case.images.values()]
    first = read_header(paths[0])
    for path in (*paths[1:], *viewed.label_maps.values()):
        if difference := same_geometry(first, read_header(path)):
            raise DataError(
                f"case {case.name}: {path}: {difference}, against {paths[0].name}; resample or predict it again"
            )


def _save(viewed: Sequence[Viewed], target: Path, data: Path, *, is_replacing: bool) -> None:
    if len(viewed) != 1:
        raise UsageError(f"--save: {len(viewed)} cases, but a page holds one; choose it with --cases")
    if target.suffix.lower() not in (".html", ".htm"):
        raise UsageError(f"--save {target}: expected a name that ends in .html")
    if target.exists() and not is_replacing:
        raise OutputError(f"{target}: is there; choose another name, or replace it with --overwrite")
    if not target.absolute().parent.is_dir():
        raise OutputError(f"{target}: no folder {target.parent}; make it first")
    require_outside(target.absolute().parent, data)
    size = save_page(viewed[0], target)
    print(f"wrote {target} ({size / 1e6:.1f} MB, holds the case's voxels: share it as you would share the images)")


def _serve(viewed: Sequence[Viewed], port: int, *, is_opened: bool) -> None:
    viewer = Viewer(viewed)
    server = Server(viewer.find, port)
    print(f"viewer: {server.address}", flush=True)
    print("served to this machine alone, until Ctrl-C", flush=True)
    threading.Thread(target=viewer.score_all, daemon=True).start()
    if is_opened and _has_screen():
        threading.Thread(target=webbrowser.open, args=(server.address,), daemon=True).start()
    try:
        server.serve()
    except KeyboardInterrupt:
        print("viewer closed")


def _has_screen() -> bool:
    """Return whether a browser with windows can open: without one, a browser of the terminal would take it over."""
    return sys.platform in ("darwin", "win32") or any(os.environ.get(name) for name in ("DISPLAY", "WAYLAND_DISPLAY"))


command = command_from(view)
