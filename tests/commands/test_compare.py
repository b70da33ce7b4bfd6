"""`brats-seg compare` from the command line: what it prints, what it writes, how it refuses."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from brats_seg.cli import run
from brats_seg.data.nifti import header_for, write_label_map

SHAPE = (6, 7, 12)
AFFINE = np.diag([-1.0, -1.0, 1.0, 1.0])
CASES = ("BraTS20_Training_001", "BraTS20_Training_002", "BraTS20_Training_003")
# By how many voxels each model's maps are shifted, a case; a row of four voxels a label. The third has no ET, and
# `false` invents one there.
SHIFTS = {"good": (0, 1, 0), "fair": (1, 1, 1), "false": (2, 2, 2)}


def write(path: Path, shift: int = 0, labels: tuple[int, ...] = (4, 1, 2)) -> None:
    label_map = np.zeros(SHAPE, np.uint8)
    for row, label in enumerate(labels):
        label_map[2, 2 + row, 2 + shift : 6 + shift] = label
    path.parent.mkdir(parents=True, exist_ok=True)
    write_label_map(path, label_map, header_for(SHAPE, (1.0, 1.0, 1.0), AFFINE, np.uint8))


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with references, predictions of three models, and evaluations under two protocols."""
    root = tmp_path_factory.mktemp("compare")
    for number, case in enumerate(CASES):
        name, labels = f"{case}.nii.gz", (4, 1, 2) if number < 2 else (2, 1)
        write(root / "reference" / name, labels=labels)
        for model, shifts in SHIFTS.items():
            write(root / model / name, shifts[number], (4, 1, 2) if model == "false" else labels)
    for protocol in ("brats2020", "plain"):
        for model in SHIFTS:
            evaluate(root, model, protocol)
    return root


def evaluate(root: Path, model: str, protocol: str, *more: str, out: str = "") -> None:
    words = [str(root / "reference"), str(root / model), "--protocol", protocol, "--jobs", "1", "--quiet"]
    assert run(["evaluate", *words, "--out", str(root / (out or f"{protocol}_{model}")), *more]) == 0


def words(data: Path, *models: str, protocol: str = "brats2020") -> list[str]:
    return ["compare", *(str(data / f"{protocol}_{model}") for model in models or SHIFTS)]


def test_report_ranks_and_tests_within_100_columns(
    data: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "100")
    assert run(words(data)) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("Protocol brats2020: BraTS 2017-2021 portal")
    assert any(
        line.startswith("3 models, 3 cases, edition brats2020, regions ET, TC, WT; ranked by dice, hd95_mm")
        for line in lines
    )
    assert all(len(line) <= 100 for line in lines)
    table = lines[lines.index(next(line for line in lines if line.startswith("rank"))) + 2 :][:3]
    assert [line.split()[:2] for line in table] == [
        ["1", "brats2020_good"],
        ["2", "brats2020_fair"],
        ["3", "brats2020_false"],
    ]
    assert "dice (higher is better): mean rank, and mean over the cases where it is defined:" in lines
    assert "hd95_mm (lower is better): mean rank, and mean over the cases where it is defined:" in lines
    assert "brats2020_good against brats2020_fair:" in lines
    assert "brats2020_good against brats2020_false:" in lines
    assert "brats2020_fair against brats2020_false:" not in lines
    assert lines[-1].startswith("nothing written; --out DIR keeps")


def test_values_in_the_report_are_those_worked_out(data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run(words(data, "good", "fair"))
    lines = capsys.readouterr().out.splitlines()
    # ET of `fair` is shifted by 1 of 4 voxels in two cases and absent on both sides in the third: .75 .75 1.
    fair = [line.split() for line in lines if line.startswith("brats2020_fair")]
    assert fair[0][2] == "0.833"
    # `good` is better in case 1, equal in case 2 (both .75), and equal in case 3 in ET.
    et = next(line.split() for line in lines if line.startswith("ET      dice"))
    assert et[2] == "0.0833"
    assert "1 / 2 / 0" in " ".join(et)


def test_ranks_under_plain_are_those_of_the_penalties(data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run(words(data, protocol="plain"))
    out = capsys.readouterr().out
    assert "plain_good ET dice 1, ET hd95_mm 1" in out.replace("\n  ", " ")
    assert "They rank worst, or best where both masks are empty." in out.replace("\n  ", " ")
    # `false` invents ET where the reference has none: Dice 0 and HD95 nan rank behind the others' nan.
    heading = out.index("dice (higher")
    ranks = {line.split()[0]: line.split()[1] for line in out[heading:].splitlines()[3:6]}
    assert ranks == {"plain_good": "1.000", "plain_fair": "1.333", "plain_false": "3.000"}
    means = {line.split()[0]: line.split()[2] for line in out[heading:].splitlines()[3:6]}
    # Shifts of 0 and 1, 1 and 1, 2 and 2 of 4 voxels; the third case is nan for the first two, 0 for `false`.
    assert means == {"plain_good": "0.875", "plain_fair": "0.750", "plain_false": "0.333"}


def test_last_line_says_what_was_written(data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "out"
    assert run([*words(data), "--out", str(out)]) == 0
    last = capsys.readouterr().out.splitlines()[-1]
    assert last == f"Wrote ranking.csv, pairwise.csv, case_ranks.csv, compare.json to {out}"
    assert sorted(path.name for path in out.iterdir()) == [
        "case_ranks.csv",
        "compare.json",
        "pairwise.csv",
        "ranking.csv",
    ]
    assert run([*words(data), "--out", str(out)]) == 2
    assert "has a comparison already" in capsys.readouterr().err
    assert run([*words(data), "--out", str(out), "--overwrite", "--quiet"]) == 0
    assert capsys.readouterr() == ("", "")


def test_metrics_can_be_named(data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run([*words(data), "--metrics", "iou, nsd_1mm"]) == 0
    assert "ranked by iou, nsd_1mm" in capsys.readouterr().out
    assert run([*words(data), "--metrics", "dise"]) == 2
    assert capsys.readouterr().err.startswith("error: metric 'dise' is not there; did you mean dice? (known: assd_mm")
    assert run([*words(data), "--metrics", ","]) == 2
    assert "--metrics ',' names none" in capsys.readouterr().err


def test_edition_can_be_named(data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run([*words(data), "--edition", "brats2018"]) == 0
    assert "edition brats2018, regions ET, TC, WT" in capsys.readouterr().out
    assert run([*words(data), "--edition", "brats2024-men-rt"]) == 2
    assert f"case {CASES[0]} has no row of region GTV (3 such rows missing; expected GTV)" in capsys.readouterr().err


def test_regions_can_be_named(data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run([*words(data), "--regions", "ED, WT"]) == 0
    assert "regions ED, WT; ranked by" in capsys.readouterr().out
    assert run([*words(data), "--regions", "XT"]) == 2
    assert "region 'XT' is not in" in capsys.readouterr().err
    assert run([*words(data), "--regions", " "]) == 2
    assert "--regions ' ' names none, expected names with commas, as in ET,NCR" in capsys.readouterr().err


def test_cases_scored_as_failures_are_named(data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write(data / "gap" / f"{CASES[0]}.nii.gz")
    evaluate(data, "gap", "brats2020", "--missing", "score-as-failure")
    assert run(words(data, "good", "gap")) == 0
    out = capsys.readouterr().out.replace("\n  ", " ")
    assert f"No prediction, scored as failures, in brats2020_gap: {CASES[1]}, {CASES[2]}" in out


@pytest.mark.parametrize(
    ("folders", "message"),
    [
        (["brats2020_good"], "1 evaluation given, expected two or more"),
        (["brats2020_good", "plain_fair"], "protocols differ: brats2020_good has brats2020, plain_fair has plain"),
        (["brats2020_good", "brats2020_good"], "given twice"),
        (["brats2020_good", "reference"], "it has no cases.csv"),
        (["brats2020_good", "nowhere"], "no such folder"),
    ],
)
def test_what_cannot_be_compared_is_one_line(
    data: Path, folders: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["compare", *(str(data / folder) for folder in folders)]) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: ")
    assert message in error
    assert error.count("\n") == 1


def test_other_cases_are_refused(data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    evaluate(data, "fair", "brats2020", "--cases", ",".join(CASES[:2]), out="fewer")
    assert run(["compare", str(data / "brats2020_good"), str(data / "fewer")]) == 2
    assert f"cases differ: fewer lacks {CASES[2]} (1 of 3)" in capsys.readouterr().err


def test_help_is_fast_and_shows_examples() -> None:
    code = "import sys; from brats_seg.cli import run; run(['compare', '--help']); print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    help_text, modules = done.stdout.rsplit("\n", 2)[:2]
    assert "brats-seg compare evaluation_unet evaluation_swin" in help_text
    assert not {"torch", "monai", "SimpleITK", "scipy", "numpy", "nibabel"} & set(modules.split())


def test_comparing_imports_neither_torch_nor_scipy(data: Path) -> None:
    code = f"import sys; from brats_seg.cli import run; run({[*words(data), '--quiet']!r}); print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert not {"torch", "monai", "scipy", "SimpleITK"} & set(done.stdout.split())
