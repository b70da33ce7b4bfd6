"""A scene: what the viewer's page needs of one case, read from its files and cropped to the brain.

Cropping takes two thirds off what a browser has to draw. Voxel values, and positions in millimetres, are the files'
own; voxel indices on the page count from the files' first voxel, too.
"""

from __future__ import annotations

import gzip
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from typing import Any

import numpy as np
from nibabel.orientations import io_orientation
from numpy.typing import NDArray

from brats_seg.data.header import Header, header_for, same_geometry
from brats_seg.data.reading import read_label_map, read_stack
from brats_seg.editions import Edition
from brats_seg.errors import DataError
from brats_seg.evaluation.overlap import confusion, dice, labels_in, scored_labels
from brats_seg.reporting.viewer.landmarks import find_lesions, worst_slices
from brats_seg.reporting.viewer.meshes import mz3_bytes, surface_mesh
from brats_seg.reporting.viewer.viewed import Viewed

__all__ = ["Scene", "read_label_maps", "read_scene", "region_numbers"]

_TITLES: Mapping[str, str] = {"t1": "T1", "t1c": "T1c", "t2": "T2", "flair": "FLAIR"}
_BRAIN = "brain"
_BRAIN_STEP = 3
"""The brain's surface is made of every third voxel: it is a faint shell around the tumour."""
_WINDOW_PERCENTILES = (1.0, 99.7)
"""Of a modality's nonzero voxels: what is shown black and white at first."""
_SAMPLE = 200_000
"""Voxels that are enough for a percentile."""
_GREY = (200, 205, 215)


@dataclass(frozen=True)
class Scene:
    """Arrays are (K, J, I), cropped; `affine` is that of the crop, `first` its first voxel (k, j, i) in the files."""

    viewed: Viewed
    images: Mapping[str, NDArray[Any]]
    """Modality -> image."""
    label_maps: Mapping[str, NDArray[np.uint8]]
    affine: NDArray[np.float64]
    spacing_mm: tuple[float, float, float]
    first: tuple[int, int, int]
    grid: tuple[int, int, int]
    """(K, J, I) of the files."""

    @property
    def edition(self) -> Edition:
        """The case's edition."""
        return self.viewed.edition

    def file_names(self) -> list[str]:
        """Return the names that `file` knows: images, label maps and meshes."""
        volumes = [f"{name}.nii" for name in (*self.images, *self.label_maps)]
        return volumes + [f"{_mesh_name(*key)}.mz3" for key in self._mesh_keys]

    def file(self, name: str, *, is_compressed: bool = False) -> bytes:
        """Return the content of a NIfTI or mesh file; meshes are gzipped always, volumes on request."""
        stem, kind = name.rsplit(".", 1)
        if kind == "nii":
            volume = self._nifti(self.images.get(stem, self.label_maps.get(stem)))
            return gzip.compress(volume, compresslevel=6, mtime=0) if is_compressed else volume
        return self._mesh(next(key for key in self._mesh_keys if _mesh_name(*key) == stem))

    def description(self) -> dict[str, Any]:
        """Return what the page is told, as JSON values."""
        edition = self.edition
        return {
            "case": self.viewed.case.name,
            "edition": edition.title,
            "modalities": [self._modality(name, image) for name, image in self.images.items()],
            "missing": [_TITLES.get(name, name) for name in self.viewed.case.missing],
            "label_maps": list(self.label_maps),
            "labels": [asdict(label) for label in edition.labels],
            "regions": {name: sorted(values) for name, values in edition.regions.items()},
            "outlines": _outlines(edition),
            "numbers": region_numbers(edition, self.label_maps, math.prod(self.spacing_mm)),
            "lesion_region": edition.region_names[-1],
            "lesions": self._lesions(),
            "worst": self._worst(),
            "meshes": self._meshes(),
            "affine": self.affine.tolist(),
            "first": self.first[::-1],
            "grid": self.grid[::-1],
            "axes": self._axes(),
            "center_mm": self._center_mm(),
        }

    def _modality(self, name: str, image: NDArray[Any]) -> dict[str, Any]:
        inside = image[image != 0]
        some = inside[:: max(1, inside.size // _SAMPLE)] if inside.size else np.array([0.0, 1.0])
        low, high = np.percentile(some, _WINDOW_PERCENTILES)
        return {
            "name": name,
            "title": _TITLES.get(name, name),
            "window": [float(low), float(max(high, low + 1e-6))],
            "range": [float(image.min()), float(image.max())],
        }

    @cached_property
    def _masks(self) -> dict[str, dict[str, NDArray[np.bool_]]]:
        """Label map -> region -> mask."""
        names = self.edition.region_names
        return {
            which: dict(zip(names, self.edition.regions_from_label_map(label_map), strict=True))
            for which, label_map in self.label_maps.items()
        }

    def _lesions(self) -> list[dict[str, Any]]:
        outermost = self.edition.region_names[-1]
        pair = [self._masks.get(which, {}).get(outermost) for which in ("reference", "prediction")]
        voxel_ml = math.prod(self.spacing_mm) / 1000
        return [
            {
                "status": one.status,
                "ml": one.num_voxels * voxel_ml,
                "share": one.share,
                "mm": self._mm(one.center),
            }
            for one in find_lesions(*pair)
        ]

    def _worst(self) -> dict[str, dict[str, Any]]:
        """Plane -> where most voxels are wrong in any region; nothing where one map is missing, or both are equal."""
        if len(self.label_maps) < 2:
            return {}
        regions = zip(self._masks["reference"].values(), self._masks["prediction"].values(), strict=True)
        wrong = np.logical_or.reduce([one ^ other for one, other in regions])
        planes = {2 - axis: plane for plane, axis in self._axes().items()}
        return {
            planes[one.axis]: {
                "index": one.index + self.first[one.axis],
                "voxels": one.num_voxels,
                "mm": self._mm(one.center),
            }
            for one in worst_slices(wrong)
        }

    def _axes(self) -> dict[str, int]:
        """Return which voxel axis (0, 1, 2: I, J, K) runs across the slices of each plane."""
        world = io_orientation(self.affine)[:, 0].tolist()  # type: ignore[no-untyped-call]
        return {plane: world.index(number) for number, plane in enumerate(("sagittal", "coronal", "axial"))}

    def _center_mm(self) -> list[float]:
        shape = next(iter(self.images.values())).shape
        return self._mm(tuple(n // 2 for n in shape))

    def _mm(self, voxel: Sequence[int]) -> list[float]:
        position: list[float] = (self.affine[:3, :3] @ np.array(voxel[::-1]) + self.affine[:3, 3]).tolist()
        return position

    @cached_property
    def _mesh_keys(self) -> list[tuple[str, str]]:
        keys = [(which, name) for which, masks in self._masks.items() for name, mask in masks.items() if mask.any()]
        return [(_BRAIN, ""), *keys] if keys else []

    def _meshes(self) -> list[dict[str, Any]]:
        colors = {region: _color(self.edition, value) for region, value in self.edition.paint}
        return [
            {
                "of": which,
                "region": region,
                "file": f"{_mesh_name(which, region)}.mz3",
                "color": colors.get(region, _GREY),
            }
            for which, region in self._mesh_keys
        ]

    def _mesh(self, key: tuple[str, str]) -> bytes:
        which, region = key
        if which == _BRAIN:
            brain = np.logical_or.reduce([image != 0 for image in self.images.values()])
            return mz3_bytes(surface_mesh(brain, self.affine, step=_BRAIN_STEP))
        return mz3_bytes(surface_mesh(self._masks[which][region], self.affine))

    def _nifti(self, volume: NDArray[Any] | None) -> bytes:
        if volume is None:
            raise KeyError("no such volume")
        k, j, i = volume.shape
        head = header_for((k, j, i), self.spacing_mm, self.affine, volume.dtype)
        return head + bytes(4) + np.ascontiguousarray(volume, volume.dtype.newbyteorder("<")).tobytes()


def read_scene(viewed: Viewed) -> Scene:
    """Read all files of a case.

    Raises:
        DataError: a file cannot be read, lies on another grid, or has labels that the edition does not have.
    """
    case = viewed.case
    if not case.images:
        raise DataError(f"case {case.name}: no image in {case.folder}")
    stack, headers = read_stack([(file.path, file.channel) for file in case.images.values()])
    label_maps = read_label_maps(viewed, headers[0])
    inside = np.asarray(stack.any(axis=0))
    for label_map in label_maps.values():
        inside |= label_map != 0
    box = _box_of(inside)
    first = tuple(part.start for part in box)
    affine = headers[0].affine.copy()
    affine[:3, 3] += affine[:3, :3] @ np.array(first[::-1])
    images = {name: _drawable(volume[box]) for name, volume in zip(case.images, stack, strict=True)}
    crops = {which: label_map[box] for which, label_map in label_maps.items()}
    return Scene(viewed, images, crops, affine, headers[0].spacing_mm, first, headers[0].grid)


def read_label_maps(viewed: Viewed, header: Header | None = None) -> dict[str, NDArray[np.uint8]]:
    """Return the label maps of a case, (K, J, I), all on the grid of `header` (default: of the first of them).

    Raises:
        DataError: a file cannot be read, lies on another grid, or has labels that the edition does not have.
    """
    found: dict[str, NDArray[np.uint8]] = {}
    for which, path in viewed.label_maps.items():
        found[which], own = read_label_map(path)
        header = header or own
        if difference := same_geometry(header, own):
            remedy = "predict this case again" if which == "prediction" else "resample it"
            raise DataError(f"{which} {path}: {difference}, against the case's other files; {remedy}")
        viewed.edition.check_labels(labels_in(found[which]), f"{which} {path}")
    return found


def region_numbers(
    edition: Edition, label_maps: Mapping[str, NDArray[np.uint8]], voxel_mm3: float
) -> list[dict[str, Any]]:
    """Return volumes (ml) of regions and labels and, with a reference and a prediction, Dice (None: both empty)."""
    if not label_maps:
        return []
    only = next(iter(label_maps.values()))
    counts_of = confusion(label_maps.get("reference", only), label_maps.get("prediction", only), edition)
    rows = []
    for name, counts in counts_of.items():
        ml = {"reference": counts.num_reference, "prediction": counts.num_prediction}
        row: dict[str, Any] = {"name": name, "is_region": name in edition.regions, "dice": None}
        row |= {f"{which}_ml": ml[which] * voxel_mm3 / 1000 if which in label_maps else None for which in ml}
        if len(label_maps) == 2 and not math.isnan(score := dice(counts)):
            row["dice"] = score
        rows.append(row)
    return rows


def _box_of(mask: NDArray[np.bool_]) -> tuple[slice, slice, slice]:
    """Return the smallest box that holds a mask (K, J, I); all of the grid where it is empty."""
    parts = []
    for axis in range(3):
        filled = np.flatnonzero(mask.any(axis=tuple(other for other in range(3) if other != axis)))
        parts.append(slice(int(filled[0]), int(filled[-1]) + 1) if filled.size else slice(0, mask.shape[axis]))
    return parts[0], parts[1], parts[2]


def _drawable(volume: NDArray[Any]) -> NDArray[Any]:
    """Return the volume in a type that NiiVue draws; what is no number becomes 0."""
    if volume.dtype in (np.uint8, np.int16, np.uint16):
        return volume
    return np.nan_to_num(volume.astype(np.float32), posinf=0.0, neginf=0.0)


def _outlines(edition: Edition) -> list[dict[str, Any]]:
    """Return the sets of labels that get an outline, outermost first, and the label in whose colour it is drawn."""
    paint = dict(edition.paint)
    sets = scored_labels(edition)
    regions = [name for name, _ in edition.paint]
    in_regions = set().union(*edition.regions.values())
    others = [one for one in edition.labels if one.value not in in_regions]
    return [{"values": sorted(sets[name]), "color_of": paint[name]} for name in regions] + [
        {"values": [one.value], "color_of": one.value} for one in others
    ]


def _color(edition: Edition, value: int) -> tuple[int, int, int]:
    return next(label.color for label in edition.labels if label.value == value)


def _mesh_name(which: str, region: str) -> str:
    return f"{which}-{region}" if region else which
