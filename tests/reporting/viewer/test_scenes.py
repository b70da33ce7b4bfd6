from __future__ import annotations

from pathlib import Path

import nibabel
import numpy as np
import pytest

from brats_seg.data.cases import Case, ImageFile, find_cases
from brats_seg.data.nifti import header_for, write_label_map, write_volume
from brats_seg.data.phantom_slices import write_images, write_slices
from brats_seg.data.reading import read_label_map
from brats_seg.editions import EDITIONS, get_edition
from brats_seg.errors import DataError
from brats_seg.reporting.viewer.scenes import read_scene, region_numbers
from brats_seg.reporting.viewer.viewed import Viewed

SHAPE = (9, 10, 11)
AFFINE = np.array([[-2.0, 0, 0, 10], [0, -2, 0, 239], [0, 0, 2, -5], [0, 0, 0, 1]])
HEADER = header_for(SHAPE, (2, 2, 2), AFFINE, np.int16)
BRAIN = (slice(1, 8), slice(2, 9), slice(3, 10))


def make_viewed(folder: Path, edition: str = "brats2020", **maps: np.ndarray) -> Viewed:
    """A case of 9 x 10 x 11 voxels of 2 mm with a box of a brain, whose voxels count from 1 on in each modality."""
    image = np.zeros(SHAPE, np.int16)
    image[BRAIN] = np.arange(1, 7**3 + 1).reshape(7, 7, 7)
    files = {}
    for number, modality in enumerate(get_edition(edition).modalities):
        files[modality] = ImageFile(folder / f"a_{modality}.nii.gz")
        write_volume(files[modality].path, image * (number + 1), HEADER)
    for which, label_map in maps.items():
        write_label_map(folder / f"{which}.nii.gz", label_map, HEADER)
    case = Case("a", "a", None, edition, folder, files, None)
    return Viewed(case, {which: folder / f"{which}.nii.gz" for which in maps})


def label_map(*parts: tuple[int, tuple[slice, slice, slice]]) -> np.ndarray:
    values = np.zeros(SHAPE, np.uint8)
    for value, box in parts:
        values[box] = value
    return values


REFERENCE = label_map((2, (slice(3, 6), slice(3, 6), slice(4, 8))), (4, (slice(4, 5), slice(4, 5), slice(5, 7))))
PREDICTION = label_map((2, (slice(3, 6), slice(3, 6), slice(4, 6))), (4, (slice(4, 5), slice(4, 5), slice(5, 6))))


def test_the_crop_keeps_values_and_places(tmp_path):
    scene = read_scene(make_viewed(tmp_path, reference=REFERENCE, prediction=PREDICTION))
    assert scene.first == (1, 2, 3)
    for name, source in (("t1c", "a_t1c"), ("reference", "reference")):
        cropped = nibabel.Nifti1Image.from_bytes(scene.file(f"{name}.nii"))
        whole = nibabel.load(tmp_path / f"{source}.nii.gz")
        assert cropped.shape == (7, 7, 7)
        np.testing.assert_array_equal(cropped.dataobj, np.asarray(whole.dataobj)[3:10, 2:9, 1:8])
        np.testing.assert_allclose(cropped.affine @ (0, 0, 0, 1), whole.affine @ (3, 2, 1, 1))
        np.testing.assert_array_equal(cropped.affine[:3, :3], whole.affine[:3, :3])


def test_a_label_outside_the_brain_is_not_cropped_away(tmp_path):
    stray = label_map((2, (slice(0, 1), slice(9, 10), slice(10, 11))))
    scene = read_scene(make_viewed(tmp_path, prediction=stray))
    assert scene.first == (0, 2, 3)
    assert scene.label_maps["prediction"].sum() == 2


def test_numbers_of_a_case_by_hand(tmp_path):
    rows = {
        row["name"]: row
        for row in read_scene(make_viewed(tmp_path, reference=REFERENCE, prediction=PREDICTION)).description()[
            "numbers"
        ]
    }
    assert list(rows) == ["ET", "TC", "WT", "NCR", "ED"]
    assert rows["WT"]["reference_ml"] == pytest.approx(36 * 8 / 1000)
    assert rows["WT"]["prediction_ml"] == pytest.approx(18 * 8 / 1000)
    assert rows["WT"]["dice"] == pytest.approx(2 * 18 / (36 + 18))
    assert rows["ET"]["dice"] == pytest.approx(2 / 3)
    assert rows["NCR"]["dice"] is None, "empty in both"
    assert rows["WT"]["is_region"]
    assert not rows["ED"]["is_region"]


def test_with_one_label_map_there_are_volumes_and_no_dice(tmp_path):
    described = read_scene(make_viewed(tmp_path, prediction=PREDICTION)).description()
    row = next(row for row in described["numbers"] if row["name"] == "WT")
    assert (row["reference_ml"], row["dice"]) == (None, None)
    assert row["prediction_ml"] == pytest.approx(0.144)
    assert described["worst"] == {}
    assert [one["status"] for one in described["lesions"]] == ["alone"]


def test_a_case_without_label_maps_has_images_alone(tmp_path):
    scene = read_scene(make_viewed(tmp_path))
    described = scene.description()
    assert (described["numbers"], described["lesions"], described["meshes"]) == ([], [], [])
    assert scene.file_names() == ["t1.nii", "t1c.nii", "t2.nii", "flair.nii"]


def test_places_are_millimetres_of_the_files(tmp_path):
    described = read_scene(make_viewed(tmp_path, reference=REFERENCE, prediction=PREDICTION)).description()
    wrong = REFERENCE != PREDICTION
    for plane, axis in (("axial", 0), ("coronal", 1), ("sagittal", 2)):
        worst = described["worst"][plane]
        index = np.linalg.inv(AFFINE) @ (*worst["mm"], 1)
        k, j, i = (round(n) for n in index[2::-1])
        assert wrong[k, j, i]
        assert (k, j, i)[axis] == worst["index"]
        assert worst["voxels"] == wrong.sum(axis=tuple(n for n in range(3) if n != axis)).max()
    assert described["axes"] == {"sagittal": 0, "coronal": 1, "axial": 2}


def test_the_window_leaves_the_background_out(tmp_path):
    t1, t1c, *_ = read_scene(make_viewed(tmp_path)).description()["modalities"]
    assert t1["range"] == [1, 343]
    assert t1["window"] == pytest.approx(np.percentile(np.arange(1, 344), (1, 99.7)))
    assert t1c["window"] == pytest.approx(2 * np.array(t1["window"]))


@pytest.mark.parametrize("edition", EDITIONS)
def test_every_edition_has_an_outline_for_each_of_its_labels(edition, tmp_path):
    labels = get_edition(edition).labels
    everything = label_map(
        *((one.value, (slice(2 + n, 3 + n), slice(3, 6), slice(4, 7))) for n, one in enumerate(labels))
    )
    scene = read_scene(make_viewed(tmp_path, edition, reference=everything))
    described = scene.description()
    outlined = {value for one in described["outlines"] for value in one["values"]}
    assert outlined == {one.value for one in labels}
    assert [one["value"] for one in described["labels"]] == [one.value for one in labels]
    colors = {tuple(one.color) for one in labels}
    meshes = [one for one in described["meshes"] if one["of"] == "reference"]
    assert [one["region"] for one in meshes] == list(get_edition(edition).region_names)
    assert {tuple(one["color"]) for one in meshes} <= colors
    assert all(len(scene.file(one["file"])) > 100 for one in described["meshes"])


def test_a_prediction_on_another_grid_is_an_error(tmp_path):
    viewed = make_viewed(tmp_path, prediction=PREDICTION)
    shifted = AFFINE.copy()
    shifted[0, 3] += 3
    write_label_map(tmp_path / "prediction.nii.gz", PREDICTION, header_for(SHAPE, (2, 2, 2), shifted, np.int16))
    with pytest.raises(DataError, match=r"^prediction .*affine differs .*predict this case again$"):
        read_scene(viewed)


def test_labels_of_another_edition_are_an_error(tmp_path):
    with pytest.raises(DataError, match=r"prediction .*labels .*3"):
        read_scene(make_viewed(tmp_path, prediction=np.where(PREDICTION == 4, 3, PREDICTION).astype(np.uint8)))


def test_numbers_of_no_label_map_are_none():
    assert region_numbers(get_edition("brats2020"), {}, 1.0) == []


def test_slices_and_images_are_shown_as_the_volumes_that_they_are_elsewhere(tmp_path):
    write_slices(tmp_path / "slices", 1, size=40, num_slices=6)
    write_images(tmp_path / "images", 1, size=40)
    for folder, depth, names in (("slices", 6, ["t1", "t1c", "flair"]), ("images", 1, ["grey"])):
        (case,) = find_cases(tmp_path / folder).cases
        scene = read_scene(Viewed(case, {"reference": case.label}))
        assert list(scene.images) == names
        assert scene.grid == (depth, 40, 40)
        label_map, _ = read_label_map(case.label)
        assert scene.label_maps["reference"].sum() == label_map.sum() > 0
        assert scene.description()["axes"]["axial"] == 2
        assert all(scene.file(name) for name in scene.file_names())
