"""Synthetic cases: determined by their numbers, true to each edition, and as hard for a threshold as real ones."""

from __future__ import annotations

import csv
import hashlib
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import ndimage

from brats_seg.cli import run
from brats_seg.data.cases import find_cases
from brats_seg.data.phantom import Phantom, case_name, kind_of, make_phantom, write_download
from brats_seg.data.phantom_shapes import _spline_weights, smooth_noise, smoothed
from brats_seg.data.phantom_tumor import Growth, Kind, plan_lesions
from brats_seg.editions import EDITIONS
from brats_seg.errors import UsageError

VOLUMES = [name for name, edition in EDITIONS.items() if not edition.is_two_dimensional]

SMALL = (40, 56, 56)
DEMO = (78, 120, 120)

HASH = """
import hashlib
from brats_seg.data.phantom import make_phantom
case = make_phantom(3, 1, shape=(40, 56, 56))
print(hashlib.sha256(b"".join(a.tobytes() for a in (*case.images.values(), case.label_map))).hexdigest())
"""


def voxels_of(case: Phantom, label: str) -> int:
    """Number of voxels of the label of that name."""
    value = next(one.value for one in case.edition.labels if one.name == label)
    return int((case.label_map == value).sum())


def best_threshold_dice(image: NDArray[np.int16], mask: NDArray[np.bool_]) -> float:
    """Largest Dice that `image >= t` reaches against a mask over all t."""
    inside = np.bincount(image[mask], minlength=int(image.max()) + 1)[::-1].cumsum()
    above = np.bincount(image.ravel())[::-1].cumsum()
    return float((2 * inside / (above + mask.sum())).max())


def files_below(folder: Path) -> list[str]:
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())


# ---- determined by (seed, index, shape, edition) ----


def test_same_numbers_give_the_same_case_whatever_the_number_of_threads() -> None:
    case = make_phantom(3, 1, shape=SMALL)
    here = hashlib.sha256(b"".join(a.tobytes() for a in (*case.images.values(), case.label_map))).hexdigest()
    env = os.environ | {"OMP_NUM_THREADS": "3", "OPENBLAS_NUM_THREADS": "3"}
    there = subprocess.run([sys.executable, "-c", HASH], env=env, capture_output=True, text=True, check=True)
    assert there.stdout.strip() == here


@pytest.mark.parametrize(("seed", "index"), [(4, 1), (3, 2)])
def test_another_seed_or_index_shows_another_patient(seed: int, index: int) -> None:
    first, other = make_phantom(3, 1, shape=SMALL), make_phantom(seed, index, shape=SMALL)
    assert not np.array_equal(first.images["t1"] > 0, other.images["t1"] > 0)


def test_noise_is_exactly_what_whole_numbers_give() -> None:
    shape, cell = (30, 41, 52), 5.5
    fast = smooth_noise(np.random.default_rng(0), shape, cell)
    a, b, c = (_spline_weights(n, cell).astype(np.int64) for n in shape)
    nodes = np.random.default_rng(0).standard_normal((a.shape[1], b.shape[1], c.shape[1]), dtype=np.float32)
    v = np.rint(np.clip(nodes, -5, 5) * 2048).astype(np.int64)
    v = np.rint(np.einsum("kji,Ii->kjI", v, c) / 512).astype(np.int64)
    v = np.rint(np.einsum("kji,Jj->kJi", v, b) / 512).astype(np.int64)
    v = np.einsum("kji,Kk->Kji", v, a)
    np.testing.assert_array_equal(fast, v.astype(np.float32) * np.float32(1 / (2048 * 512 * (151 / 315) ** 1.5)))


def test_noise_has_mean_zero_and_standard_deviation_one() -> None:
    noise = smooth_noise(np.random.default_rng(1), (80, 80, 80), 2)
    # mean of 40^3 nodes over the noise's own .332: standard error 1 / (253 * .332) = .012
    assert abs(noise.mean()) < 0.05
    assert abs(noise.std() - 1) < 0.05


def test_smoothing_spreads_one_voxel_by_1_2_1_over_four_along_each_axis() -> None:
    volume = np.zeros((5, 5, 5), np.float32)
    volume[2, 2, 2] = 64
    result = smoothed(volume)
    assert result[2, 2].tolist() == [0, 4, 8, 4, 0]  # 64 * (2/4) * (2/4) * (1, 2, 1)/4
    assert result[:, 2, 1].tolist() == [0, 2, 4, 2, 0]
    assert result.sum() == 64


# ---- what is in a case ----


def test_background_is_zero_and_the_brain_is_not_in_every_modality() -> None:
    case = make_phantom(0, 1, shape=DEMO)
    brain = case.images["t1"] != 0
    assert case.label_map.shape == DEMO
    assert 0.1 < brain.mean() < 0.2  # of the real grids 15 to 17 percent are brain
    for image in case.images.values():
        assert image.dtype == np.int16
        assert image.min() == 0
        np.testing.assert_array_equal(image != 0, brain)
    assert not case.label_map[~brain].any()


def test_the_four_contrasts_are_those_of_mr() -> None:
    case = make_phantom(0, 1, shape=DEMO)
    et, edema = case.label_map == 4, case.label_map == 2
    healthy = (case.images["t1"] > 0) & (case.label_map == 0)
    mean = {m: [image[mask].mean() for mask in (healthy, edema, et)] for m, image in case.images.items()}
    assert mean["t1"][1] < mean["t1"][0]  # dark on T1
    assert mean["t1c"][2] > 1.5 * mean["t1c"][1]  # enhances
    assert mean["t2"][1] > 1.2 * mean["t2"][0]
    assert mean["flair"][1] > 1.2 * mean["flair"][0]


@pytest.mark.parametrize("seed", range(3))
def test_every_set_of_ten_has_the_special_cases(seed: int) -> None:
    cases = {index: make_phantom(seed, index, shape=SMALL) for index in range(1, 11)}
    kinds = {kind: [cases[index] for index in cases if kind_of(index) is kind] for kind in Kind}
    assert all(kinds.values())
    assert not any(case.has_et for case in kinds[Kind.NO_ET])
    assert all(1 <= voxels_of(case, "ET") < 10 for case in kinds[Kind.TINY_ET])
    assert all(1 <= voxels_of(case, "NCR") < 10 for case in kinds[Kind.TINY_NECROSIS])
    assert all(ndimage.label(case.label_map)[1] > 1 for case in kinds[Kind.MULTIFOCAL])
    assert all(_distance_to_box(case) <= 1 for case in kinds[Kind.AT_EDGE])
    assert all(voxels_of(case, "ET") >= 10 and voxels_of(case, "NCR") >= 10 for case in kinds[Kind.USUAL])


def test_special_lesions_are_planned_as_their_kind_says() -> None:
    growth = Growth(num_lesions=(1, 1))
    for seed in range(5):
        many = plan_lesions(np.random.default_rng(seed), growth, Kind.MULTIFOCAL)
        at_edge = plan_lesions(np.random.default_rng(seed), growth, Kind.AT_EDGE)[0]
        usual = plan_lesions(np.random.default_rng(seed), growth, Kind.USUAL)[0]
        assert len(many) == 3
        assert np.linalg.norm(at_edge.centre) == pytest.approx(0.85)  # the surface is at 1
        assert abs(at_edge.centre[2]) > 0.6  # to the side, where the box is
        assert 0.3 <= np.linalg.norm(usual.centre) <= 0.72


def _distance_to_box(case: Phantom) -> int:
    """Voxels between the tumour and the nearest side of the box around the brain."""
    brain, tumor = (ndimage.find_objects(mask.astype(int))[0] for mask in (case.images["t1"] > 0, case.label_map > 0))
    return min(min(t.start - b.start, b.stop - t.stop) for b, t in zip(brain, tumor, strict=True))


@pytest.fixture(scope="module")
def twenty_cases() -> list[Phantom]:
    """The first cases that the demo makes."""
    return [make_phantom(0, index, shape=DEMO) for index in range(1, 21)]


def test_no_flair_threshold_finds_the_tumor_well_on_average(twenty_cases: list[Phantom]) -> None:
    best = [best_threshold_dice(case.images["flair"], case.label_map > 0) for case in twenty_cases]
    assert 0.6 < np.mean(best) <= 0.8  # on 28 real cases .69, from .14 to .95
    assert min(best) < 0.5
    assert max(best) > 0.8


def test_no_t1c_threshold_finds_the_enhancing_tumor_well_on_average(twenty_cases: list[Phantom]) -> None:
    cases = [case for case in twenty_cases if case.has_et]
    assert np.mean([best_threshold_dice(case.images["t1c"], case.label_map == 4) for case in cases]) < 0.7


# ---- editions ----


@pytest.mark.parametrize("edition", VOLUMES)
def test_ten_cases_have_every_label_of_their_edition_and_no_other(edition: str) -> None:
    found: set[int] = set()
    for index in range(1, 11):
        case = make_phantom(0, index, shape=SMALL, edition=edition)
        assert tuple(case.images) == EDITIONS[edition].modalities
        found |= set(np.unique(case.label_map).tolist())
    assert found == set(EDITIONS[edition].label_values)


def test_one_patient_has_the_same_images_and_regions_in_2020_and_2023() -> None:
    old, new = (make_phantom(5, 1, shape=SMALL, edition=edition) for edition in ("brats2020", "brats2023-gli"))
    assert sorted(np.unique(old.label_map)) == [0, 1, 2, 4]
    assert sorted(np.unique(new.label_map)) == [0, 1, 2, 3]
    np.testing.assert_array_equal(np.where(old.label_map == 4, 3, old.label_map), new.label_map)
    np.testing.assert_array_equal(old.images["flair"], new.images["flair"])


@pytest.mark.parametrize("edition", VOLUMES)
def test_case_names_are_the_editions_own(edition: str) -> None:
    names = [case_name(edition, index) for index in (1, 2, 17)]
    assert len(set(names)) == 3
    assert all(EDITIONS[edition].patient_of(name) for name in names)


def test_without_a_shape_the_grid_is_the_editions() -> None:
    assert make_phantom(0, 1, edition="brats2024-gli").label_map.shape == (182, 218, 182)


def test_a_grid_too_small_for_a_head_is_refused() -> None:
    with pytest.raises(UsageError, match=r"shape \(8, 56, 56\).*at least 16"):
        make_phantom(0, 1, shape=(8, 56, 56))


def test_the_affine_is_that_of_brats() -> None:
    full = Phantom(EDITIONS["brats2020"], {}, np.zeros((155, 240, 240), np.uint8), 1.0)
    assert full.affine.tolist() == [[-1, 0, 0, 0], [0, -1, 0, 239], [0, 0, 1, 0], [0, 0, 0, 1]]
    assert nib.aff2axcodes(full.affine) == ("L", "P", "S")


def test_larger_voxels_cover_the_same_field_of_view() -> None:
    case = make_phantom(0, 1, shape=DEMO)
    # 120 voxels of 2 mm for 240 of 1 mm: the first centre lies half a millimetre further in, at J 239 - 0.5
    assert case.spacing_mm == 2
    assert case.affine[:, :3].tolist() == [[-2, 0, 0], [0, -2, 0], [0, 0, 2], [0, 0, 0]]
    # along K 78 * 2 = 156 mm for 155: half a millimetre stands out at each end, so the first centre is at 0.5 - 0.5
    assert case.affine[:3, 3].tolist() == [-0.5, 238.5, 0.0]


# ---- on disk ----


def test_brats2020_is_written_exactly_as_its_download(tmp_path: Path) -> None:
    paths = write_download(tmp_path, 2, shape=SMALL)
    folder = tmp_path / "MICCAI_BraTS2020_TrainingData"
    assert paths == [folder / "BraTS20_Training_001", folder / "BraTS20_Training_002"]
    assert files_below(tmp_path)[:6] == [
        *(
            f"MICCAI_BraTS2020_TrainingData/BraTS20_Training_001/BraTS20_Training_001_{token}.nii.gz"
            for token in ("flair", "seg", "t1", "t1ce", "t2")
        ),
        "MICCAI_BraTS2020_TrainingData/BraTS20_Training_002/BraTS20_Training_002_flair.nii.gz",
    ]
    image = nib.load(paths[0] / "BraTS20_Training_001_t1ce.nii.gz")
    case = make_phantom(0, 1, shape=SMALL)
    assert image.get_data_dtype() == np.int16
    assert (int(image.header["qform_code"]), int(image.header["sform_code"])) == (1, 1)
    np.testing.assert_allclose(image.header.get_qform(), image.header.get_sform(), atol=1e-4)
    np.testing.assert_allclose(image.affine, case.affine, atol=1e-4)
    np.testing.assert_array_equal(np.asarray(image.dataobj).T, case.images["t1c"])


def test_name_mapping_tells_grade_and_site_and_grows_with_a_second_call(tmp_path: Path) -> None:
    write_download(tmp_path, 1, shape=SMALL, first=3)
    write_download(tmp_path, 2, shape=SMALL)
    with (tmp_path / "MICCAI_BraTS2020_TrainingData/name_mapping.csv").open() as file:
        rows = {row["BraTS_2020_subject_ID"]: row for row in csv.DictReader(file)}
    assert {name: row["Grade"] for name, row in rows.items()} == {
        "BraTS20_Training_001": "HGG",
        "BraTS20_Training_002": "HGG",
        "BraTS20_Training_003": "LGG",  # the one without ET
    }
    sites = {case.name: case.site for case in find_cases(tmp_path).cases}
    assert len(set(sites.values())) == 3
    assert all(f"_{site}_" in rows[name]["BraTS_2019_subject_ID"] for name, site in sites.items())


@pytest.mark.parametrize("edition", VOLUMES)
def test_discovery_finds_every_case_of_every_edition(edition: str, tmp_path: Path) -> None:
    write_download(tmp_path, 2, shape=(20, 28, 28), edition=edition)
    found = find_cases(tmp_path, edition=edition)
    assert [case.name for case in found.cases] == sorted(case_name(edition, index) for index in (1, 2))
    assert all(case.label is not None for case in found.cases)
    assert not found.passed_over


def test_the_audit_finds_nothing_but_the_small_grid(tmp_path: Path) -> None:
    write_download(tmp_path / "download", 3, shape=SMALL)
    assert run(["check", str(tmp_path / "download"), "--json", str(tmp_path / "report.json"), "--quiet"]) == 0
    findings = json.loads((tmp_path / "report.json").read_text())["findings"]
    assert {finding["check"] for finding in findings if finding["severity"] != "note"} == {"grid"}


def test_msd_holds_all_modalities_in_one_file_in_its_own_order(tmp_path: Path) -> None:
    (path,) = write_download(tmp_path, 1, shape=SMALL, edition="msd-task01")
    case = make_phantom(0, 1, shape=SMALL, edition="msd-task01")
    stack = np.asarray(nib.load(path).dataobj).T
    assert path.relative_to(tmp_path).as_posix() == "Task01_BrainTumour/imagesTr/BRATS_001.nii.gz"
    for channel, modality in enumerate(("flair", "t1", "t1c", "t2")):
        np.testing.assert_array_equal(stack[channel], case.images[modality])
    description = json.loads((tmp_path / "Task01_BrainTumour/dataset.json").read_text())
    assert description["modality"] == {"0": "FLAIR", "1": "T1w", "2": "T1gd", "3": "T2w"}
    assert description["numTraining"] == 1


def test_validation_cases_have_no_label_maps(tmp_path: Path) -> None:
    (path,) = write_download(tmp_path, 1, shape=SMALL, is_labelled=False, suffix=".nii")
    assert path == tmp_path / "MICCAI_BraTS2020_ValidationData/BraTS20_Validation_001"
    assert sorted(p.name.split("_")[-1] for p in path.iterdir()) == ["flair.nii", "t1.nii", "t1ce.nii", "t2.nii"]


@pytest.mark.parametrize("label_dtype", [np.float32, np.uint16])
def test_odd_types_and_a_header_without_sform_on_request(label_dtype: Any, tmp_path: Path) -> None:
    (path,) = write_download(
        tmp_path, 1, shape=SMALL, image_dtype=np.float32, label_dtype=label_dtype, sform_code=0, edition="brats2021"
    )
    image, label_map = (nib.load(path / f"{path.name}_{token}.nii.gz") for token in ("t1", "seg"))
    case = make_phantom(0, 1, shape=SMALL, edition="brats2021")
    assert (image.get_data_dtype(), label_map.get_data_dtype()) == (np.float32, label_dtype)
    assert (int(image.header["qform_code"]), int(image.header["sform_code"])) == (1, 0)
    np.testing.assert_allclose(image.affine, case.affine, atol=1e-4)
    np.testing.assert_array_equal(np.asarray(label_map.dataobj).T, case.label_map)
