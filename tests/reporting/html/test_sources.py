"""What a report is made from: folders read back, and everything that may be missing in them."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from brats_seg.errors import DataError, UsageError
from brats_seg.files import hash_of_file, write_csv
from brats_seg.reporting.html.sources import read_source, select_of_source

Write = Callable[..., Path]
DICE = {"a": (0.1, 0.2, 0.3), "b": (0.4, 0.5, 0.6)}


def write_run(folder: Path) -> Path:
    """Write a run with two logged steps, the second validated."""
    folder.mkdir(parents=True)
    (folder / "config.yaml").write_text("network: {name: dynunet}\ntrain: {steps: 2}\n")
    write_csv(folder / "metrics.csv", [["step", "loss", "dice_ET"], [1, 0.5, ""], [2, 0.25, 0.75]])
    (folder / "model.safetensors").write_bytes(b"weights")
    return folder


def test_an_evaluation_is_read_with_its_record_and_hashes(tmp_path: Path, write_evaluation: Write) -> None:
    source = read_source(write_evaluation(tmp_path / "ev", DICE))
    assert (source.name, source.protocol.name, source.scores.cases) == ("ev", "brats2020", ("a", "b"))
    assert source.hashes["cases.csv"] == hash_of_file(tmp_path / "ev" / "cases.csv")
    assert source.notes == ()


def test_the_run_of_the_record_gives_its_curves(tmp_path: Path, write_evaluation: Write) -> None:
    folder = write_evaluation(tmp_path / "ev", DICE)
    run = write_run(tmp_path / "run")
    (folder / "run.json").write_text(json.dumps({"runs": [str(run)]}))
    (own,) = read_source(folder).runs
    assert own.curves == {"loss": ((1.0, 2.0), (0.5, 0.25)), "dice_ET": ((2.0,), (0.75,))}
    assert own.network == "dynunet"
    assert own.hashes == {"model.safetensors": hash_of_file(run / "model.safetensors")}


def test_named_runs_stand_in_place_of_the_records(tmp_path: Path, write_evaluation: Write) -> None:
    folder = write_evaluation(tmp_path / "ev", DICE)
    (folder / "run.json").write_text(json.dumps({"runs": [str(tmp_path / "gone")]}))
    source = read_source(folder, runs=[write_run(tmp_path / "here")])
    assert [run.folder.name for run in source.runs] == ["here"]
    assert source.notes == ()


def test_a_run_that_is_gone_is_told(tmp_path: Path, write_evaluation: Write) -> None:
    folder = write_evaluation(tmp_path / "ev", DICE)
    (folder / "run.json").write_text(json.dumps({"runs": [str(tmp_path / "gone")]}))
    source = read_source(folder)
    assert source.runs == ()
    assert "gone: no such folder" in source.notes[0]


@pytest.mark.parametrize("content", ["step,loss\n1,x\n", "loss\n0.5\n", "\x00"])
def test_training_curves_that_cannot_be_read_are_told(tmp_path: Path, write_evaluation: Write, content: str) -> None:
    run = write_run(tmp_path / "run")
    (run / "metrics.csv").write_text(content)
    source = read_source(write_evaluation(tmp_path / "ev", DICE), runs=[run])
    assert source.runs[0].curves == {} or "loss" not in source.runs[0].curves


def test_a_runs_folder_stands_for_its_validation(tmp_path: Path, write_evaluation: Write) -> None:
    run = write_run(tmp_path / "fold0")
    write_evaluation(run / "validation", DICE)
    (run / "validation" / "run.json").unlink()
    source = read_source(run)
    assert source.name == "fold0"
    assert source.place("prediction") == run / "validation"
    assert [own.folder for own in source.runs] == [run]


@pytest.mark.parametrize("content", ["{", "[]", '"text"'])
def test_a_damaged_record_is_told_and_the_rest_is_read(tmp_path: Path, write_evaluation: Write, content: str) -> None:
    folder = write_evaluation(tmp_path / "ev", DICE)
    (folder / "run.json").write_text(content)
    source = read_source(folder)
    assert source.record == {}
    assert source.notes[0].startswith("run.json")


def test_a_folder_without_cases_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"no cases\.csv"):
        read_source(tmp_path)


def test_an_unknown_protocol_is_refused_with_the_nearest(tmp_path: Path, write_evaluation: Write) -> None:
    folder = write_evaluation(tmp_path / "ev", DICE)
    path = folder / "cases.csv"
    path.write_text(path.read_text().replace(",brats2020", ",brats2032"))
    with pytest.raises(DataError, match="'brats2032' is unknown to this version; did you mean brats20"):
        read_source(folder)


def test_a_table_of_another_version_is_refused(tmp_path: Path, write_evaluation: Write) -> None:
    folder = write_evaluation(tmp_path / "ev", DICE)
    path = folder / "cases.csv"
    path.write_text(path.read_text().replace("reference_ml", "reference_cm3"))
    with pytest.raises(DataError, match="no column reference_ml, which protocol brats2020 has"):
        read_source(folder)


def test_a_selection_keeps_the_rows_of_its_cases(tmp_path: Path, write_evaluation: Write) -> None:
    source = select_of_source(read_source(write_evaluation(tmp_path / "ev", DICE)), ["b"])
    assert source.scores.cases == ("b",)
    assert source.scores.columns["dice"].tolist() == [[0.4, 0.5, 0.6]]
    with pytest.raises(UsageError, match="names none"):
        select_of_source(source, [])


def write_calibration(folder: Path) -> None:
    """Add the calibration of two bins, one of them empty, and two thresholds to an evaluation."""
    lines = [
        [region, n, 0, 1, p, o, 1] for region in ("ET", "TC", "WT") for n, p, o in ((1, 0.2, 0.1), (2, "nan", "nan"))
    ]
    write_csv(
        folder / "calibration.csv",
        [["region", "bin", "from", "to", "mean_probability", "observed_share", "count"], *lines],
    )
    recall = [[region, 0.5, 0.8, 0.7] for region in ("ET", "TC", "WT")]
    write_csv(folder / "precision_recall.csv", [["region", "threshold", "precision", "recall"], *recall])
    numbers = {region: {"ece": 0.1, "brier": 0.2, "average_precision": 0.3} for region in ("ET", "TC", "WT")}
    summary = json.loads((folder / "summary.json").read_text())
    (folder / "summary.json").write_text(
        json.dumps({**summary, "calibration": {"rules": "pooled", "regions": numbers}})
    )


def test_calibration_is_read_without_its_empty_bins(tmp_path: Path, write_evaluation: Write) -> None:
    folder = write_evaluation(tmp_path / "ev", DICE)
    write_calibration(folder)
    own = read_source(folder).calibration
    assert own is not None
    assert own.reliability["TC"] == ((0.2,), (0.1,))
    assert own.precision_recall["ET"] == ((0.7,), (0.8,))
    assert own.numbers["WT"]["brier"] == 0.2
    assert own.rules == "pooled"


def test_calibration_of_all_cases_is_left_out_of_a_selection(tmp_path: Path, write_evaluation: Write) -> None:
    folder = write_evaluation(tmp_path / "ev", DICE)
    write_calibration(folder)
    source = select_of_source(read_source(folder), ["a"])
    assert source.calibration is None
    assert "calibration is left out" in source.notes[0]


def test_a_calibration_that_its_summary_does_not_know_is_told(tmp_path: Path, write_evaluation: Write) -> None:
    folder = write_evaluation(tmp_path / "ev", DICE)
    summary = (folder / "summary.json").read_text()
    write_calibration(folder)
    (folder / "summary.json").write_text(summary)
    source = read_source(folder)
    assert source.calibration is None
    assert "calibration.csv cannot be read" in source.notes[0]
