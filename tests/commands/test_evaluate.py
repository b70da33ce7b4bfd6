"""`brats-seg evaluate` from the command line: what it prints, what it writes, how it refuses."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from brats_seg.cli import run
from brats_seg.data.nifti import header_for, write_label_map, write_volume

SHAPE = (6, 7, 8)
AFFINE = np.diag([-1.0, -1.0, 1.0, 1.0])


def write(path: Path, labels: tuple[int, ...] = (4, 1, 2), shift: int = 0) -> None:
    """Write a label map with one row of two voxels a label."""
    label_map = np.zeros(SHAPE, np.uint8)
    for row, label in enumerate(labels):
        label_map[2, 2 + row, 2 + shift : 4 + shift] = label
    path.parent.mkdir(parents=True, exist_ok=True)
    write_label_map(path, label_map, header_for(SHAPE, (1.0, 1.0, 1.0), AFFINE, np.uint8))


@pytest.fixture
def words(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Return the command line of an evaluation of two cases, one without ET and one half right."""
    monkeypatch.setenv("COLUMNS", "100")
    for number, labels in ((1, (4, 1, 2)), (2, (2, 1))):
        write(tmp_path / "reference" / f"BraTS20_Training_00{number}.nii.gz", labels)
        write(tmp_path / "prediction" / f"BraTS20_Training_00{number}.nii.gz", labels, shift=number == 1)
    places = [str(tmp_path / name) for name in ("reference", "prediction", "out")]
    return ["evaluate", *places[:2], "--protocol", "brats2020", "--jobs", "1", "--out", places[2]]


def test_table_names_protocol_regions_and_worst_cases(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert run(words) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("Protocol brats2020: ")
    assert any(line.startswith("2 cases, edition brats2020") for line in lines)
    firsts = [line.split()[0] for line in lines if line]
    assert [name for name in firsts if name in ("ET", "TC", "WT", "NCR", "ED")] == ["ET", "TC", "WT", "NCR", "ED"]
    # ET: 0.5 in the first case; in the second there is none on either side, which is 1.
    assert next(line for line in lines if line.startswith("ET")).split()[1] == "0.750"
    assert "Empty in the reference / the prediction / both: ET 1 / 1 / 1" in lines
    worst = lines.index(next(line for line in lines if line.startswith("Worst cases")))
    assert lines[worst + 3].startswith("BraTS20_Training_001 ")
    assert all(len(line) <= 100 for line in lines[:-1])


def test_last_line_says_what_was_written_and_what_is_next(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    run(words)
    last = capsys.readouterr().out.splitlines()[-1]
    assert last.startswith(
        f"Wrote cases.csv, summary.json, portal.csv, supplement.csv, run.json to {words[-1]}; next, "
    )


def test_quiet_prints_nothing(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert run([*words, "--quiet"]) == 0
    assert capsys.readouterr() == ("", "")
    assert (Path(words[-1]) / "cases.csv").is_file()


def test_cases_selects(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert run([*words, "--cases", "BraTS20_Training_002"]) == 0
    assert "1 case, edition" in capsys.readouterr().out
    assert run([*words, "--overwrite", "--cases", "BraTS20_Training_009"]) == 2
    assert "not found: BraTS20_Training_009" in capsys.readouterr().err


def test_extra_predictions_are_one_warning(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    for name in ("x", "y"):
        write(Path(words[2]) / f"{name}.nii.gz")
    assert run(words) == 0
    assert capsys.readouterr().err == "warning: not scored, no such reference: x, y\n"


def test_missing_predictions_are_an_error_or_failures(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    (Path(words[2]) / "BraTS20_Training_001.nii.gz").unlink()
    assert run(words) == 2
    assert "error: " in (error := capsys.readouterr().err)
    assert "no prediction for 1 of 2 cases: BraTS20_Training_001" in error
    assert not Path(words[-1]).exists()
    assert run([*words, "--missing", "score-as-failure"]) == 0
    assert "No prediction, scored as failures: BraTS20_Training_001" in capsys.readouterr().out


def test_edition_option_overrules_names(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert run([*words, "--edition", "brats2023-gli"]) == 2
    assert "edition brats2023-gli has [0, 1, 2, 3]" in capsys.readouterr().err


def test_undefined_values_are_counted_under_plain(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert run([*words, "--protocol", "plain"]) == 0
    out = capsys.readouterr().out
    assert "Undefined (nan), left out of the statistics: ET dice 1, iou 1, sensitivity 1, precision 1" in out
    assert "portal.csv" not in out


@pytest.mark.parametrize("option", ["--protocol", "--out"])
def test_protocol_and_output_must_be_named(words: list[str], option: str, capsys: pytest.CaptureFixture[str]) -> None:
    place = words.index(option)
    assert run(words[:place] + words[place + 2 :]) == 2
    assert f"Missing option '{option}'" in capsys.readouterr().err


def test_an_unknown_protocol_is_one_line(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert run([*words, "--protocol", "brats2200"]) == 2
    assert capsys.readouterr().err.startswith("error: --protocol 'brats2200' is unknown; did you mean brats2020?")


def test_help_shows_an_example_and_loads_no_heavy_package() -> None:
    code = "import sys; from brats_seg.cli import run; run(['evaluate', '--help']); print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    help_text, modules = done.stdout.rsplit("\n", 2)[:2]
    assert "Example:\n    brats-seg evaluate BraTS2020_TrainingData predictions" in help_text
    assert not {"torch", "monai", "SimpleITK", "scipy", "numpy", "nibabel"} & set(modules.split())


def test_lesions_have_a_table_of_their_own(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    words[words.index("brats2020")] = "instance"
    assert run(words) == 0
    lines = capsys.readouterr().out.splitlines()
    table = lines.index(next(line for line in lines if line.startswith("lesion-wise")))
    assert lines[table].split()[-3:] == ["found", "missed", "false"]
    # ET: one lesion, found half; in the second case there is none, and nothing to average.
    assert lines[table + 2].split()[:2] == ["ET", "0.500"]
    assert lines[table + 2].split()[-3:] == ["1", "0", "0"]
    assert any(line.startswith("Worst cases by mean Dice of instances of ET, TC, WT") for line in lines)
    assert all(len(line) <= 100 for line in lines[:-1])


def test_rules_are_told_in_words(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    words[words.index("brats2020")] = "brats2023"
    assert run(words) == 0
    out = " ".join(capsys.readouterr().out.split())
    assert "Rules of GLI: parts within 3 steps of dilation are one lesion; reference lesions up to 50 mm3" in out
    assert "a missed or invented lesion costs Dice 0 and HD95 374" in out


def test_tolerances_add_surface_dice_to_the_supplement(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert run([*words, "--nsd", "0.5, 2"]) == 0
    header = (Path(words[-1]) / "supplement.csv").read_text().splitlines()[0]
    assert header.endswith("nsd_0_5mm,nsd_2mm")


@pytest.mark.parametrize("text", ["two", "-1", "0", "inf", "1;2"])
def test_a_tolerance_that_is_none_is_refused(words: list[str], text: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run([*words, "--nsd", text]) == 2
    assert capsys.readouterr().err.startswith(f"error: --nsd {text}: expected positive numbers of mm")
    assert not Path(words[-1]).exists()


def test_help_names_every_protocol() -> None:
    from brats_seg.commands.evaluate import PROTOCOL_NAMES
    from brats_seg.evaluation import PROTOCOLS

    assert set(PROTOCOL_NAMES.split("|")) == set(PROTOCOLS)


def test_probabilities_add_calibration(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    folder = Path(words[-1]).parent / "probabilities"
    folder.mkdir()
    for case, regions in (("BraTS20_Training_001", (4, 1, 2)), ("BraTS20_Training_002", (2, 1))):
        for number, region in enumerate(("ET", "TC", "WT")):
            volume = np.zeros(SHAPE, np.uint8)
            volume[2, 2 : 2 + min(number + 1, len(regions)), 2:4] = 255
            header = header_for(SHAPE, (1.0, 1.0, 1.0), AFFINE, np.uint8)
            write_volume(folder / f"{case}_{region}.nii.gz", volume, header, slope=1 / 255)
    assert run([*words, "--probabilities", str(folder)]) == 0
    out = capsys.readouterr().out
    table = [line for line in out.splitlines() if line.startswith("probabilities")]
    assert table == ["probabilities    ECE  Brier  average precision"]
    assert {"calibration.csv", "precision_recall.csv"} <= {path.name for path in Path(words[-1]).iterdir()}
    summary = json.loads((Path(words[-1]) / "summary.json").read_text())
    wt = summary["calibration"]["regions"]["WT"]  # exactly the reference's voxels, and no other
    assert (wt["ece"], wt["brier"], wt["average_precision"]) == (0, 0, 1)
    (folder / "BraTS20_Training_002_TC.nii.gz").unlink()
    assert run([*words, "--overwrite", "--probabilities", str(folder)]) == 2
    assert "case BraTS20_Training_002: no probabilities of TC" in capsys.readouterr().err
