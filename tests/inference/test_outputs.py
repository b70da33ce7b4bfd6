"""The folder of predictions: what counts as made, and a record that several processes share."""

from __future__ import annotations

import json
import multiprocessing
import time
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from brats_seg.errors import OutputError
from brats_seg.inference import outputs
from brats_seg.inference.outputs import PredictionFolder, Wanted

LABELS = np.zeros((2, 3, 4), np.uint8)
RAW = nib.Nifti1Image(LABELS.T, np.eye(4)).header.binaryblock


def cases_in(folder: Path) -> dict[str, object]:
    return dict(json.loads((folder / "predictions.json").read_text())["cases"])


def test_a_case_is_made_for_the_same_settings_edition_and_modalities_alone(tmp_path: Path) -> None:
    wanted = Wanted("a", "brats2020", ("t1",))
    PredictionFolder(tmp_path / "out", {"weights": 1}, {}).write(wanted, LABELS, RAW, {})
    same = PredictionFolder(tmp_path / "out", {"weights": 1}, {})
    assert same.is_made(wanted)
    assert not same.is_made(Wanted("a", "brats2023-gli", ("t1",)))
    assert not same.is_made(Wanted("a", "brats2020"))
    assert not same.is_made(Wanted("b", "brats2020", ("t1",)))
    assert not PredictionFolder(tmp_path / "out", {"weights": 2}, {}).is_made(wanted)
    same.path("a").unlink()
    assert not same.is_made(wanted)


def test_a_shared_record_keeps_what_others_wrote_meanwhile(tmp_path: Path) -> None:
    one, two = (PredictionFolder(tmp_path / "out", {}, {}, is_shared=True) for _ in range(2))
    one.write(Wanted("a", "brats2020"), LABELS, RAW, {})
    two.write(Wanted("b", "brats2020"), LABELS, RAW, {})
    one.write(Wanted("c", "brats2020"), LABELS, RAW, {})
    two.close()
    assert sorted(cases_in(tmp_path / "out")) == ["a", "b", "c"]
    one.write(Wanted("d", "brats2020"), LABELS, RAW, {})
    one.close()
    assert sorted(cases_in(tmp_path / "out")) == ["a", "b", "c", "d"]


def _write_many(folder: Path, letter: str) -> None:
    outputs._LINES_TO_FOLD = 3
    with PredictionFolder(folder, {}, {}, is_shared=True) as shared:
        for number in range(20):
            shared.write(Wanted(f"{letter}{number}", "brats2020"), LABELS, RAW, {})


def test_processes_lose_no_record_of_each_other(tmp_path: Path) -> None:
    context = multiprocessing.get_context("spawn")
    processes = [context.Process(target=_write_many, args=(tmp_path / "out", letter)) for letter in "abc"]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    assert len(cases_in(tmp_path / "out")) == 60


def _write_endlessly(folder: Path, model: int) -> None:
    outputs._LINES_TO_FOLD = 5
    with PredictionFolder(folder, {"model": model}, {}) as opened:
        for number in range(100_000):
            opened.write(Wanted(f"c{number % 40}", "brats2020"), LABELS + model, RAW, {})


def test_after_a_kill_each_label_map_is_known_to_be_whose_it_is(tmp_path: Path) -> None:
    context = multiprocessing.get_context("spawn")
    for model in (1, 2, 3):  # each replaces what the one before made
        process = context.Process(target=_write_endlessly, args=(tmp_path / "out", model))
        process.start()
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline and not any(
            made_by(path) == model for path in (tmp_path / "out").glob("c3.nii.gz")
        ):
            time.sleep(0.002)
        process.kill()
        process.join()
        opened = PredictionFolder(tmp_path / "out", {"model": model}, {})
        paths = sorted((tmp_path / "out").glob("c*.nii.gz"))
        assert len(paths) >= 4
        for path in paths:
            wanted = Wanted(path.name.removesuffix(".nii.gz"), "brats2020")
            assert opened.is_made(wanted) == (made_by(path) == model)
    with opened:
        opened.write(Wanted("z", "brats2020"), LABELS, RAW, {})
    assert {path.name for path in (tmp_path / "out").iterdir()} == {
        "predictions.json",
        "z.nii.gz",
        *(path.name for path in paths),
    }


def made_by(path: Path) -> int | None:
    try:
        return int(np.asanyarray(nib.load(path).dataobj).flat[0])
    except (OSError, nib.filebasedimages.ImageFileError):  # gone before or while it is read, to be replaced
        return None


def test_record_is_whole_at_any_time_and_written_seldom(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    written = []
    monkeypatch.setattr(outputs, "write_json", lambda path, value: written.append(len(value["cases"])))
    with PredictionFolder(tmp_path / "out", {}, {}) as opened:
        for number in range(250):
            opened._note(f"c{number}", {})
    assert written[0] == 0
    assert len(written) <= 4
    assert written[-1] <= 250


def test_case_that_could_not_be_written_is_not_in_the_record(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OutputError("the disk is full")

    with PredictionFolder(tmp_path / "out", {}, {}) as opened:
        opened.write(Wanted("a", "brats2020"), LABELS, RAW, {})
        monkeypatch.setattr(outputs, "write_label_map", full)
        with pytest.raises(OutputError, match="full"):
            opened.write(Wanted("b", "brats2020"), LABELS, RAW, {})
    assert sorted(cases_in(tmp_path / "out")) == ["a"]


def test_line_that_was_cut_off_counts_for_nothing(tmp_path: Path) -> None:
    with PredictionFolder(tmp_path / "out", {}, {}) as opened:
        opened.write(Wanted("a", "brats2020"), LABELS, RAW, {})
    (tmp_path / "out" / ".predictions.journal").write_text('{"b": {"made_by": {"edi')
    reopened = PredictionFolder(tmp_path / "out", {}, {})
    assert reopened.is_made(Wanted("a", "brats2020"))
    with reopened:
        reopened.write(Wanted("c", "brats2020"), LABELS, RAW, {})
    assert sorted(cases_in(tmp_path / "out")) == ["a", "c"]
