from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from monai.data import MetaTensor
from monai.transforms import (
    Compose,
    ConvertToMultiChannelBasedOnBratsClasses,
    CropForegroundd,
    EnsureChannelFirstd,
    LoadImaged,
    NormalizeIntensity,
    NormalizeIntensityd,
)

from brats_seg.data.cases import ImageFile
from brats_seg.data.nifti import header_for, read_volume, write_volume
from brats_seg.editions import EDITIONS, get_edition
from brats_seg.errors import DataError
from brats_seg.preprocessing.transforms import (
    CastIntensitiesd,
    CheckCased,
    CropToBraind,
    ForegroundVoxelsd,
    IntensityStatisticsd,
    LabelMapReader,
    LabelMapToRegionsd,
    NiftiReader,
    NormalizeBraind,
    normalize_brain,
    regions_from_labels,
)

AFFINE = np.array([[-1.0, 0, 0, 0], [0, -1, 0, 239], [0, 0, 3, 0], [0, 0, 0, 1]])
SPACING = (3.0, 1.0, 1.0)


@pytest.fixture
def files(tmp_path: Path) -> dict[str, Any]:
    """Two modalities and a label map of 6 x 7 x 8 with a brain of 3 x 4 x 5 from (2, 1, 3) on."""
    random = np.random.default_rng(0)
    paths = [tmp_path / f"{name}.nii.gz" for name in ("a", "b", "seg")]
    brain = random.integers(1, 3000, (2, 3, 4, 5), np.int16)
    labels = random.choice(np.array([0, 1, 2, 4], np.uint8), (3, 4, 5))
    for path, values in zip(paths, (*brain, labels), strict=True):
        volume = np.zeros((6, 7, 8), values.dtype)
        volume[2:5, 1:5, 3:8] = values
        write_volume(path, volume, header_for((6, 7, 8), SPACING, AFFINE, volume.dtype))
    return {"name": "case", "image": [str(path) for path in paths[:2]], "label": str(paths[2])}


def _load(files: dict[str, Any], **more: Any) -> dict[str, Any]:
    return Compose(
        [
            LoadImaged("image", reader=NiftiReader, dtype=None, expanduser=False),
            LoadImaged("label", reader=LabelMapReader, dtype=None, expanduser=False),
        ]
    )({**files, **more})


def _ours(files: dict[str, Any]) -> dict[str, Any]:
    steps = [
        CheckCased("image", get_edition("brats2020")),
        CropToBraind(["image", "label"]),
        CastIntensitiesd("image"),
        IntensityStatisticsd("image"),
        ForegroundVoxelsd("label", get_edition("brats2020")),
        NormalizeBraind("image"),
        LabelMapToRegionsd("label", get_edition("brats2020")),
    ]
    return Compose(steps)(_load(files))


def _monais(files: dict[str, Any]) -> dict[str, Any]:
    steps = [
        LoadImaged(["image", "label"]),
        EnsureChannelFirstd("label", channel_dim="no_channel"),
        CropForegroundd(["image", "label"], source_key="image", select_fn=lambda x: x != 0, allow_smaller=True),
        NormalizeIntensityd("image", nonzero=True, channel_wise=True),
    ]
    return Compose(steps)(files)


# ---- reader ----


def test_reader_gives_file_order_and_own_type(files: dict[str, Any]) -> None:
    loaded = _load(files)
    assert loaded["image"].dtype == torch.int16
    assert loaded["label"].dtype == torch.uint8
    for channel, path in zip(loaded["image"], files["image"], strict=True):
        np.testing.assert_array_equal(channel, read_volume(Path(path))[0])


def test_reader_agrees_with_monais_up_to_the_order_of_axes(files: dict[str, Any]) -> None:
    ours, monais = _load(files), LoadImaged(["image", "label"])(files)
    np.testing.assert_array_equal(ours["image"], np.moveaxis(monais["image"].numpy(), [1, 2, 3], [3, 2, 1]))
    np.testing.assert_array_equal(ours["label"], monais["label"].numpy().T)
    voxel = torch.tensor([2.0, 1, 3, 1], dtype=torch.float64)  # k, j, i
    np.testing.assert_allclose(ours["image"].affine @ voxel, monais["image"].affine @ voxel[[2, 1, 0, 3]])


def test_reader_takes_image_files_with_channels(tmp_path: Path) -> None:
    volumes = np.arange(48, dtype=np.int16).reshape(2, 2, 3, 4)
    write_volume(tmp_path / "a.nii.gz", volumes, header_for((2, 3, 4), (1.0, 1.0, 1.0), np.eye(4), "i2"))
    path = tmp_path / "a.nii.gz"
    loaded = _load_image([ImageFile(path, 1), ImageFile(path, 0)])
    np.testing.assert_array_equal(loaded, volumes[[1, 0]])


def test_one_file_gives_three_axes(files: dict[str, Any]) -> None:
    assert _load_image(files["image"][0]).shape == (6, 7, 8)


def _load_image(image: Any) -> MetaTensor:
    loaded: MetaTensor = LoadImaged("image", reader=NiftiReader, dtype=None, expanduser=False)({"image": image})[
        "image"
    ]
    return loaded


def test_reader_knows_nifti_names() -> None:
    assert NiftiReader().verify_suffix(["a.nii", Path("b.nii.gz")])
    assert not NiftiReader().verify_suffix("a.mha")


def test_bad_file_is_told_not_handed_to_other_readers(tmp_path: Path) -> None:
    (tmp_path / "a.nii.gz").write_text("<html>")
    with pytest.raises(DataError, match="not a NIfTI file"):
        _load_image(str(tmp_path / "a.nii.gz"))


# ---- the whole chain against MONAI's own ----


def test_chain_agrees_with_monais_transforms(files: dict[str, Any]) -> None:
    ours, monais = _ours(files), _monais(files)
    expected = np.moveaxis(monais["image"].numpy(), [1, 2, 3], [3, 2, 1])
    np.testing.assert_allclose(ours["image"], expected, atol=1e-6)
    regions = ConvertToMultiChannelBasedOnBratsClasses()(monais["label"])  # TC, WT, ET and (I, J, K)
    np.testing.assert_array_equal(ours["label"], np.moveaxis(regions.numpy()[[2, 0, 1]], [1, 2, 3], [3, 2, 1]))


@pytest.mark.data
def test_chain_agrees_with_monais_transforms_on_a_real_case(real_data: Path) -> None:
    label = sorted(real_data.rglob("BraTS2021_*_seg.nii.gz"))[0]
    files = {
        "name": "real",
        "image": [str(label).replace("_seg", f"_{m}") for m in ("t1", "t1ce", "t2", "flair")],
        "label": str(label),
    }
    ours, monais = _ours(files), _monais(files)
    expected = np.moveaxis(monais["image"].numpy(), [1, 2, 3], [3, 2, 1])
    assert np.abs(ours["image"].numpy() - expected).max() < 5e-6  # MONAI sums 1.4 million voxels in float32
    np.testing.assert_array_equal(ours["label"][2], (monais["label"][0] != 0).numpy().T)


# ---- crop, checks, moments ----


def test_crop_tells_where_it_was_taken_and_moves_the_affine(files: dict[str, Any]) -> None:
    whole = _load(files)
    cropped = CropToBraind(["image", "label"])(whole)
    assert cropped["crop_start"] == (2, 1, 3)
    assert cropped["shape"] == (6, 7, 8)
    assert cropped["image"].shape == (2, 3, 4, 5)
    assert cropped["label"].shape == (3, 4, 5)
    np.testing.assert_array_equal(cropped["image"], whole["image"][:, 2:5, 1:5, 3:8])
    # voxel (0, 0, 0) of the crop is voxel i=3, j=1, k=2 of the file: x = -3, y = 239 - 1, z = 3 * 2
    np.testing.assert_allclose(cropped["image"].affine[:3, 3], [-3, 238, 6])
    np.testing.assert_allclose(whole["image"].affine[:3, 3], [0, 239, 0])


def test_foreign_labels_are_refused(files: dict[str, Any]) -> None:
    with pytest.raises(DataError, match=r"labels \[0, 1, 2, 4\], but edition brats2023-gli has \[0, 1, 2, 3\]"):
        CheckCased("image", get_edition("brats2023-gli"))(_load(files))


def test_label_map_of_another_shape_or_place_is_refused(files: dict[str, Any], tmp_path: Path) -> None:
    moved = AFFINE.copy()
    moved[0, 3] = 5
    for shape, affine, message in (((6, 7, 9), AFFINE, "label map: shape 6x7x9"), ((6, 7, 8), moved, "affine differs")):
        path = tmp_path / "other.nii"
        write_volume(path, np.zeros(shape, np.uint8), header_for(shape, SPACING, affine, "u1"))
        with pytest.raises(DataError, match=message):
            CheckCased("image", get_edition("brats2020"))(_load(files, label=str(path)))


def test_check_counts_labelled_voxels(files: dict[str, Any]) -> None:
    loaded = _load(files)
    assert CheckCased("image", get_edition("brats2020"))(loaded)["num_labelled"] == int((loaded["label"] != 0).sum())


def test_moments_equal_monais(files: dict[str, Any]) -> None:
    found = IntensityStatisticsd("image")(_load(files))
    for channel, mean, sd in zip(found["image"].as_tensor(), found["mean"], found["sd"], strict=True):
        nonzero = channel[channel != 0].numpy()
        np.testing.assert_allclose([mean, sd], [NormalizeIntensity._mean(nonzero), NormalizeIntensity._std(nonzero)])


# ---- normalising ----


def _raw(dtype: torch.dtype = torch.int16) -> torch.Tensor:
    values = torch.from_numpy(np.random.default_rng(1).integers(-5, 900, (2, 3, 4, 5, 6))).to(dtype)
    return values * (values % 3 != 0)


def test_normalising_equals_the_formula_in_numpy() -> None:
    raw, mean, sd = _raw(), [100.0, 333.25, 7.0], [20.0, 1.5, 300.0]
    m, s = (np.array(v, np.float32)[:, None, None, None] for v in (mean, sd))
    expected = np.where(raw.numpy() != 0, (raw.numpy().astype(np.float32) - m) / s, np.float32(0))
    normalized = normalize_brain(raw, mean, sd)
    assert normalized.dtype == torch.float32
    np.testing.assert_array_equal(normalized, expected)
    assert not np.signbit(normalized.numpy()[raw.numpy() == 0]).any()


def test_each_sample_of_a_batch_has_its_own_moments() -> None:
    raw = _raw()
    mean, sd = torch.tensor([[1.0, 2, 3], [4, 5, 6]]), torch.tensor([[1.0, 2, 4], [8, 16, 32]])
    together = normalize_brain(raw, mean, sd)
    for sample in range(2):
        alone = normalize_brain(raw[sample], mean[sample], sd[sample])
        np.testing.assert_array_equal(together[sample], alone)


def test_normalising_does_not_change_its_input() -> None:
    raw = _raw(torch.float32)
    before = raw.clone()
    normalize_brain(raw, [1.0] * 3, [2.0] * 3)
    np.testing.assert_array_equal(raw, before)


@pytest.mark.gpu
def test_normalising_on_a_gpu_equals_the_cpus() -> None:
    mean, sd = [100.0, 333.25, 7.0], [20.0, 1.5, 300.0]
    on_gpu = normalize_brain(_raw().cuda(), mean, sd)
    assert on_gpu.is_cuda
    torch.testing.assert_close(on_gpu.cpu(), normalize_brain(_raw(), mean, sd), rtol=1e-6, atol=1e-7)


# ---- regions ----


@pytest.mark.parametrize("name", sorted(EDITIONS))
def test_regions_equal_those_of_the_edition(name: str) -> None:
    edition = get_edition(name)
    values = np.array(edition.label_values, np.uint8)
    label_map = np.random.default_rng(2).choice(values, (3, 4, 5))
    masks = regions_from_labels(torch.from_numpy(label_map), edition)
    assert masks.dtype == torch.uint8
    np.testing.assert_array_equal(masks, edition.regions_from_label_map(label_map))


def test_regions_of_a_batch_have_their_axis_before_the_volumes() -> None:
    labels = torch.from_numpy(np.random.default_rng(3).choice(np.array([0, 1, 2, 4], np.uint8), (2, 3, 4, 5)))
    edition = get_edition("brats2020")
    masks = regions_from_labels(labels, edition)
    assert masks.shape == (2, 3, 3, 4, 5)
    np.testing.assert_array_equal(masks[1], regions_from_labels(labels[1], edition))


def test_region_transform_refuses_labels_that_monais_would_drop() -> None:
    label = torch.tensor([[[0, 3]]], dtype=torch.uint8)
    with pytest.raises(DataError, match=r"labels \[0, 3\], but edition brats2020"):
        LabelMapToRegionsd("label", get_edition("brats2020"))({"label": label})
    assert regions_from_labels(label, get_edition("brats2020")).sum() == 0  # unchecked: prepare has checked before
