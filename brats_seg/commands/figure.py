"""`brats-seg figure`: one picture of a case, for a paper, a talk or a mail."""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from brats_seg.commands.label_maps import match_label_maps
from brats_seg.commands.options import (
    CasesOption,
    EditionOption,
    OverwriteOption,
    QuietOption,
    command_from,
    select_cases,
)
from brats_seg.data.cases import Case, find_cases
from brats_seg.editions import MODALITY_ALIASES, get_edition, modality_of_token
from brats_seg.errors import DataError, OutputError, UsageError, did_you_mean
from brats_seg.files import make_output_folder, require_outside

if TYPE_CHECKING:
    from brats_seg.reporting.pictures.montage import Look
    from brats_seg.reporting.pictures.subjects import Subject

__all__ = ["command", "figure"]


class Kind(StrEnum):
    """What a picture shows."""

    MONTAGE = "montage"
    SLICE = "slice"
    OVERLAY = "overlay"
    SWEEP = "sweep"


class Plane(StrEnum):
    """Which way slices are cut."""

    AXIAL = "axial"
    CORONAL = "coronal"
    SAGITTAL = "sagittal"


class Colors(StrEnum):
    """Colours of labels."""

    SAFE = "safe"
    ITKSNAP = "itksnap"


class Theme(StrEnum):
    """Colour of the paper."""

    LIGHT = "light"
    DARK = "dark"


_STILL_DPI = 300
_SWEEP_DPI = 150


def figure(
    case: Annotated[Path, typer.Argument(metavar="CASE", help="Folder of one case, or a download and --cases ID.")],
    out: Annotated[
        Path, typer.Option("--out", metavar="FILE", help="Picture; its suffix is the format: png, svg, pdf, gif ...")
    ],
    prediction: Annotated[
        Path | None,
        typer.Option("--prediction", metavar="P", help="Label map of the case, or a folder of <case>.nii.gz."),
    ] = None,
    reference: Annotated[
        Path | None,
        typer.Option("--reference", metavar="R", help="As --prediction; default: the case's own segmentation, if any."),
    ] = None,
    no_reference: Annotated[bool, typer.Option("--no-reference", help="Leave the reference out.")] = False,
    kind: Annotated[
        Kind | None, typer.Option("--kind", help="Default: sweep for gif and webp, montage for others.")
    ] = None,
    plane: Annotated[Plane | None, typer.Option("--plane", help="Default: all three of a montage, else axial.")] = None,
    chosen: Annotated[
        str,
        typer.Option("--slice", metavar="N|auto|worst", help="Index in the file; largest tumour; most wrong voxels."),
    ] = "auto",
    modality: Annotated[
        str | None, typer.Option("--modality", metavar="NAME", help="Of slice, overlay and sweep; default t1c.")
    ] = None,
    zoom: Annotated[bool, typer.Option("--zoom", help="Show the tumour's surroundings, not the brain.")] = False,
    colors: Annotated[Colors, typer.Option("--colors", help="Of labels; safe for all eyes, or ITK-SNAP's.")] = (
        Colors.SAFE
    ),
    theme: Annotated[Theme, typer.Option("--theme", help="Colour of the paper.")] = Theme.LIGHT,
    width: Annotated[
        float | None,
        typer.Option("--width", metavar="MM", min=20, max=1000, help="Default: 180 montage, 88 one panel, 120 sweep."),
    ] = None,
    dpi: Annotated[
        int | None, typer.Option("--dpi", min=30, max=1200, help="Pixels an inch; default 300, 150 in a sweep.")
    ] = None,
    edition: EditionOption = None,
    cases: CasesOption = None,
    overwrite: OverwriteOption = False,
    quiet: QuietOption = False,
) -> None:
    """Draw a case with its label maps as one picture.

    Planes are seen as a radiologist sees them: the patient's right on the left. A modality that the case lacks is left
    out, and the picture says so.

    \b
    Kinds:
      montage  a row a plane: all modalities, reference, prediction, where they
               differ (missed, false, other label); volumes and Dice below
      slice    one panel, outlines of reference (blue) and prediction (orange)
      overlay  one panel, labels of the prediction filled, reference outlined
      sweep    animation through the volume: the image, and the overlay beside

    \b
    Examples:
      brats-seg figure DATA/BraTS20_Training_001 --prediction predictions --out case.png
      brats-seg figure DATA/BraTS20_Training_001 --prediction predictions --out case.gif
      brats-seg figure DATA/BraTS20_Training_001 --kind overlay --plane coronal --zoom --out case.svg
    """
    if reference and no_reference:
        raise UsageError("--reference and --no-reference: give one of them")
    kind = _kind_of(out, kind)
    found = _find_one(case, edition, cases)
    _check_output(out, found, overwrite)
    subject = _read(found, kind, modality, prediction, None if no_reference else reference, not no_reference)
    from brats_seg.reporting.pictures.montage import Look  # noqa: PLC0415 (keeps --help fast)

    look = Look(palette=colors.value, theme=theme.value, is_zoomed=zoom, width_mm=width)
    what = _draw(subject, out, kind, plane.value if plane else None, chosen, look, dpi)
    if not quiet:
        for note in subject.notes:
            print(f"case {subject.name}: {note}; the others are drawn")
        print(f"wrote {out} ({what})")


def _kind_of(out: Path, kind: Kind | None) -> Kind:
    """Return what to draw, by the option or by the suffix.

    Raises:
        UsageError: the suffix is no format, or not one for that kind.
    """
    from brats_seg.reporting.pictures.sheets import STILL_SUFFIXES  # noqa: PLC0415
    from brats_seg.reporting.pictures.sweep import SWEEP_SUFFIXES  # noqa: PLC0415

    suffix = out.suffix.lower()
    known = (*STILL_SUFFIXES, *(one for one in SWEEP_SUFFIXES if one not in STILL_SUFFIXES))
    if suffix not in known:
        found = f"suffix {suffix!r} is no picture's" if suffix else "no suffix, which tells the format"
        raise UsageError(f"--out {out}: {found}; expected one of {', '.join(known)}")
    kind = kind or (Kind.SWEEP if suffix in SWEEP_SUFFIXES else Kind.MONTAGE)
    fitting = SWEEP_SUFFIXES if kind is Kind.SWEEP else STILL_SUFFIXES
    if suffix not in fitting:
        raise UsageError(f"--out {out}: a {kind} is written as {', '.join(fitting)}; choose another suffix or --kind")
    return kind


def _find_one(place: Path, edition: str | None, wanted: str | None) -> Case:
    download = find_cases(place, edition=edition, allow_missing=True)
    names = select_cases([case.name for case in download.cases], wanted)
    if len(names) != 1:
        raise UsageError(
            f"{place}: {len(names)} cases ({', '.join(names[:3])} ...), and a picture is of one; name it by --cases ID"
        )
    return next(case for case in download.cases if case.name == names[0])


def _check_output(out: Path, case: Case, overwrite: bool) -> None:
    require_outside(out, case.folder)
    if out.is_dir():
        raise OutputError(f"{out}: is a folder; name a file in it, such as {out / case.name}.png")
    if out.exists() and not overwrite:
        raise OutputError(f"{out}: is there already; choose another --out, or replace it with --overwrite")
    make_output_folder(out.absolute().parent)


def _read(
    case: Case, kind: Kind, modality: str | None, prediction: Path | None, reference: Path | None, own_reference: bool
) -> Subject:
    """Read what the picture shows: all modalities of a montage, else one."""
    from brats_seg.reporting.pictures.subjects import main_modality, read_subject  # noqa: PLC0415 (keeps --help fast)

    own = _label_map(case, reference, "reference") or (case.label if own_reference else None)
    predicted = _label_map(case, prediction, "prediction")
    if kind is Kind.MONTAGE:
        if modality is not None:
            raise UsageError(f"--modality {modality}: a montage shows all; leave it out, or choose another --kind")
        return read_subject(case, reference=own, prediction=predicted)
    one = _modality(case, modality) or main_modality(case.images)
    return read_subject(case, modalities=[one], reference=own, prediction=predicted)


def _label_map(case: Case, place: Path | None, what: str) -> Path | None:
    return None if place is None else match_label_maps([case], place, what, is_partial=False)[case.name]


def _modality(case: Case, word: str | None) -> str | None:
    """Return the modality of a case that a word means (`t1ce` is t1c); None for no word."""
    if word is None:
        return None
    modality = modality_of_token(word)
    if modality not in get_edition(case.edition).modalities:
        raise UsageError(f"--modality {word!r} is unknown{did_you_mean(word, MODALITY_ALIASES)}")
    if modality not in case.images:
        raise DataError(f"case {case.name}: no {modality} (found: {', '.join(case.images)}); choose another --modality")
    return modality


def _draw(subject: Subject, out: Path, kind: Kind, plane: str | None, chosen: str, look: Look, dpi: int | None) -> str:
    """Write the picture; return what it is, in words."""
    if kind is Kind.SWEEP:
        from brats_seg.reporting.pictures.sweep import write_sweep  # noqa: PLC0415

        if chosen != "auto":
            raise UsageError(f"--slice {chosen}: a sweep shows all slices; leave it out, or choose another --kind")
        num = write_sweep(subject, out, plane=plane or "axial", look=look, dpi=dpi or _SWEEP_DPI)
        return f"{num} {plane or 'axial'} slices"
    from brats_seg.reporting.pictures.montage import draw_case  # noqa: PLC0415 (keeps --help fast)
    from brats_seg.reporting.pictures.sheets import save_figure  # noqa: PLC0415

    picture = draw_case(subject, kind=kind.value, plane=plane, choice=chosen, look=look)
    save_figure(picture, out, dpi=dpi or _STILL_DPI)
    return _description(subject, kind, plane, chosen)


def _description(subject: Subject, kind: Kind, plane: str | None, chosen: str) -> str:
    planes: Mapping[bool, list[str]] = {True: [one.value for one in Plane], False: [plane or "axial"]}
    shown = planes[kind is Kind.MONTAGE and plane is None]
    return f"{kind}: {', '.join(subject.slice_title(one, subject.index(one, chosen)) for one in shown)}"


command = command_from(figure)
