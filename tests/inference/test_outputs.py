"""The folder of predictions: what counts as made, and a record that several processes share."""

from __future__ import annotations

import json
import multiprocessing
from pathlib import Path

import nibabel as nib
import numpy as np

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
    assert sorted(cases_in(tmp_path / "out")) == ["a", "b", "c"]


def _write_many(folder: Path, letter: str) -> None:
    shared = PredictionFolder(folder, {}, {}, is_shared=True)
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
