"""ITK-SNAP: the label description file of an edition, and workspaces that open a case with its label maps.

In come cases and label maps as paths; out comes the text of a `.label` or `.itksnap` file, and the shell line that
opens it. Nothing is written here. Source: ITK-SNAP's own readers (version 4); only `registry`, `folder` and `entry` are
elements of a workspace, and a main layer without a label table would empty the program's table.
"""

from __future__ import annotations

import re
import shlex
import xml.etree.ElementTree as ET
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from brats_seg.data.cases import Case
from brats_seg.data.nifti import Header, read_label_map, read_volume, same_geometry
from brats_seg.editions import Edition, Label, get_edition
from brats_seg.errors import DataError

__all__ = ["Layer", "View", "brightest_shown", "label_file", "open_case"]

_LABEL_FILE_HEAD = """\
################################################
# ITK-SnAP Label Description File
# File format: 
# IDX   -R-  -G-  -B-  -A--  VIS MSH  LABEL
# Fields: 
#    IDX:   Zero-based index 
#    -R-:   Red color component (0..255)
#    -G-:   Green color component (0..255)
#    -B-:   Blue color component (0..255)
#    -A-:   Label transparency (0.00 .. 1.00)
#    VIS:   Label visibility (0 or 1)
#    MSH:   Label mesh visibility (0 or 1)
#  LABEL:   Label description 
################################################
"""  # noqa: W291 (byte for byte as ITK-SNAP writes it)

_NICKNAMES: Mapping[str, str] = {"t1": "T1", "t1c": "T1c", "t2": "T2", "flair": "FLAIR"}
_MAIN = "t1c"
"""Modality of the main image: every edition has it, and it shows the enhancing tumour."""

_NOT_IN_XML = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\ud800-\udfff\ufffe\uffff]")


def label_file(edition: Edition) -> str:
    """Return the label description file of an edition; a file is told by its second line, byte for byte."""
    clear = '    0     0    0    0        0  0  0    "Clear Label"\n'
    return _LABEL_FILE_HEAD + clear + "".join(map(_label_row, edition.labels))


def _label_row(label: Label) -> str:
    red, green, blue = label.color
    return f'{label.value:5d}{red:6d}{green:5d}{blue:5d}        1  1  1    "{label.title}"\n'


def brightest_shown(volume: NDArray[Any]) -> float:
    """Return where white begins, as a share of the way from the smallest to the largest value, over 0 and at most 1.

    It is the 99.5th percentile of the voxels that are not 0: a few bright vessels would leave the brain dark. 1 for a
    volume of one value.
    """
    low, high = float(volume.min()), float(volume.max())
    inside = volume[volume != 0]
    if high <= low or inside.size == 0:
        return 1.0
    share = (float(np.percentile(inside, 99.5)) - low) / (high - low)
    return share if share > 0 else 1.0


@dataclass(frozen=True)
class Layer:
    """A file of a workspace."""

    path: Path
    nickname: str
    """What ITK-SNAP calls it."""
    white: float = 1.0
    """What `brightest_shown` gives; label maps have none."""


@dataclass(frozen=True)
class View:
    """A case as ITK-SNAP shows it; paths are absolute and real."""

    edition: Edition
    main: Layer
    overlays: tuple[Layer, ...]
    label_maps: tuple[Layer, ...]

    def workspace(self, folder: Path) -> str:
        """Return the text of a workspace file that lies in `folder`.

        Raises:
            DataError: a path has characters that XML cannot hold.
        """
        root = ET.Element("registry")
        place = str(folder.resolve())
        _entries(root, SaveLocation=place, Version="20190612")
        layers = _folder(root, "Layers")
        main = _add_layer(layers, self.main, "MainRole")
        _add_label_table(main, self.edition.labels)
        for overlay in self.overlays:
            _add_layer(layers, overlay, "OverlayRole")
        for label_map in self.label_maps:
            _add_layer(layers, label_map, "SegmentationRole")
        for text in (place, *(str(layer.path) for layer in self._layers)):
            if _NOT_IN_XML.search(text):
                raise DataError(f"path {text!r}: has characters that a workspace file cannot hold; rename it")
        ET.indent(root)
        return f'<?xml version="1.0" encoding="UTF-8" ?>\n{ET.tostring(root, encoding="unicode")}\n'

    def shell_line(self, labels: Path) -> str:
        """Return the shell line that opens the same images without a workspace; `labels` is the label file."""
        words = ["itksnap", "-g", self.main.path]
        words += ["-o", *(layer.path for layer in self.overlays)] if self.overlays else []
        words += ["-s", *(layer.path for layer in self.label_maps), "-l", labels.resolve()]
        return shlex.join(map(str, words))

    @property
    def _layers(self) -> tuple[Layer, ...]:
        return (self.main, *self.overlays, *self.label_maps)


def open_case(case: Case, label_maps: Mapping[str, Path]) -> tuple[View | None, list[str]]:
    """Read and check all that belongs to a case; return how ITK-SNAP is to show it, and what is wrong, in words.

    Wrong is a file that cannot be read, an image or label map on another grid than T1c (ITK-SNAP would draw it
    somewhere else), and a label that the case's edition does not have. Where anything is wrong there is no view.

    Args:
        case: the images; T1c becomes the main image, the others overlays. A 4-D file is one main image.
        label_maps: nickname (`prediction`, `reference`) -> file, in the order of the layers.
    """
    findings: list[str] = []
    edition = get_edition(case.edition)
    images, header = _open_images(case, findings)
    for nickname, path in label_maps.items():
        try:
            label_map, own = read_label_map(path)
            edition.check_labels(np.flatnonzero(np.bincount(label_map.ravel(), minlength=256)), f"{nickname} {path}")
        except DataError as error:
            findings.append(str(error))
            continue
        if header and (difference := same_geometry(header, own)):
            findings.append(f"{nickname} {path}: {difference}, against the case's images; predict this case again")
    if findings:
        return None, [f"case {case.name}: {finding}" for finding in findings]
    layers = tuple(Layer(path.resolve(), nickname) for nickname, path in label_maps.items())
    return View(edition, images[0], tuple(images[1:]), layers), []


def _open_images(case: Case, findings: list[str]) -> tuple[list[Layer], Header | None]:
    """Return a layer for each image file, T1c's first, and T1c's header; add what is wrong to `findings`."""
    files: dict[Path, list[str]] = {}
    for modality in sorted(case.images, key=lambda name: name != _MAIN):  # a stable sort: the others keep their order
        files.setdefault(case.images[modality].path, []).append(_NICKNAMES.get(modality, modality))
    layers: list[Layer] = []
    main: Header | None = None
    for path, nicknames in files.items():
        try:
            volume, header = read_volume(path)
        except DataError as error:
            findings.append(str(error))
            continue
        layers.append(Layer(path.resolve(), " + ".join(nicknames), brightest_shown(volume)))
        main = main or header
        if difference := same_geometry(main, header):
            findings.append(f"{path}: {difference}, against {next(iter(files)).name}; see brats-seg check")
    return layers, main


def _folder(parent: ET.Element, key: str) -> ET.Element:
    return ET.SubElement(parent, "folder", key=key)


def _entries(parent: ET.Element, **values: object) -> None:
    for key, value in values.items():
        ET.SubElement(parent, "entry", key=key, value=str(value))


def _add_layer(layers: ET.Element, layer: Layer, role: str) -> ET.Element:
    own = _folder(layers, f"Layer[{len(layers):03d}]")
    _entries(own, AbsolutePath=layer.path, Role=role)
    metadata = _folder(own, "LayerMetaData")
    if role == "OverlayRole":
        _entries(metadata, Alpha=0.5)
    # Sticky 0 = a tile of its own, 1 = drawn over the main image, which has no such entry
    sticky = {"OverlayRole": {"Sticky": 0}, "SegmentationRole": {"Sticky": 1}}.get(role, {})
    _entries(metadata, CustomNickName=layer.nickname, **sticky)
    if role != "SegmentationRole":
        _add_contrast(metadata, layer.white)
    return own


def _add_contrast(metadata: ET.Element, white: float) -> None:
    """Add grey values that rise evenly from the image's smallest value to `white` (see `brightest_shown`)."""
    mapping = _folder(metadata, "DisplayMapping")
    _entries(_folder(mapping, "ColorMap"), Preset="Grayscale")
    curve = _folder(mapping, "Curve")
    _entries(curve, NumberOfControlPoints=3)
    for number, grey in enumerate((0, 0.5, 1)):
        _entries(_folder(curve, f"ControlPoint[{number}]"), tValue=f"{grey * white:.6g}", xValue=grey)


def _add_label_table(main: ET.Element, labels: Sequence[Label]) -> None:
    iris = _folder(_folder(main, "ProjectMetaData"), "IRIS")
    _entries(iris, SliceViewLayerLayout="Tiled")
    state = _folder(iris, "LabelState")
    _entries(state, SegmentationAlpha=0.5, DrawingLabel=labels[0].value, CoverageMode="OverAll", OverwriteLabel=0)
    table = _folder(iris, "LabelTable")
    _entries(table, NumberOfElements=len(labels))
    for number, label in enumerate(labels):
        color = " ".join(map(str, label.color))
        element = _folder(table, f"Element[{number}]")
        _entries(element, Index=label.value, Label=label.title, Color=color, Alpha=255, Flags="1 1")
