"""Pictures of a case as SVG: grey slices as WebP, outlines as paths over them.

Three planes are rows; columns are the modalities and, last, what is wrong: voxels that only the reference has (missed)
and voxels that only the prediction has (false). Outlines run along the edges of voxels, the reference's solid, the
prediction's dashed. One region is shown at a time; the page, or nothing, chooses another. Everything is drawn by
classes, so that the page's style sheet decides on colours and widths. Lengths are mm, all planes have one scale.
"""

from __future__ import annotations

import base64
import hashlib
import io
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from markupsafe import Markup, escape
from numpy.typing import NDArray
from PIL import Image

from brats_seg.errors import DataError
from brats_seg.reporting.html.case_slices import CaseFiles, CaseSlices, Plane, cut_case

__all__ = ["PICTURE_STYLE", "CasePicture", "draw_case", "outline_of_mask", "standalone"]

_QUALITY = 76
"""Of WebP; outlines are no part of it."""
_GAP, _LABEL, _PAD = 3.0, 8.0, 4.0
_PIXELS_A_MM = 1.9
"""At most, on a screen: a single modality need not fill the page."""
_BAR_MM = (50, 30, 20, 10, 5)
_ZOOM_MARGIN_MM, _LARGEST_ZOOM = 10.0, 4.0
_FLUID_REGIONS = frozenset({"WT", "ED", "SNFH"})
"""Regions whose faults are shown over FLAIR; those of others over T1c."""
_FAULTS = ((1, "missed", "blue"), (2.2, "false", "orange"))
_TITLES = {"t1": "T1", "t1c": "T1c", "t2": "T2", "flair": "FLAIR"}

PICTURE_STYLE = """
.pic{background:#000;display:block}.pic text{font:600 8px system-ui,sans-serif;fill:#fff;paint-order:stroke;stroke:#000;
stroke-width:2px;stroke-linejoin:round}.pic .small{font-weight:400;fill:#d0d4da}.pic-dim{opacity:.55}
.pic-ref,.pic-pre{fill:none}.pic-ref{stroke:#56b4e9;stroke-width:var(--pic-w,1.3px);display:var(--ref,inline)}
.pic-pre{stroke:#ff8c2e;stroke-width:var(--pic-w,1.3px);stroke-dasharray:4 2.2;display:var(--pre,inline)}
.pic .blue{fill:#56b4e9}.pic .orange{fill:#ff8c2e}
.pic-mis,.pic-fal{shape-rendering:crispEdges}.pic-mis{fill:#56b4e9;fill-opacity:.85}.pic-fal{fill:#ff8c2e;fill-opacity:.85}.pic-bar{stroke:#fff;stroke-width:1.6px}
.pic .near,.pic.zoom .full{display:none}.pic.zoom .near{display:inline}.pic.zoom{--pic-w:1.9px}
.pic[data-r="0"]{--r0:inline}.pic[data-r="1"]{--r1:inline}.pic[data-r="2"]{--r2:inline}.pic[data-r="3"]{--r3:inline}
.r0{display:var(--r0,none)}.r1{display:var(--r1,none)}.r2{display:var(--r2,none)}.r3{display:var(--r3,none)}
"""
"""What a picture looks like; a page needs it once.

Rules for what is used again have one class alone: within `use` no ancestor is seen, only what is inherited.
"""


@dataclass(frozen=True)
class CasePicture:
    """A case's picture for one evaluation, or the reason why there is none."""

    case: str
    svg: Markup
    """"" where there is none."""
    regions: tuple[str, ...] = ()
    missed_ml: tuple[float, ...] = ()
    """A region's reference voxels that the prediction does not have."""
    false_ml: tuple[float, ...] = ()
    notes: tuple[str, ...] = ()
    """What is missing in it, or why there is none."""


def draw_case(files: CaseFiles) -> list[CasePicture]:
    """Return a picture of a case for each of its predictions, all through the same planes."""
    num = len(files.predictions)
    try:
        slices = cut_case(files)
    except DataError as error:
        return [CasePicture(files.case, Markup(), notes=(str(error),))] * num
    if not any(plane.grey for plane in slices.planes):
        return [CasePicture(files.case, Markup(), notes=("no image could be read", *slices.notes))] * num
    return [
        CasePicture(
            files.case,
            _draw(slices, model, files.region),
            slices.regions,
            tuple(slices.missed_ml[model].tolist()),
            tuple(slices.false_ml[model].tolist()),
            slices.notes,
        )
        for model in range(num)
    ]


def standalone(picture: CasePicture, title: str) -> str:
    """Return a picture as the text of an SVG file of its own."""
    head = f"<title>{escape(title)}</title><style>{PICTURE_STYLE}</style>"
    opening, rest = str.__str__(picture.svg).split(">", 1)
    return f'{opening} xmlns="http://www.w3.org/2000/svg">{head}{rest}\n'


def outline_of_mask(mask: NDArray[np.bool_]) -> str:
    """Return the border of a mask (rows, columns) as path data along the edges of its pixels; "" for an empty one.

    Filled by the even-odd rule it covers exactly the mask's pixels. Units are pixels; (0, 0) is the upper left corner.
    """
    padded = np.pad(mask, 1)
    follow: dict[tuple[int, int], list[tuple[int, int]]] = {}
    inner = padded[1:-1, 1:-1]
    # Each edge with the mask on its right hand: top edges run to the right, right ones down, and so on.
    for (row, column), (start, end) in (
        ((0, 1), ((0, 0), (0, 1))),
        ((1, 2), ((0, 1), (1, 1))),
        ((2, 1), ((1, 1), (1, 0))),
        ((1, 0), ((1, 0), (0, 0))),
    ):
        outside = padded[row : row + inner.shape[0], column : column + inner.shape[1]]
        for y, x in np.argwhere(inner & ~outside).tolist():
            follow.setdefault((y + start[0], x + start[1]), []).append((y + end[0], x + end[1]))
    loops: list[str] = []
    while follow:
        place = first = next(iter(follow))
        corners = [first]
        while True:
            ends = follow[place]
            place = ends.pop()
            if not ends:
                del follow[corners[-1]]
            corners.append(place)
            if place == first:
                break
        loops.append(_loop_text(corners))
    return "".join(loops)


def _loop_text(corners: Sequence[tuple[int, int]]) -> str:
    """Return a closed walk along pixel edges as path data, straight stretches joined."""
    y, x = corners[0]
    steps: list[tuple[str, int]] = []
    for (y0, x0), (y1, x1) in pairwise(corners):
        letter, size = ("h", x1 - x0) if y0 == y1 else ("v", y1 - y0)
        if steps and steps[-1][0] == letter and (steps[-1][1] > 0) == (size > 0):
            steps[-1] = (letter, steps[-1][1] + size)
        else:
            steps.append((letter, size))
    return f"M{x} {y}" + "".join(f"{letter}{size}" for letter, size in steps[:-1]) + "z"


def _draw(slices: CaseSlices, model: int, region: str) -> Markup:
    """Return the picture of one prediction; `region` is the one that is shown first."""
    column_mm = max(plane.size_mm[0] for plane in slices.planes)
    width = (len(slices.modalities) + 1) * (column_mm + _GAP) - _GAP
    boxes = [_box_of_tumor(plane, model) for plane in slices.planes]
    zoom = min(_zoom_of(plane, box, column_mm) for plane, box in zip(slices.planes, boxes, strict=True))
    key = f"{hashlib.sha256(slices.case.encode()).hexdigest()[:7]}-{model}"
    parts, top = [], 0.0
    for number, (plane, box) in enumerate(zip(slices.planes, boxes, strict=True)):
        layout = _Layout(slices, plane, f"p{key}{number}", top, column_mm, _zoomed(plane, box, column_mm, zoom))
        parts += [_defs(layout, model), *(_panel(layout, column) for column in range(len(slices.modalities) + 1))]
        top += plane.size_mm[1] + _GAP
    parts.append(_scale_bars(top - _GAP, column_mm, zoom))
    first = slices.regions.index(region)
    most = f'style="--most:{width * _PIXELS_A_MM:.0f}px"'
    head = (
        f'<svg class="pic" data-r="{first}" viewBox="0 0 {width:.1f} {top - _GAP:.1f}" {most} role="img" aria-label="'
    )
    words = escape(f"case {slices.case}: {', '.join(plane.name for plane in slices.planes)} slices with outlines")
    return Markup(head) + words + Markup(f'">{"".join(parts)}</svg>')


@dataclass(frozen=True, eq=False)
class _Layout:
    """A row of panels: where it stands, and what it shows."""

    slices: CaseSlices
    plane: Plane
    key: str
    """Begins the names of everything that is used again within the row."""
    top: float
    column_mm: float
    zoomed: str
    """The part of the plane that is seen when zoomed in, as a viewBox."""


def _defs(layout: _Layout, model: int) -> str:
    """Return what the panels of a row share: images, paths of each region, and both kinds of fault."""
    plane, key = layout.plane, layout.key
    width, height = plane.size_mm
    images = "".join(
        f'<image id="{key}i{name}" width="{width:.1f}" height="{height:.1f}" preserveAspectRatio="none" '
        f'href="data:image/webp;base64,{_webp(grey)}"/>'
        for name, grey in plane.grey.items()
    )
    rows, columns = plane.reference.shape[1:]
    scale = f'transform="scale({plane.pixel_mm[1]:.4g} {plane.pixel_mm[0]:.4g})"'
    paths, outlines, faults = [], [], []
    for number, (reference, prediction) in enumerate(zip(plane.reference, plane.predictions[model], strict=True)):
        own = f"{key}r{number}"
        for what, mask in (("a", reference), ("b", prediction)):
            data = outline_of_mask(mask)
            paths.append(f'<path id="{own}{what}" fill-rule="evenodd" vector-effect="non-scaling-stroke" d="{data}"/>')
            paths.append(
                f'<mask id="{own}n{what}" maskUnits="userSpaceOnUse" x="0" y="0" width="{columns}" height="{rows}">'
                f'<path fill="#fff" d="M0 0h{columns}v{rows}h-{columns}z"/>'
                f'<use href="#{own}{what}" fill="#000" shape-rendering="crispEdges"/></mask>'
            )
        outlines.append(
            f'<g class="r{number}"><use class="pic-ref" href="#{own}a"/><use class="pic-pre" href="#{own}b"/></g>'
        )
        faults.append(
            f'<g class="r{number}"><use class="pic-mis" href="#{own}a" mask="url(#{own}nb)"/>'
            f'<use class="pic-fal" href="#{own}b" mask="url(#{own}na)"/></g>'
        )
    return (
        f'<defs>{images}{"".join(paths)}<g id="{key}o" {scale}>{"".join(outlines)}</g>'
        f'<g id="{key}f" {scale}>{"".join(faults)}</g></defs>'
    )


def _panel(layout: _Layout, column: int) -> str:
    """Return one panel: a modality with outlines, or, in the last column, a dim one with the faults."""
    slices, plane = layout.slices, layout.plane
    left, (width, height) = column * (layout.column_mm + _GAP), plane.size_mm
    is_last = column == len(slices.modalities)
    name = "" if is_last else slices.modalities[column]
    whole = f"{(width - layout.column_mm) / 2:.1f} 0 {layout.column_mm:.1f} {height:.1f}"
    frame = (
        f'<svg x="{left:.1f}" y="{layout.top:.1f}" width="{layout.column_mm:.1f}" height="{height:.1f}" '
        f'viewBox="{whole}" data-z="{layout.zoomed}">'
    )
    content = ""
    if is_last:
        for number, region in enumerate(slices.regions):
            content += (
                f'<g class="r{number}"><use class="pic-dim" href="#{layout.key}i{_background(plane, region)}"/></g>'
            )
        content += f'<use href="#{layout.key}f"/>'
    elif name in plane.grey:
        content = f'<use href="#{layout.key}i{name}"/><use href="#{layout.key}o"/>'
    texts = "" if column else _place_texts(layout, left)
    if layout.top == 0:
        texts += _fault_titles(layout, left) if is_last else _text(left + _PAD, _LABEL + 2, _TITLES.get(name, name))
    if not is_last and name not in plane.grey:
        texts += _text(left + layout.column_mm / 2, layout.top + height / 2, "not there", "small", "middle")
    return f"{frame}{content}</svg>{texts}"


def _place_texts(layout: _Layout, left: float) -> str:
    """Return where a plane lies, and which side is which."""
    plane = layout.plane
    axis = {"axial": "z", "coronal": "y", "sagittal": "x"}[plane.name]
    place = f"{plane.place_mm:.0f}".replace("-", "\N{MINUS SIGN}")
    bottom = layout.top + plane.size_mm[1] - _PAD
    side = "front" if plane.name == "sagittal" else "R"
    return (
        _text(left + _PAD, bottom - _LABEL - 1, f"{plane.name} {plane.number} of {plane.num_slices}", "small")
        + _text(left + _PAD, bottom, f"{axis} {place} mm", "small")
        + _text(left + _PAD, layout.top + plane.size_mm[1] / 2, side)
    )


def _fault_titles(layout: _Layout, left: float) -> str:
    """Return the heading of the last column: the region that is shown, and the two colours."""
    titles = "".join(
        f'<g class="r{number}">{_text(left + _PAD, _LABEL + 2, region)}</g>'
        for number, region in enumerate(layout.slices.regions)
    )
    right = left + layout.column_mm - _PAD
    missed, false = (_text(right, _LABEL * line + 2, words, css, "end") for line, words, css in _FAULTS)
    return titles + missed + false


def _text(x: float, y: float, words: str, css: str = "", anchor: str = "start") -> str:
    return f'<text class="{css}" x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}">{escape(words)}</text>'


def _background(plane: Plane, region: str) -> str:
    wanted = "flair" if region in _FLUID_REGIONS else "t1c"
    return wanted if wanted in plane.grey else next(iter(plane.grey))


def _webp(grey: NDArray[np.uint8]) -> str:
    file = io.BytesIO()
    Image.fromarray(grey).save(file, format="WEBP", quality=_QUALITY, method=6)
    return base64.b64encode(file.getvalue()).decode("ascii")


def _box_of_tumor(plane: Plane, model: int) -> tuple[float, float, float, float] | None:
    """Return left, top, right and bottom (mm) of all that either label map has; None where that is nothing."""
    inside: NDArray[np.bool_] = np.any(plane.reference | plane.predictions[model], axis=0)
    if not inside.any():
        return None
    rows, columns = np.flatnonzero(inside.any(axis=1)), np.flatnonzero(inside.any(axis=0))
    high, wide = plane.pixel_mm
    return columns[0] * wide, rows[0] * high, (columns[-1] + 1) * wide, (rows[-1] + 1) * high


def _zoom_of(plane: Plane, box: tuple[float, float, float, float] | None, column_mm: float) -> float:
    """Return how far a plane can be zoomed in without losing any of the tumour; 1 = not at all."""
    if box is None:
        return _LARGEST_ZOOM
    left, top, right, bottom = box
    wide = column_mm / (right - left + 2 * _ZOOM_MARGIN_MM)
    return max(1.0, min(_LARGEST_ZOOM, wide, plane.size_mm[1] / (bottom - top + 2 * _ZOOM_MARGIN_MM)))


def _zoomed(plane: Plane, box: tuple[float, float, float, float] | None, column_mm: float, zoom: float) -> str:
    """Return the part of a plane that is seen when zoomed in around the tumour, as a viewBox."""
    width, height = column_mm / zoom, plane.size_mm[1] / zoom
    left, top, right, bottom = box or (0.0, 0.0, *plane.size_mm)
    return f"{(left + right - width) / 2:.1f} {(top + bottom - height) / 2:.1f} {width:.1f} {height:.1f}"


def _scale_bars(bottom: float, column_mm: float, zoom: float) -> str:
    """Return the bar of the whole planes, and the one that takes its place when they are zoomed in."""
    right, bars = column_mm - _PAD, []
    for css, factor in (("full", 1.0), ("near", zoom)):
        size = next((size for size in _BAR_MM if size * factor <= column_mm / 3), _BAR_MM[-1])
        start = right - size * factor
        line = f'<path class="pic-bar" d="M{start:.1f} {bottom - _PAD:.1f}H{right:.1f}"/>'
        label = _text((start + right) / 2, bottom - _PAD - 4, f"{size} mm", "small", "middle")
        bars.append(f'<g class="{css}">{line}{label}</g>')
    return "".join(bars)
