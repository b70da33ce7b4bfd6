"""MONAI transforms that take a case from its files to stored arrays, and from those to what a network sees.

All work in file order, (C, K, J, I), on `monai.transforms.Compose` dictionaries. The same steps on bare arrays are in
`volumes.py` (numpy, where a case is prepared) and at the end of this module (tensors on any device, batched, where a
network is fed). They replace MONAI's own where those are several times slower (LoadImaged's readers, CropForegroundd,
NormalizeIntensityd) or know one edition only (ConvertToMultiChannelBasedOnBratsClassesd); tests hold that both agree.
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from monai.config.type_definitions import KeysCollection
from monai.data.image_reader import ImageReader
from monai.data.meta_tensor import MetaTensor
from monai.transforms.transform import MapTransform
from monai.utils.enums import MetaKeys, SpaceKeys
from numpy.typing import NDArray
from torch import Tensor

from brats_seg.data.cases import ImageFile
from brats_seg.data.header import Header, header_from_bytes
from brats_seg.data.nifti import read_label_map, read_stack, same_geometry
from brats_seg.editions import Edition
from brats_seg.errors import DataError
from brats_seg.preprocessing.volumes import (
    Box,
    as_stored,
    brain_box,
    foreground_voxels,
    intensity_statistics,
    require_finite,
)

__all__ = [
    "HEADER_KEY",
    "CastIntensitiesd",
    "CheckCased",
    "CropToBraind",
    "ForegroundVoxelsd",
    "IntensityStatisticsd",
    "LabelMapReader",
    "LabelMapToRegionsd",
    "NiftiReader",
    "NormalizeBraind",
    "as_stored",
    "brain_bits",
    "brain_box",
    "foreground_voxels",
    "intensity_statistics",
    "keep_brain",
    "normalize_brain",
    "regions_from_labels",
]

HEADER_KEY = "header_hex"
"""Key of a loaded MetaTensor's `meta` under which the first file's 348 header bytes lie, in hexadecimal."""

Data = Mapping[Hashable, Any]


# ---- reading ----


class NiftiReader(ImageReader):
    """MONAI reader of NIfTI files in file order, native type: (K, J, I), or (C, K, J, I) of a list of files.

    For `LoadImaged(keys, reader=NiftiReader, dtype=None, expanduser=False)`. Items are paths or `ImageFile`s. The
    files of a list must share one grid. The affine of the MetaTensor belongs to its own axes: (k, j, i) -> RAS+ mm.

    Reading happens in `get_data`: LoadImage hides what a reader's `read` raises behind its list of other readers.
    """

    def verify_suffix(self, filename: Any) -> bool:
        """Return whether all names end as NIfTI files do."""
        return all(str(path).endswith((".nii", ".nii.gz")) for path, _ in _files(filename))

    def read(self, data: Any, **kwargs: Any) -> Any:
        """Return the files to read, a (path, channel) pair each."""
        return _files(data)

    def get_data(self, img: Any) -> tuple[NDArray[Any], dict[str, Any]]:
        """Return the voxels and their metadata.

        Raises:
            DataError: a file cannot be read, or the files differ in grid.
        """
        stack, headers = read_stack(img)
        return (stack[0], _meta(headers[0], float("nan"))) if len(img) == 1 else (stack, _meta(headers[0], 0))


class LabelMapReader(NiftiReader):
    """MONAI reader of one label map, as uint8 (K, J, I) whatever its type on disk."""

    def get_data(self, img: Any) -> tuple[NDArray[Any], dict[str, Any]]:
        """Return the labels and their metadata.

        Raises:
            DataError: the file cannot be read, or holds anything but whole numbers from 0 to 255.
        """
        label_map, header = read_label_map(img[0][0])
        return label_map, _meta(header, float("nan"))


def _files(data: Any) -> list[tuple[Path, int | None]]:
    items = data if isinstance(data, list | tuple) else [data]
    return [(item.path, item.channel) if isinstance(item, ImageFile) else (Path(item), None) for item in items]


def _meta(header: Header, channel_dim: float) -> dict[str, Any]:
    affine = header.affine[:, [2, 1, 0, 3]]
    return {
        MetaKeys.AFFINE: affine,
        MetaKeys.ORIGINAL_AFFINE: affine.copy(),
        MetaKeys.SPATIAL_SHAPE: np.array(header.grid),
        MetaKeys.SPACE: SpaceKeys.RAS,
        MetaKeys.ORIGINAL_CHANNEL_DIM: channel_dim,
        HEADER_KEY: header.raw.hex(),
    }


class CheckCased(MapTransform):
    """Refuse what no network should learn from: voxels that are not finite, a label map that does not fit.

    Adds `num_labelled`, the labelled voxels of the whole label map, so that a crop that loses some can be told.

    Args:
        keys: the image, as `NiftiReader` loaded it.
        edition: whose labels the label map may have.
        label_key: the label map; passed over where the dictionary has none.
        sources_key: channel -> file name, for messages; may be absent.
    """

    def __init__(
        self, keys: KeysCollection, edition: Edition, label_key: str = "label", sources_key: str = "sources"
    ) -> None:
        super().__init__(keys)
        self.edition = edition
        self.label_key, self.sources_key = label_key, sources_key

    def __call__(self, data: Data) -> dict[Hashable, Any]:
        """Return the dictionary, its arrays unchanged.

        Raises:
            DataError: NaN or infinite voxels; a label map of another shape or place, or with foreign labels.
        """
        d = dict(data)
        for key in self.key_iterator(d):
            require_finite(_array(d[key]), self._names(d.get(self.sources_key, {})))
            if self.label_key in d:
                d["num_labelled"] = self._check_label_map(d[self.label_key], d[key])
        return d

    def _names(self, sources: Mapping[int, str]) -> list[str]:
        """Return `t1 (file)` for each modality of which a file is known."""
        return [f"{m} ({sources[n]})" if n in sources else m for n, m in enumerate(self.edition.modalities)]

    def _check_label_map(self, label: MetaTensor, image: MetaTensor) -> int:
        headers = [header_from_bytes(bytes.fromhex(tensor.meta[HEADER_KEY])) for tensor in (image, label)]
        difference = same_geometry(headers[0], headers[1])
        if difference is not None:
            raise DataError(f"label map: {difference}, against the images; is it of another case, or resampled?")
        label_map = _array(label)
        labelled = label_map[label_map != 0]  # a few per cent: counting all voxels would take as long as reading them
        counts = np.bincount(labelled, minlength=256)
        counts[0] = label_map.size - len(labelled)
        self.edition.check_labels(np.flatnonzero(counts), "label map")
        return len(labelled)


# ---- files to stored arrays (numpy) ----


class CropToBraind(MapTransform):
    """Crop (C, K, J, I) or (K, J, I) arrays to `brain_box` of the source, before any change of type.

    Adds `crop_start` (K, J, I) and `shape`, the shape before cropping, to the dictionary; moves the affine along.
    """

    def __init__(
        self,
        keys: KeysCollection,
        source_key: str = "image",
        *,
        start_key: str = "crop_start",
        shape_key: str = "shape",
        allow_missing_keys: bool = False,
    ) -> None:
        super().__init__(keys, allow_missing_keys)
        self.source_key, self.start_key, self.shape_key = source_key, start_key, shape_key

    def __call__(self, data: Data) -> dict[Hashable, Any]:
        """Return the dictionary with cropped copies."""
        d = dict(data)
        source = _array(d[self.source_key])
        box = brain_box(source)
        d[self.start_key] = tuple(part.start for part in box)
        d[self.shape_key] = tuple(source.shape[1:])
        for key in self.key_iterator(d):
            d[key] = _cropped(d[key], box)
        return d


def _cropped(volume: Any, box: Box) -> Any:
    crop = torch.from_numpy(np.ascontiguousarray(_array(volume)[(..., *box)]))
    if not isinstance(volume, MetaTensor):
        return crop
    affine = volume.affine.clone()
    affine[:3, 3] += affine[:3, :3] @ torch.tensor([part.start for part in box], dtype=affine.dtype)
    moved: MetaTensor = _like(volume, crop)
    moved.affine = affine
    return moved


class CastIntensitiesd(MapTransform):
    """Apply `as_stored`: integers stay integers, at half the size and a fifth of the reading time of floats."""

    def __call__(self, data: Data) -> dict[Hashable, Any]:
        """Return the dictionary with int16 or float32 images."""
        d = dict(data)
        for key in self.key_iterator(d):
            d[key] = _like(d[key], as_stored(_array(d[key])))
        return d


class IntensityStatisticsd(MapTransform):
    """Add the mean and sd of each modality of an image to the dictionary (`intensity_statistics`)."""

    def __init__(self, keys: KeysCollection, mean_key: str = "mean", sd_key: str = "sd") -> None:
        super().__init__(keys)
        self.mean_key, self.sd_key = mean_key, sd_key

    def __call__(self, data: Data) -> dict[Hashable, Any]:
        """Return the dictionary with two more entries."""
        d = dict(data)
        for key in self.key_iterator(d):
            mean, sd = intensity_statistics(_array(d[key]))
            d[self.mean_key], d[self.sd_key] = tuple(mean.tolist()), tuple(sd.tolist())
        return d


class ForegroundVoxelsd(MapTransform):
    """Add `foreground_voxels` of a label map to the dictionary; `name` is the case's name."""

    def __init__(
        self,
        keys: KeysCollection,
        edition: Edition,
        *,
        foreground_key: str = "foreground",
        name_key: str = "name",
        allow_missing_keys: bool = False,
    ) -> None:
        super().__init__(keys, allow_missing_keys)
        self.edition, self.foreground_key, self.name_key = edition, foreground_key, name_key

    def __call__(self, data: Data) -> dict[Hashable, Any]:
        """Return the dictionary with one more entry."""
        d = dict(data)
        for key in self.key_iterator(d):
            d[self.foreground_key] = foreground_voxels(_array(d[key]), self.edition, str(d[self.name_key]))
        return d


# ---- stored arrays to what a network sees (torch, any device) ----


def normalize_brain(image: Tensor, mean: Any, sd: Any, brain: Tensor | None = None) -> Tensor:
    """Return (x - mean) / sd where x is not 0, and 0 where it is, as float32.

    Args:
        image: (..., modality, K, J, I), raw values of any type; on any device, not changed.
        mean: (modality,), or one of each sample (..., modality).
        sd: as `mean`.
        brain: `brain_bits` of the image, where they are known.
    """
    raw = image.as_subclass(Tensor) if isinstance(image, MetaTensor) else image
    mean, sd = (torch.as_tensor(v, dtype=torch.float32, device=raw.device).expand(raw.shape[:-3]) for v in (mean, sd))
    if raw.device.type != "cpu":
        result = raw.to(torch.float32, copy=True).sub_(mean[..., None, None, None]).div_(sd[..., None, None, None])
        return keep_brain(result, brain_bits(raw) if brain is None else brain)
    result = torch.empty(raw.shape, dtype=torch.float32)
    volumes = zip(result.flatten(0, -4), raw.flatten(0, -4), mean.flatten(), sd.flatten(), strict=True)
    for number, (volume, of_raw, of_mean, of_sd) in enumerate(volumes):  # one by one, in the processor's cache
        bits = brain_bits(of_raw) if brain is None else brain.flatten(0, -4)[number]
        keep_brain(volume.copy_(of_raw).sub_(of_mean).div_(of_sd), bits)
    return result


def brain_bits(raw: Tensor) -> Tensor:
    """Return int32 of the same shape: all bits set where x is not 0, none where it is (see `keep_brain`)."""
    return raw.bool().to(torch.int32).neg_()


def keep_brain(image: Tensor, bits: Tensor) -> Tensor:
    """Set float32 voxels to 0 where `bits` are not set, in place; on a CPU ten times faster than `masked_fill_`."""
    image.view(torch.int32).bitwise_and_(bits)
    return image


def regions_from_labels(label_map: Tensor, edition: Edition, *, check: bool = False) -> Tensor:
    """Return the region masks, (..., region, K, J, I) uint8, of label maps (..., K, J, I) of one edition.

    Args:
        label_map: values of the edition; any integer type, any device.
        edition: whose labels they are.
        check: refuse labels that the edition does not have. `prepare` has done that for a store's label maps, and on a
            GPU the question costs a synchronisation.

    Raises:
        DataError: (check) there are foreign labels.
    """
    labels = label_map.as_subclass(Tensor) if isinstance(label_map, MetaTensor) else label_map
    if check:
        edition.check_labels(np.unique(labels.cpu().numpy()).tolist())
    table = _region_bits(tuple(edition.regions.values()), labels.device)
    regions_of = table.index_select(0, labels.flatten().to(torch.int32)).view(labels.shape)
    return torch.stack([(regions_of >> region) & 1 for region in range(len(edition.regions))], dim=-4)


@lru_cache(maxsize=64)
def _region_bits(regions: tuple[frozenset[int], ...], device: torch.device) -> Tensor:
    """Return a number for each label 0 ... 255 whose bits are the regions it belongs to, uint8."""
    table = torch.zeros(256, dtype=torch.uint8)
    for region, labels in enumerate(regions):
        table[sorted(labels)] += 1 << region
    return table.to(device)


class NormalizeBraind(MapTransform):
    """Apply `normalize_brain` with the moments that `IntensityStatisticsd` found."""

    def __init__(self, keys: KeysCollection, mean_key: str = "mean", sd_key: str = "sd") -> None:
        super().__init__(keys)
        self.mean_key, self.sd_key = mean_key, sd_key

    def __call__(self, data: Data) -> dict[Hashable, Any]:
        """Return the dictionary with float32 images."""
        d = dict(data)
        for key in self.key_iterator(d):
            image = torch.as_tensor(d[key])
            d[key] = _like(d[key], normalize_brain(image, d[self.mean_key], d[self.sd_key]))
        return d


class LabelMapToRegionsd(MapTransform):
    """Turn a label map (K, J, I) into region masks (region, K, J, I), uint8, in the edition's order (ET, TC, WT).

    MONAI's own converter gives TC, WT, ET, knows one edition and drops labels that it does not know; this refuses them.
    """

    def __init__(self, keys: KeysCollection, edition: Edition, *, allow_missing_keys: bool = False) -> None:
        super().__init__(keys, allow_missing_keys)
        self.edition = edition

    def __call__(self, data: Data) -> dict[Hashable, Any]:
        """Return the dictionary with region masks.

        Raises:
            DataError: a label that the edition does not have.
        """
        d = dict(data)
        for key in self.key_iterator(d):
            d[key] = _like(d[key], regions_from_labels(torch.as_tensor(d[key]), self.edition, check=True))
        return d


def _array(volume: Any) -> NDArray[Any]:
    """Return a tensor's own memory, or an array, as numpy."""
    tensor = volume.as_tensor() if isinstance(volume, MetaTensor) else volume
    return np.asarray(tensor)


def _like(old: Any, new: Any) -> Any:
    """Return `new` as a tensor, with the affine and metadata of `old` where that has them."""
    tensor = torch.as_tensor(new)
    return MetaTensor(tensor, meta=old.meta) if isinstance(old, MetaTensor) else tensor
