"""`brats_seg.load_model`: the numbers of `brats-seg predict`, from folders, files and arrays."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import brats_seg
from brats_seg.cli import run
from brats_seg.config import RunConfig
from brats_seg.data.nifti import read_label_map, read_volume
from brats_seg.errors import DataError, UsageError
from brats_seg.inference.model import Model

TOKENS = {"t1": "t1", "t1ce": "t1ce", "t2": "t2", "flair": "flair"}
LOW = ["inference.threshold=0.3"]


@pytest.fixture(scope="module")
def model(tiny_run: Path) -> Model:
    """The tiny run, with a threshold at which it finds something."""
    return brats_seg.load_model(tiny_run, device="cpu", overrides=LOW)


@pytest.fixture(scope="module")
def case(phantom_download: Path) -> Path:
    """The folder of one complete case. Tests only read it."""
    return next(path.parent for path in sorted(phantom_download.rglob("*_t1.nii*")))


@pytest.fixture(scope="module")
def written(tiny_run: Path, case: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What the command writes for the case."""
    output = tmp_path_factory.mktemp("predictions") / "out"
    assert run(["predict", str(tiny_run), str(case), str(output), "--quiet", "--save-probabilities", *LOW]) == 0
    return output


def files_of(case: Path) -> dict[str, Path]:
    return {name: next(case.glob(f"*_{token}.nii*")) for name, token in TOKENS.items()}


def test_folder_files_and_arrays_give_what_the_command_writes(model: Model, case: Path, written: Path) -> None:
    expected, _ = read_label_map(written / f"{case.name}.nii.gz")
    files = files_of(case)
    arrays = {name: read_volume(path)[0] for name, path in files.items()}
    assert expected.any()
    for given in (case, str(case), files, arrays):
        prediction = model.predict(given)
        assert prediction.label_map.dtype == np.uint8
        assert np.array_equal(prediction.label_map, expected)
        assert prediction.probabilities == {}


def test_saved_prediction_has_the_bytes_of_the_command(model: Model, case: Path, written: Path, tmp_path: Path) -> None:
    model.predict(case).save(tmp_path / "mine.nii.gz")
    assert (tmp_path / "mine.nii.gz").read_bytes() == (written / f"{case.name}.nii.gz").read_bytes()


def test_probabilities_come_when_asked_for(model: Model, case: Path, written: Path) -> None:
    prediction = model.predict(case, with_probabilities=True)
    assert tuple(prediction.probabilities) == model.regions == ("ET", "TC", "WT")
    for region, values in prediction.probabilities.items():
        saved, _ = read_volume(written / "probabilities" / f"{case.name}_{region}.nii.gz")
        assert values.shape == prediction.label_map.shape
        assert np.abs(values - saved).max() <= 0.5 / 255 + 1e-6


def test_case_of_which_post_processing_left_nothing_says_so(
    tiny_run: Path, model: Model, case: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    found = np.count_nonzero(model.predict(case).label_map)
    dropping = [*LOW, "inference.postprocessing.min_component_voxels.WT=100000000"]
    prediction = brats_seg.load_model(tiny_run, device="cpu", overrides=dropping).predict(case)
    assert not prediction.label_map.any()
    line = f"no tumour is drawn: post-processing dropped all {found} voxels that the network found"
    assert prediction.warnings[-1].startswith(line)
    assert run(["predict", str(tiny_run), str(case), str(tmp_path / "out"), *dropping]) == 0
    assert f"warning: 1 of 1 cases are doubtful: {case.name}; {line}" in capsys.readouterr().err
    assert line in (tmp_path / "out" / "predictions.json").read_text()
    assert not any("no tumour" in warning for warning in model.predict(case).warnings)


def test_what_a_regions_own_threshold_keeps_out_was_not_dropped(tiny_run: Path, case: Path) -> None:
    shut = [f"inference.postprocessing.threshold.{region}=0.999999" for region in ("ET", "TC", "WT")]
    prediction = brats_seg.load_model(tiny_run, device="cpu", overrides=[*LOW, *shut]).predict(case)
    assert not prediction.label_map.any()
    assert not any("no tumour" in warning for warning in prediction.warnings)


def test_labels_are_those_of_the_edition_asked_for(model: Model, case: Path) -> None:
    old, new = model.predict(case), model.predict(case, edition="brats2023-gli")
    assert np.array_equal(np.where(old.label_map == 4, 3, old.label_map), new.label_map)
    assert (old.edition, new.edition) == ("brats2020", "brats2023-gli")


def test_prediction_of_arrays_has_no_geometry_to_save(model: Model, case: Path, tmp_path: Path) -> None:
    prediction = model.predict({name: read_volume(path)[0] for name, path in files_of(case).items()})
    with pytest.raises(DataError, match="made from arrays"):
        prediction.save(tmp_path / "x.nii.gz")


def test_missing_modalities_need_a_model_that_has_learned_it(model: Model, case: Path, tiny_run: Path) -> None:
    files = files_of(case)
    del files["flair"]
    with pytest.raises(DataError, match="no flair"):
        model.predict(files)
    with pytest.raises(UsageError, match="modality_dropout=0"):
        model.predict(files, allow_missing=True)
    values = model.configs[0].model_dump()
    values["train"]["augmentation"]["modality_dropout"] = 0.3
    robust = Model(model.ensemble, [RunConfig.model_validate(values)], "robust")
    arrays = {name: read_volume(path)[0] for name, path in files.items()}
    from_files, from_arrays = (robust.predict(given, allow_missing=True) for given in (files, arrays))
    assert from_files.missing == from_arrays.missing == ("flair",)
    assert np.array_equal(from_files.label_map, from_arrays.label_map)


@pytest.mark.parametrize(
    ("images", "error", "message"),
    [
        ({"t1": np.ones((2, 3, 4))}, DataError, "no t1c, t2, flair"),
        ({"t9": np.ones((2, 3, 4))}, UsageError, "modality 't9' is unknown"),
        ({"t1": np.ones((2, 3, 4)), "t1n": np.ones((2, 3, 4))}, UsageError, "'t1n' is given twice"),
        (dict.fromkeys(TOKENS, np.ones((3, 4))), DataError, "expected one shape"),
        (dict.fromkeys(TOKENS, np.zeros((2, 3, 4))), DataError, "0 everywhere"),
        (dict.fromkeys(TOKENS, np.full((2, 3, 4), np.nan)), DataError, "t1: 24 voxels are NaN"),
        (dict.fromkeys(TOKENS, np.full((2, 3, 4), "a")), DataError, "expected integers or floats"),
    ],
)
def test_arrays_that_are_no_case_are_refused(
    model: Model, images: dict[str, np.ndarray], error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        model.predict(images)


def test_folder_of_several_cases_is_refused(model: Model, phantom_download: Path) -> None:
    with pytest.raises(DataError, match="6 cases in it"):
        model.predict(phantom_download)


def test_folder_whose_name_tells_no_edition_has_the_models(
    model: Model, case: Path, tmp_path: Path, written: Path
) -> None:
    folder = tmp_path / "patient7"
    folder.mkdir()
    for token, path in files_of(case).items():
        shutil.copyfile(path, folder / f"patient7_{token}{''.join(path.suffixes)}")
    expected, _ = read_label_map(written / f"{case.name}.nii.gz")
    found = model.predict(folder)
    assert found.edition == "brats2020"
    assert np.array_equal(found.label_map, expected)


def test_importing_the_package_loads_no_heavy_library() -> None:
    code = "import sys, brats_seg; brats_seg.load_model; sys.exit(int(bool({'torch', 'numpy'} & set(sys.modules))))"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_public_name_that_there_is_not_is_an_attribute_error() -> None:
    assert "load_model" in brats_seg.__all__
    assert not hasattr(brats_seg, "load_modell")
