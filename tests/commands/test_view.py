from __future__ import annotations

import json
import signal
import socket
import subprocess
import sys
import urllib.request
from pathlib import Path

import numpy as np
import pytest

from brats_seg.cli import run
from brats_seg.commands import view
from brats_seg.data.cases import find_cases
from brats_seg.data.nifti import header_for, read_label_map, write_label_map

CASES = [f"BraTS20_Training_00{n}" for n in range(1, 7)]


@pytest.fixture
def predictions(phantom_download: Path, tmp_path: Path) -> Path:
    """A run's folder whose validation holds label maps of the first two cases, which equal the reference."""
    folder = tmp_path / "run" / "validation"
    folder.mkdir(parents=True)
    (folder.parent / "config.yaml").touch()
    for case in find_cases(phantom_download).cases[:2]:
        label_map, header = read_label_map(case.label)
        write_label_map(folder / f"{case.name}.nii.gz", label_map, header.raw)
    return folder


@pytest.fixture
def served(monkeypatch) -> list:
    """The cases of each call that would have been served."""
    calls: list = []
    monkeypatch.setattr(view, "_serve", lambda viewed, port, is_opened: calls.append(viewed))
    return calls


def maps_of(viewed) -> dict[str, list[str]]:
    return {one.case.name: list(one.label_maps) for one in viewed}


def case_folder(download: Path, number: int = 0) -> Path:
    return find_cases(download).cases[number].folder


@pytest.mark.parametrize("place", ["run", "run/validation"])
def test_a_folder_of_predictions_chooses_the_cases(phantom_download, predictions, tmp_path, served, capsys, place):
    assert run(["view", str(phantom_download), "--prediction", str(tmp_path / place)]) == 0
    assert maps_of(served[0]) == {key: ["reference", "prediction"] for key in CASES[:2]}
    assert "4 of 6 cases have no prediction" in capsys.readouterr().out


def test_without_predictions_all_cases_are_shown(phantom_download, served):
    assert run(["view", str(phantom_download)]) == 0
    assert maps_of(served[0]) == {key: ["reference"] for key in CASES}


def test_one_case_with_one_file_and_no_reference(phantom_download, predictions, served):
    words = ["view", str(case_folder(phantom_download)), "--prediction", str(predictions / f"{CASES[0]}.nii.gz")]
    assert run([*words, "--no-reference"]) == 0
    assert maps_of(served[0]) == {CASES[0]: ["prediction"]}


def test_references_may_lie_elsewhere(phantom_download, predictions, served):
    one = str(case_folder(phantom_download))
    assert run(["view", one, "--reference", str(predictions)]) == 0
    assert served[0][0].label_maps["reference"].parent == predictions
    assert run(["view", one, "--reference", str(phantom_download)]) == 0
    assert served[1][0].label_maps["reference"].parent == Path(one)


def message_of(capsys, words: list[str], code: int = 2) -> str:
    assert run(words) == code
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 1
    return lines[0]


def test_a_prediction_on_another_grid_is_one_line(phantom_download, tmp_path, capsys):
    header = header_for((4, 5, 6), (1, 1, 1), np.eye(4), np.uint8)
    write_label_map(tmp_path / "p.nii.gz", np.zeros((4, 5, 6), np.uint8), header)
    words = ["view", str(case_folder(phantom_download)), "--prediction", str(tmp_path / "p.nii.gz")]
    assert "p.nii.gz: shape 4x5x6 differs from 40x56x56" in message_of(capsys, words)


def test_wrong_input_is_one_line(phantom_download, predictions, tmp_path, capsys):
    one, all_cases = str(case_folder(phantom_download, 3)), str(phantom_download)
    assert "case BraTS20_Training_004: no prediction" in message_of(
        capsys, ["view", one, "--prediction", str(predictions)]
    )
    assert "no such file or folder" in message_of(capsys, ["view", one, "--prediction", "nowhere"])
    file = str(predictions / f"{CASES[0]}.nii.gz")
    assert "one file for 6 cases" in message_of(capsys, ["view", all_cases, "--prediction", file])
    assert "give one of them" in message_of(capsys, ["view", one, "--reference", file, "--no-reference"])
    assert "6 cases, but a page holds one" in message_of(
        capsys, ["view", all_cases, "--save", str(tmp_path / "a.html")]
    )
    assert "ends in .html" in message_of(capsys, ["view", one, "--save", str(tmp_path / "a.txt")])
    assert "lies inside the input" in message_of(capsys, ["view", one, "--save", f"{one}/a.html"])


def test_a_port_in_use_is_one_line(phantom_download, capsys):
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        words = ["view", str(case_folder(phantom_download)), "--no-browser", "--port", str(other.getsockname()[1])]
        assert "address already in use" in message_of(capsys, words)


def test_a_case_is_saved_as_a_page(phantom_download, predictions, tmp_path, capsys):
    target = tmp_path / "case.html"
    words = ["view", str(case_folder(phantom_download)), "--prediction", str(predictions), "--save", str(target)]
    assert run(words) == 0
    assert f"wrote {target} ({target.stat().st_size / 1e6:.1f} MB" in capsys.readouterr().out
    assert "is there" in message_of(capsys, words)
    assert run([*words, "--overwrite"]) == 0
    data = target.read_text(encoding="utf-8").split('id="inline">')[1].split("</script>")[0]
    assert set(json.loads(data)["files"]) >= {"t1c.nii", "prediction.nii", "reference-WT.mz3"}


def test_the_address_comes_at_once_without_a_terminal_and_answers(phantom_download, repository):
    # what a shell starts in the background ignores SIGINT, and so do its children, unless they say otherwise
    heeding = "import signal, sys; signal.signal(signal.SIGINT, signal.default_int_handler); "
    code = f"{heeding}from brats_seg.cli import app; app(sys.argv[1:])"
    words = [sys.executable, "-c", code, "view", str(case_folder(phantom_download)), "--no-browser"]
    with subprocess.Popen(words, stdout=subprocess.PIPE, text=True, cwd=repository) as process:
        try:
            address = process.stdout.readline().removeprefix("viewer: ").strip()
            with urllib.request.urlopen(f"{address}cases/0/scene.json", timeout=60) as answer:
                assert json.load(answer)["case"] == CASES[0]
            process.send_signal(signal.SIGINT)
            out, _ = process.communicate(timeout=60)
        finally:
            process.kill()
    assert process.returncode == 0
    assert out.endswith("viewer closed\n")
