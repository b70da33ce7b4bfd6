"""`brats-seg predict --allow-missing`: a missing modality is 0 everywhere, said aloud, and never by accident."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from brats_seg.cli import run
from brats_seg.data.cases import find_cases
from brats_seg.data.nifti import read_header, read_label_map, write_volume
from brats_seg.data.phantom import write_download
from brats_seg.inference.model import load_model, predict_prepared
from brats_seg.preprocessing.prepare import prepare_case

TOKENS = {"t1": "t1", "t1c": "t1ce", "t2": "t2", "flair": "flair"}


@pytest.fixture(scope="module")
def dropout_run(tiny_run: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny run, as one that was trained with modality dropout. Tests only read it."""
    folder = tmp_path_factory.mktemp("runs") / "dropout"
    folder.mkdir()
    shutil.copyfile(tiny_run / "model.safetensors", folder / "model.safetensors")
    text = (tiny_run / "config.yaml").read_text()
    assert "modality_dropout: 0.0" in text
    text = text.replace("modality_dropout: 0.0", "modality_dropout: 0.3").replace("threshold: 0.5", "threshold: 0.3")
    (folder / "config.yaml").write_text(text)
    return folder


@pytest.fixture
def case(tmp_path: Path) -> Path:
    """The folder of one complete case."""
    write_download(tmp_path / "download", 1, seed=7, shape=(40, 56, 56))
    return next(path.parent for path in (tmp_path / "download").rglob("*_t1.nii*"))


def image(case: Path, modality: str) -> Path:
    return next(case.glob(f"{case.name}_{TOKENS[modality]}.nii*"))


def predicted(model: Path, data: Path, output: Path, *words: str) -> np.ndarray:
    assert run(["predict", str(model), str(data), str(output), "--quiet", *words]) == 0
    return read_label_map(next(output.glob("*.nii.gz")))[0]


@pytest.mark.parametrize("missing", [["flair"], ["t1"], ["t1", "t1c", "t2"]])
def test_missing_modality_is_one_of_zeros(dropout_run: Path, case: Path, tmp_path: Path, missing: list[str]) -> None:
    complete = predicted(dropout_run, case, tmp_path / "complete")
    with_zeros = shutil.copytree(case, tmp_path / "zeros" / case.name)
    for modality in missing:
        header = read_header(image(case, modality))
        write_volume(image(with_zeros, modality), np.zeros(header.grid, np.float32), header.raw)
        image(case, modality).unlink()
    zeros = prepare_case(find_cases(with_zeros).cases[0], with_label=False)
    expected = predict_prepared(load_model(dropout_run, device="cpu").ensemble, zeros, zeros.edition).label_map
    found = predicted(dropout_run, case, tmp_path / "found", "--allow-missing")
    assert np.array_equal(found, expected)
    assert not np.array_equal(found, complete)


def test_what_is_missing_is_said_and_recorded(
    dropout_run: Path, case: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    image(case, "t2").unlink()
    image(case, "t1").unlink()
    assert run(["predict", str(dropout_run), str(case), str(tmp_path / "out"), "--allow-missing"]) == 0
    assert f"case {case.name}: predicted without t1, t2" in capsys.readouterr().out
    record = json.loads((tmp_path / "out" / "predictions.json").read_text())
    assert record["cases"][case.name]["missing"] == ["t1", "t2"]


def test_geometry_is_that_of_the_first_modality_there(dropout_run: Path, case: Path, tmp_path: Path) -> None:
    image(case, "t1").unlink()
    predicted(dropout_run, case, tmp_path / "out", "--allow-missing")
    written = read_header(tmp_path / "out" / f"{case.name}.nii.gz")
    assert written.raw[252:328] == read_header(image(case, "t1c")).raw[252:328]


def test_complete_case_is_the_same_with_the_option(dropout_run: Path, case: Path, tmp_path: Path) -> None:
    predicted(dropout_run, case, tmp_path / "a")
    predicted(dropout_run, case, tmp_path / "b", "--allow-missing")
    name = f"{case.name}.nii.gz"
    assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()
    assert json.loads((tmp_path / "b" / "predictions.json").read_text())["cases"][case.name]["missing"] == []


def test_case_that_became_complete_is_not_taken_for_made(
    dropout_run: Path, case: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    kept = shutil.move(image(case, "flair"), tmp_path / "kept")
    predicted(dropout_run, case, tmp_path / "out", "--allow-missing")
    shutil.move(kept, image(case, "t1").with_name(image(case, "t1").name.replace("_t1.", "_flair.")))
    assert run(["predict", str(dropout_run), str(case), str(tmp_path / "out")]) == 2
    assert "from other modalities; kept" in capsys.readouterr().err


def test_explicit_files_may_be_fewer(dropout_run: Path, case: Path, tmp_path: Path) -> None:
    files = ["--t1c", str(image(case, "t1c")), "--flair", str(image(case, "flair")), "--name", "mine"]
    words = [str(dropout_run), str(tmp_path / "files"), *files, "--allow-missing", "--quiet"]
    assert run(["predict", *words]) == 0
    image(case, "t1").unlink()
    image(case, "t2").unlink()
    expected = predicted(dropout_run, case, tmp_path / "folder", "--allow-missing")
    assert np.array_equal(read_label_map(tmp_path / "files" / "mine.nii.gz")[0], expected)


def test_error_without_the_option_names_it_where_the_model_could(
    dropout_run: Path, tiny_run: Path, case: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    t1c = ["--t1c", str(image(case, "t1c"))]
    image(case, "flair").unlink()
    for words in ([str(case), str(tmp_path / "out")], [str(tmp_path / "out"), *t1c]):
        assert run(["predict", str(dropout_run), *words]) == 2
        error = capsys.readouterr().err
        assert "flair (found: " in error
        assert "add --allow-missing" in error
        assert run(["predict", str(tiny_run), *words]) == 2
        assert "--allow-missing" not in capsys.readouterr().err


def test_model_that_never_missed_a_modality_refuses(
    tiny_run: Path, case: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    image(case, "flair").unlink()
    assert run(["predict", str(tiny_run), str(case), str(tmp_path / "out"), "--allow-missing"]) == 2
    assert "modality_dropout=0" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_case_without_any_modality_is_refused(
    dropout_run: Path, case: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for modality in TOKENS:
        image(case, modality).unlink()
    assert run(["predict", str(dropout_run), str(case), str(tmp_path / "out"), "--allow-missing"]) == 2
    assert "no t1, t1c, t2, flair" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()
