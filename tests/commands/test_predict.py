"""`brats-seg predict`: label maps that lie on their images, equal to validation's, never half-written."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest

import brats_seg
from brats_seg.cli import run
from brats_seg.data.nifti import read_header, read_label_map
from brats_seg.data.phantom import write_download
from brats_seg.inference.predict import Predictor
from brats_seg.reporting.tables import counted


def held_out(tiny_run: Path) -> str:
    return (tiny_run / "validation" / "cases.txt").read_text().split()[0]


def case_folder(download: Path, name: str) -> Path:
    return next(path for path in download.rglob(name) if path.is_dir())


@pytest.fixture(scope="module")
def predictions(tiny_run: Path, phantom_download: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Predictions of the held-out cases. Tests only read it."""
    output = tmp_path_factory.mktemp("predictions") / "out"
    cases = str(tiny_run / "validation" / "cases.txt")
    assert run(["predict", str(tiny_run), str(phantom_download), str(output), "--cases", cases, "--quiet"]) == 0
    return output


def test_validation_and_predict_write_the_same_label_maps(predictions: Path, tiny_run: Path) -> None:
    names = (tiny_run / "validation" / "cases.txt").read_text().split()
    assert sorted(path.name for path in predictions.glob("*.nii.gz")) == sorted(f"{name}.nii.gz" for name in names)
    for name in names:
        validated, predicted = (
            read_label_map(folder / f"{name}.nii.gz") for folder in (tiny_run / "validation", predictions)
        )
        assert np.array_equal(validated[0], predicted[0])
        assert validated[1].raw == predicted[1].raw


def test_geometry_is_that_of_t1_bit_for_bit(predictions: Path, phantom_download: Path, tiny_run: Path) -> None:
    name = held_out(tiny_run)
    t1 = read_header(next(phantom_download.rglob(f"{name}_t1.nii*")))
    predicted = read_header(predictions / f"{name}.nii.gz")
    assert predicted.raw[40:56] == t1.raw[40:56]  # dim
    assert predicted.raw[76:108] == t1.raw[76:108]  # pixdim
    assert predicted.raw[252:328] == t1.raw[252:328]  # qform, sform and their codes
    assert predicted.dtype == np.uint8


def test_network_of_slices_writes_volumes_that_equal_its_validation(
    tiny_recipe: Path, phantom_store: Path, phantom_download: Path, tmp_path: Path
) -> None:
    settings = ["network.spatial_dims=2", "network.neighbours=1", "train.patch=[40,1,24]", "train.steps=2"]
    settings += ["inference.window=null", "inference.batch=8", "inference.tta=flips"]
    words = ["train", str(tiny_recipe), f"data.store={phantom_store}", f"output={tmp_path / 'run'}", "--quiet"]
    assert run([*words, *settings]) == 0
    name = held_out(tmp_path / "run")
    words = ["predict", str(tmp_path / "run"), str(phantom_download), str(tmp_path / "out"), "--quiet"]
    assert run([*words, "--cases", name, "inference.batch=5"]) == 0
    validated, predicted = (
        read_label_map(folder / f"{name}.nii.gz") for folder in (tmp_path / "run" / "validation", tmp_path / "out")
    )
    assert np.array_equal(validated[0], predicted[0])
    assert validated[0].any()
    t1 = read_header(next(phantom_download.rglob(f"{name}_t1.nii*")))
    assert predicted[1].raw[40:56] == t1.raw[40:56]
    assert predicted[1].raw[252:328] == t1.raw[252:328]


def test_record_names_the_weights_and_that_it_is_research(predictions: Path, tiny_run: Path) -> None:
    record = json.loads((predictions / "predictions.json").read_text())
    assert len(record["cases"][held_out(tiny_run)]["made_by"]["weights_sha256"][0]) == 64
    assert "research only" in record["note"]


def test_second_run_makes_only_what_is_missing(
    predictions: Path, tiny_run: Path, phantom_download: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    output = shutil.copytree(predictions, tmp_path / "out")
    name = held_out(tiny_run)
    (output / f"{name}.nii.gz").unlink()
    words = ["predict", str(tiny_run), str(phantom_download), str(output)]
    assert run([*words, "--cases", str(tiny_run / "validation" / "cases.txt")]) == 0
    assert "1 case to predict, 1 made already" in capsys.readouterr().out
    assert (output / f"{name}.nii.gz").read_bytes() == (predictions / f"{name}.nii.gz").read_bytes()


def test_shards_together_make_what_one_process_makes(
    predictions: Path, tiny_run: Path, phantom_download: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["predict", str(tiny_run), str(phantom_download), str(tmp_path / "out")]
    words += ["--cases", str(tiny_run / "validation" / "cases.txt")]
    names = sorted(path.name for path in predictions.glob("*.nii.gz"))
    for number, name in enumerate(names, start=1):
        assert run([*words, "--shard", f"{number}/2"]) == 0
        assert "1 case to predict, 0 made already" in capsys.readouterr().out
        assert (tmp_path / "out" / name).read_bytes() == (predictions / name).read_bytes()
    assert run(words) == 0
    assert "0 cases to predict, 2 made already" in capsys.readouterr().out


def test_output_of_other_settings_is_kept_unless_overwritten(
    predictions: Path, tiny_run: Path, phantom_download: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    output = shutil.copytree(predictions, tmp_path / "out")
    name = held_out(tiny_run)
    before = (output / f"{name}.nii.gz").read_bytes()
    words = ["predict", str(tiny_run), str(phantom_download), str(output), "inference.threshold=0.01", "--cases", name]
    assert run(words) == 2
    assert "--overwrite" in capsys.readouterr().err
    assert (output / f"{name}.nii.gz").read_bytes() == before
    assert run([*words, "--overwrite", "--quiet"]) == 0
    assert (output / f"{name}.nii.gz").read_bytes() != before


def test_post_processing_is_done_and_recorded(tiny_run: Path, phantom_download: Path, tmp_path: Path) -> None:
    name = held_out(tiny_run)
    step = "inference.postprocessing.min_component_voxels.WT=100000"
    for folder, more in ((tmp_path / "with", [step]), (tmp_path / "without", [])):
        words = [str(tiny_run), str(phantom_download), str(folder), "inference.threshold=0.3", *more]
        assert run(["predict", *words, "--cases", name, "--quiet"]) == 0
    cleaned, raw = (read_label_map(tmp_path / folder / f"{name}.nii.gz")[0] for folder in ("with", "without"))
    assert raw.any()
    assert not cleaned.any()  # no component is so large
    record = json.loads((tmp_path / "with" / "predictions.json").read_text())
    settings = record["cases"][name]["made_by"]["inference"]["postprocessing"]
    assert settings["min_component_voxels"] == {"WT": 100000}


def test_labels_are_those_of_the_edition_asked_for(tiny_run: Path, phantom_download: Path, tmp_path: Path) -> None:
    name = held_out(tiny_run)
    for edition in ("brats2020", "brats2023-gli"):
        words = ["predict", str(tiny_run), str(phantom_download), str(tmp_path / edition), "inference.threshold=0.01"]
        assert run([*words, "--edition", edition, "--cases", name, "--quiet"]) == 0
    old, new = (read_label_map(tmp_path / e / f"{name}.nii.gz")[0] for e in ("brats2020", "brats2023-gli"))
    assert 4 in old
    assert np.array_equal(np.where(old == 4, 3, old), new)


def test_one_case_folder_without_segmentation(tiny_run: Path, tmp_path: Path) -> None:
    write_download(tmp_path / "download", 1, seed=7, shape=(40, 56, 56))
    folder = next(path.parent for path in (tmp_path / "download").rglob("*_t1.nii*"))
    next(folder.glob("*_seg.nii*")).unlink()
    assert run(["predict", str(tiny_run), str(folder), str(tmp_path / "out"), "--quiet"]) == 0
    assert [path.name for path in (tmp_path / "out").glob("*.nii.gz")] == [f"{folder.name}.nii.gz"]


def test_explicit_files_of_any_name(tiny_run: Path, phantom_download: Path, predictions: Path, tmp_path: Path) -> None:
    name = held_out(tiny_run)
    folder = case_folder(phantom_download, name)
    words = ["predict", str(tiny_run), str(tmp_path / "out"), "--name", "mine", "--edition", "brats2020", "--quiet"]
    for option, token, renamed in (("t1", "t1", "a"), ("t1c", "t1ce", "b"), ("t2", "t2", "c"), ("flair", "flair", "d")):
        source = next(folder.glob(f"*_{token}.nii*"))
        target = tmp_path / (renamed + "".join(source.suffixes))
        shutil.copyfile(source, target)
        words += [f"--{option}", str(target)]
    assert run(words) == 0
    mine, theirs = (
        read_label_map(path)[0] for path in (tmp_path / "out" / "mine.nii.gz", predictions / f"{name}.nii.gz")
    )
    assert np.array_equal(mine, theirs)


def test_probabilities_are_saved_on_the_same_grid(
    tiny_run: Path, phantom_download: Path, predictions: Path, tmp_path: Path
) -> None:
    name = held_out(tiny_run)
    words = ["predict", str(tiny_run), str(phantom_download), str(tmp_path / "out"), "--cases", name, "--quiet"]
    assert run([*words, "--save-probabilities"]) == 0
    wt = nib.load(tmp_path / "out" / "probabilities" / f"{name}_WT.nii.gz")
    values = np.asanyarray(wt.dataobj).T
    label_map, _ = read_label_map(predictions / f"{name}.nii.gz")
    assert values.shape == label_map.shape
    assert 0 <= values.min() <= values.max() <= 1 + 1e-6  # the header's slope, 1/255, is a float32
    assert values[label_map > 0].size == 0 or values[label_map > 0].max() > 0.49


def test_input_is_never_written_to(tiny_run: Path, phantom_download: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = sorted(path for path in phantom_download.rglob("*"))
    assert run(["predict", str(tiny_run), str(phantom_download), str(phantom_download / "out")]) == 2
    assert "inside the input" in capsys.readouterr().err
    assert sorted(path for path in phantom_download.rglob("*")) == before


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["{run}", "{data}"], "expected MODEL, DATA and OUT"),
        (["{run}", "{data}", "{out}", "--cases", "BraTS20_Training_999"], "BraTS20_Training_999"),
        (["{run}", "{data}", "{out}", "--cases", ",".join(f"a_long_name_{n}" for n in range(30))], "not found: a_long"),
        (["{run}", "{data}", "{out}", "--cases", ","], "names no case; expected ID,ID,..."),
        (["{run}", "{data}", "{out}", "--edition", "brats2024-men-rt"], "modalities"),
        (["{run}", "{data}", "{out}", "--edition", "brats2022"], "did you mean"),
        (["{run}", "{data}", "{out}", "inference.window=[20,20,20]"], "the nearest is [16, 16, 16]"),
        (["{run}", "{data}", "{out}", "train.steps=5"], "only inference"),
        (["{run}", "{data}", "{out}", "--shard", "0/4"], "expected I/N with I from 1 to N"),
        (["{run}", "{data}", "{out}", "--shard", "5/4"], "expected I/N with I from 1 to N"),
        (["{run}", "{data}", "{out}", "--shard", "2"], "expected I/N with I from 1 to N"),
        (["{run}", "{out}", "--t1", "x.nii", "--shard", "1/2"], "explicit files are one case"),
        (["{run}", "{data}", "{out}", "inference.postprocessing.min_component_voxels.WC=5"], "did you mean WT?"),
        (["{run}", "{data}", "{out}", "--device", "cuda:9"], "'cuda:9' is not there"),
        (["{data}", "{data}", "{out}"], "no config.yaml"),
        (["{run}", "{run}", "{data}", "{out}"], "models 1 and 2 have the same weights"),
        (["{run}", "startr", "{data}", "{out}"], "did you mean starter?"),
        (["{run}", "{run}", "{out}"], "DATA is a trained run"),
        (["starter", "{run}", "{data}"], "DATA is a trained run"),
        (["{run}", "{out}", "--t1", "x.nii"], "t1c"),
    ],
)
def test_wrong_usage_is_one_error_and_nothing_is_written(
    words: list[str],
    message: str,
    tiny_run: Path,
    phantom_download: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    places = {"{run}": str(tiny_run), "{data}": str(phantom_download), "{out}": str(tmp_path / "out")}
    assert run(["predict", *(places.get(word, word) for word in words)]) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: ")
    assert message in error
    assert not list(tmp_path.rglob("*.nii.gz"))


def test_run_without_weights_says_how_to_get_them(
    tiny_run: Path, phantom_download: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "run").mkdir()
    shutil.copyfile(tiny_run / "config.yaml", tmp_path / "run" / "config.yaml")
    assert run(["predict", str(tmp_path / "run"), str(phantom_download), str(tmp_path / "out")]) == 2
    assert "no model.safetensors" in capsys.readouterr().err


@pytest.fixture(scope="module")
def other_run(tiny_run: Path, tiny_recipe: Path, phantom_store: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run like the tiny one, from another seed. Tests only read it."""
    folder = tmp_path_factory.mktemp("runs") / "other"
    words = ["train", str(tiny_recipe), f"data.store={phantom_store}", f"output={folder}", "seed=5", "--quiet"]
    assert run(words) == 0
    return folder


def test_several_models_are_averaged_and_recorded(
    tiny_run: Path, other_run: Path, phantom_download: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    name = held_out(tiny_run)
    last = ["--cases", name, "--save-probabilities"]
    for folder, models in (("a", [tiny_run]), ("b", [other_run]), ("both", [tiny_run, other_run])):
        assert run(["predict", *map(str, models), str(phantom_download), str(tmp_path / folder), *last]) == 0
    a, b, both = (
        nib.load(tmp_path / folder / "probabilities" / f"{name}_WT.nii.gz").get_fdata() for folder in ("a", "b", "both")
    )
    assert np.abs((a + b) / 2 - both).max() <= 1.01 / 255
    assert np.abs(a - both).max() > 3 / 255
    assert f"2 models: {tiny_run}, {other_run}" in capsys.readouterr().out
    record = json.loads((tmp_path / "both" / "predictions.json").read_text())
    assert record["models"] == [str(tiny_run), str(other_run)]
    assert len(record["cases"][name]["made_by"]["weights_sha256"]) == 2
    again = ["predict", str(other_run), str(tiny_run), str(phantom_download), str(tmp_path / "both"), *last]
    assert run(again) == 0  # the same set, whatever its order
    assert "0 cases to predict, 1 made already" in capsys.readouterr().out
    assert run(["predict", str(tiny_run), str(phantom_download), str(tmp_path / "both"), *last]) == 2
    assert "made by another model" in capsys.readouterr().err
    model = brats_seg.load_model([tiny_run, other_run])
    label_map, _ = read_label_map(tmp_path / "both" / f"{name}.nii.gz")
    assert np.array_equal(model.predict(case_folder(phantom_download, name)).label_map, label_map)


def test_several_models_and_explicit_files(
    tiny_run: Path, other_run: Path, phantom_download: Path, tmp_path: Path
) -> None:
    name = held_out(tiny_run)
    folder = case_folder(phantom_download, name)
    words = ["predict", str(tiny_run), str(other_run), str(tmp_path / "out"), "--name", "mine", "--quiet"]
    for option, token in (("t1", "t1"), ("t1c", "t1ce"), ("t2", "t2"), ("flair", "flair")):
        words += [f"--{option}", str(next(folder.glob(f"*_{token}.nii*")))]
    assert run([*words, "inference.threshold=0.3"]) == 0
    assert [path.name for path in (tmp_path / "out").glob("*.nii.gz")] == ["mine.nii.gz"]


_RESTING = """
import sys, time
from brats_seg.cli import run
from brats_seg.inference.outputs import PredictionFolder
write = PredictionFolder.write
def rest(*args, **kwargs):
    write(*args, **kwargs)
    time.sleep(1)
PredictionFolder.write = rest
sys.exit(run(sys.argv[1:]))
"""
"""The command, resting after each case: on a busy machine all are made before anyone looks."""


@pytest.mark.slow
def test_killed_process_is_continued_by_calling_it_again(
    tiny_run: Path, phantom_download: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["predict", str(tiny_run), str(phantom_download)]
    assert run([*words, str(tmp_path / "whole"), "--quiet"]) == 0
    process = subprocess.Popen([sys.executable, "-c", _RESTING, *words, str(tmp_path / "out")])
    deadline = time.monotonic() + 60
    complete = "out/[!.]*.nii.gz"  # not the temporary names, which begin with a dot
    while not list(tmp_path.glob(complete)) and time.monotonic() < deadline:
        time.sleep(0.001)
    process.kill()
    process.wait()
    made = len(list(tmp_path.glob(complete)))
    assert 0 < made < 6
    assert run([*words, str(tmp_path / "out")]) == 0
    assert f"{counted(6 - made, 'case')} to predict, {made} made already" in capsys.readouterr().out
    names = {path.name for path in (tmp_path / "whole").iterdir()}
    assert {path.name for path in (tmp_path / "out").iterdir()} == names
    for path in (tmp_path / "whole").glob("*.nii.gz"):
        assert (tmp_path / "out" / path.name).read_bytes() == path.read_bytes()
    assert len(json.loads((tmp_path / "out" / "predictions.json").read_text())["cases"]) == 6


@pytest.mark.parametrize("num_before", [0, 1])
def test_too_little_memory_for_the_first_case_is_told_once(
    num_before: int,
    tiny_run: Path,
    phantom_download: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    own, calls = Predictor._probabilities, []

    def short(self: Predictor, *given: Any) -> Any:
        calls.append(1)
        if len(calls) > num_before:
            raise RuntimeError("DefaultCPUAllocator: not enough memory: you tried to allocate 99 bytes.")
        return own(self, *given)

    monkeypatch.setattr(Predictor, "_probabilities", short)
    assert run(["predict", str(tiny_run), str(phantom_download), str(tmp_path / "out"), "--quiet"]) == 1
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == (1 if num_before == 0 else 6)
    assert "out of memory: 1 windows of 32 x 48 x 32" in lines[-1]
    assert "inference.window=[24, 32, 24] fits" in lines[-1]
    assert len(list((tmp_path / "out").glob("*.nii.gz"))) == num_before


def test_one_corrupt_case_does_not_stop_the_rest(
    tiny_run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_download(tmp_path / "download", 2, seed=7, shape=(40, 56, 56), suffix=".nii.gz")
    bad, good = sorted(path for path in (tmp_path / "download").rglob("*_t2.nii.gz"))
    bad.write_bytes(bad.read_bytes()[:2000])
    assert run(["predict", str(tiny_run), str(tmp_path / "download"), str(tmp_path / "out"), "--quiet"]) == 1
    error = capsys.readouterr().err
    assert bad.name in error
    assert "1 of 2 cases" in error or "case " in error
    assert [path.name for path in (tmp_path / "out").glob("*.nii.gz")] == [f"{good.parent.name}.nii.gz"]
