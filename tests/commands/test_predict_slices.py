"""`brats-seg predict` of 2D sets: stacks, mask pictures, and an evaluation of them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from brats_seg.cli import run
from brats_seg.commands.inputs import read_request
from brats_seg.data.phantom_slices import sliced_case_name, write_slices
from brats_seg.data.reading import read_label_map


@pytest.fixture(scope="module")
def predicted(tmp_path_factory: pytest.TempPathFactory, tiny_recipe: Path) -> Path:
    """A set of three patients, a run of a few steps on it, and its predictions. Tests only read it."""
    root = tmp_path_factory.mktemp("slices")
    write_slices(root / "set", 3, size=40, num_slices=8)
    assert run(["prepare", str(root / "set"), str(root / "store"), "--jobs", "1", "--quiet"]) == 0
    settings = ["train.patch=[8,24,16]", "inference.window=[8,48,32]", "data.num_folds=3"]
    words = ["train", str(tiny_recipe), f"data.store={root / 'store'}", f"output={root / 'run'}", *settings, "--quiet"]
    assert run(words) == 0
    for what in ("masks", "without"):
        for path in (root / "set").rglob("*_mask.tif"):
            if what == "without" and path.parent.name == sliced_case_name(1):
                path.unlink()  # for prediction no mask is needed
        words = ["predict", str(root / "run"), str(root / "set"), str(root / what), "--quiet"]
        assert run([*words, *["--save-masks"] * (what == "masks")]) == 0
    return root


def test_label_maps_are_stacks_on_the_grid_of_the_slices(predicted: Path) -> None:
    for index in (1, 2, 3):
        label_map, header = read_label_map(predicted / "masks" / f"{sliced_case_name(index)}.nii.gz")
        assert label_map.shape == (8, 40, 40)
        assert header.spacing_mm == (1, 1, 1)


def test_pictures_of_masks_are_the_label_maps(predicted: Path) -> None:
    name = sliced_case_name(2)
    label_map, _ = read_label_map(predicted / "masks" / f"{name}.nii.gz")
    pictures, _ = read_label_map(predicted / "masks" / "masks" / name / f"{name}_*_mask.png")
    np.testing.assert_array_equal(pictures, label_map)


def test_patients_without_masks_are_predicted_alike(predicted: Path) -> None:
    name = sliced_case_name(1)
    with_masks, without = (read_label_map(predicted / what / f"{name}.nii.gz")[0] for what in ("masks", "without"))
    np.testing.assert_array_equal(with_masks, without)


def test_predictions_are_evaluated_against_the_set(predicted: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["evaluate", str(predicted / "set"), str(predicted / "masks"), "--protocol", "plain", "--jobs", "1"]
    words += ["--out", str(predicted / "evaluation")]
    # the first patient has lost its masks; a set in which some have them is one with errors
    assert run(words) == 2
    assert "no reference label map" in capsys.readouterr().err
    assert run([*words, "--cases", ",".join(sliced_case_name(index) for index in (2, 3))]) == 0
    out = capsys.readouterr().out
    assert "2 cases, edition lgg-mri" in out
    assert "tumour by" in out
    assert (predicted / "evaluation" / "slices.csv").is_file()
    assert run(["report", str(predicted / "evaluation"), "--jobs", "1"]) == 0
    assert "2 cases, 2 with a picture" in capsys.readouterr().out


def test_masks_of_volumes_are_refused(
    tiny_run: Path, phantom_download: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["predict", str(tiny_run), str(phantom_download), str(tmp_path / "out"), "--save-masks"]) == 2
    assert "pictures of masks are for 2D sets" in capsys.readouterr().err


def test_a_network_of_volumes_neither_learns_from_gaps_nor_predicts_over_them(
    predicted: Path, tiny_recipe: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    name = sliced_case_name(3)
    write_slices(tmp_path / "set", 3, size=40, num_slices=8)
    for what in ("", "_mask"):
        (tmp_path / "set" / "kaggle_3m" / name / f"{name}_4{what}.tif").unlink()
    reason = f"case {name}: slice 4 not there; the network sees 8 slices at once"
    assert run(["predict", str(predicted / "run"), str(tmp_path / "set"), str(tmp_path / "out"), "--quiet"]) == 2
    assert reason in capsys.readouterr().err
    store = tmp_path / "store"
    assert run(["prepare", str(tmp_path / "set"), str(store), "--jobs", "1", "--quiet"]) == 0
    words = ["train", str(tiny_recipe), f"data.store={store}", f"output={tmp_path / 'run'}", "data.num_folds=3"]
    assert run([*words, "train.patch=[8,24,16]", "inference.window=[8,48,32]", "--quiet"]) == 2
    assert reason in capsys.readouterr().err


def test_a_model_of_images_takes_each_slice_as_an_image(tmp_path: Path) -> None:
    write_slices(tmp_path / "set", 1, size=32, num_slices=2)
    request = read_request([str(tmp_path / "set"), str(tmp_path / "out")], {})
    for own_edition, names in (
        ("lgg-mri", [sliced_case_name(1)]),
        ("images", [f"{sliced_case_name(1)}_1", f"{sliced_case_name(1)}_2"]),
    ):
        found = request.find(own_edition, allow_missing=False, could_miss=False)
        assert [case.name for case in found] == names
