"""Files that lie beside an ITK-SNAP workspace: copies to carry elsewhere, and label maps on exactly the image's grid.

ITK-SNAP compares the spacing and origin of a segmentation with those of the main image bit by bit, warns where they
differ, and passes over the segmentation's own header. So a label map that is equal but for rounding is written anew,
with the header of the main image.
"""

from __future__ import annotations

import filecmp
import shutil
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from brats_seg.data.nifti import read_header, read_label_map, write_label_map
from brats_seg.errors import DataError
from brats_seg.files import atomic_file, make_output_folder
from brats_seg.reporting.itksnap import Layer, View

__all__ = ["FileBeside", "ItkGrid", "gather_files", "grid_as_itk_reads_it"]

ItkGrid = tuple[tuple[float, ...], tuple[float, ...], tuple[float, ...]]


@dataclass(frozen=True, eq=False)
class FileBeside:
    """A file to be written beside a workspace."""

    source: Path
    target: Path
    header_bytes: bytes | None = None
    """Of a label map that is written anew with this header; None = a copy of the file as it is."""

    def is_there(self) -> bool:
        """Return whether the target is there already and holds what would be written."""
        if not self.target.is_file():
            return False
        if self.header_bytes is None:
            return filecmp.cmp(self.source, self.target, shallow=False)
        try:
            wanted, (found, header) = read_label_map(self.source)[0], read_label_map(self.target)
        except DataError:
            return False
        own = (self.header_bytes[76:92], self.header_bytes[252:328])  # pixdim; qform and sform
        return np.array_equal(wanted, found) and own == (header.raw[76:92], header.raw[252:328])

    def write(self) -> None:
        """Write the file, complete or not at all.

        Raises:
            OutputError: it cannot be written.
        """
        make_output_folder(self.target.parent)
        if self.header_bytes is not None:
            write_label_map(self.target, read_label_map(self.source)[0], self.header_bytes)
            return
        with atomic_file(self.target) as temporary:
            shutil.copyfile(self.source, temporary)


def gather_files(view: View, folder: Path, *, is_copied: bool) -> tuple[View, tuple[FileBeside, ...]]:
    """Return the view as a workspace with its files in `folder` has it, and the files that must be written there.

    Args:
        view: of a case, where its files lie now.
        folder: of the case's own.
        is_copied: copy all files; else only label maps are written, and only those whose grid is not the image's to
            the last bit.

    Raises:
        DataError: ITK cannot read a file.
    """
    grid = grid_as_itk_reads_it(view.main.path)
    header_bytes = read_header(view.main.path).raw
    files: list[FileBeside] = []

    names = [layer.path.name for layer in (view.main, *view.overlays)]

    def image(layer: Layer) -> Layer:
        name = layer.path.name
        return placed(layer, name if names.count(name) == 1 else f"{layer.nickname}_{name}", False)

    def placed(layer: Layer, name: str, is_label_map: bool) -> Layer:
        is_exact = not is_label_map or grid_as_itk_reads_it(layer.path) == grid
        if is_exact and not is_copied:
            return layer
        suffix = ".nii" if is_exact and layer.path.name.lower().endswith(".nii") else ".nii.gz"
        target = folder.resolve() / (f"{name}{suffix}" if is_label_map else name)
        files.append(FileBeside(layer.path, target, None if is_exact else header_bytes))
        return replace(layer, path=target)

    moved = replace(
        view,
        main=image(view.main),
        overlays=tuple(image(layer) for layer in view.overlays),
        label_maps=tuple(placed(layer, layer.nickname, True) for layer in view.label_maps),
    )
    return moved, tuple(files)


def grid_as_itk_reads_it(path: Path) -> ItkGrid:
    """Return spacing (mm), origin (LPS mm) and direction of a file's three spatial axes, as ITK's own reader has them.

    Raises:
        DataError: ITK does not read it: its axes are no right angles, for one.
    """
    import SimpleITK  # noqa: PLC0415 (slow to import)

    sitk: Any = SimpleITK  # its classes carry no types
    reader = sitk.ImageFileReader()
    reader.SetFileName(str(path))
    try:
        reader.ReadImageInformation()
    except RuntimeError as error:
        reason = str(error).strip().splitlines()[-1].strip()
        raise DataError(f"{path}: ITK, which ITK-SNAP reads with, cannot open it ({reason})") from error
    num = reader.GetDimension()
    direction = np.reshape(reader.GetDirection(), (num, num))[:3, :3]
    return tuple(reader.GetSpacing()[:3]), tuple(reader.GetOrigin()[:3]), tuple(map(float, direction.ravel()))
