"""Folders compared and written: the files hold what the records say."""

from __future__ import annotations

import csv
import itertools
from pathlib import Path

import pytest

from brats_seg.errors import DataError, OutputError
from brats_seg.evaluation.comparison import RULES, check_output, compare_evaluations, write_comparison
from brats_seg.files import read_json, write_csv, write_json

COLUMNS = ("case", "region", "dice", "hd95_mm", "reference_voxels", "prediction_voxels", "protocol")

# Dice of three models in four cases, the same in every region; HD95 is 10 - 10 Dice, so both rank alike.
DICES = {"good": (0.9, 0.8, 0.9, 0.7), "fair": (0.8, 0.9, 0.7, 0.6), "poor": (0.1, 0.2, 0.7, 0.3)}
# Ranks a case: good 1 2 1 1, fair 2 1 2 2, poor 3 3 2 3. Means: 1.25, 1.75, 2.75.


@pytest.fixture
def folders(tmp_path: Path) -> dict[str, Path]:
    """Return three evaluations of four cases, by model."""
    made = {}
    for model, dices in DICES.items():
        lines = [
            [case, region, dice, 10 - 10 * dice, 3, 2, "plain"]
            for case, dice in zip(("c1", "c2", "c3", "c4"), dices, strict=True)
            for region in ("ET", "TC", "WT", "NCR", "ED")
        ]
        made[model] = tmp_path / model
        made[model].mkdir()
        write_csv(made[model] / "cases.csv", [COLUMNS, *lines])
        write_json(made[model] / "summary.json", {"editions": ["brats2021"]})
    return made


def read(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def test_files_hold_the_ranking_the_pairs_and_every_rank(folders: dict[str, Path], tmp_path: Path) -> None:
    files = write_comparison(tmp_path / "out", compare_evaluations(list(folders.values())))
    assert [path.name for path in files] == ["ranking.csv", "pairwise.csv", "case_ranks.csv", "compare.json"]
    ranking, pairs, ranks = (read(path) for path in files[:3])
    assert [(line["model"], line["mean_rank"], line["rank"]) for line in ranking] == [
        ("good", "1.25", "1"),
        ("fair", "1.75", "2"),
        ("poor", "2.75", "3"),
    ]
    assert list(ranking[0]) == [
        *("model", "mean_rank", "rank", "ci95_low", "ci95_high", "share_first"),
        *(f"mean_rank_{region}_{metric}" for region in ("ET", "TC", "WT") for metric in ("dice", "hd95_mm")),
    ]
    assert ranking[1]["mean_rank_TC_hd95_mm"] == "1.75"
    assert len(pairs) == 3 * 3 * 2 + 3
    assert [(line["first"], line["second"]) for line in pairs[-3:]] == [
        ("good", "fair"),
        ("good", "poor"),
        ("fair", "poor"),
    ]
    whole = pairs[-3]
    assert (whole["region"], whole["metric"], whole["method"], whole["statistic"]) == (
        "all",
        "mean_rank",
        "permutation",
        "",
    )
    assert float(whole["mean_difference"]) == pytest.approx(-0.5)
    assert len(ranks) == 4 * 3 * 2 * 3
    third = {line["model"]: line["rank"] for line in ranks if (line["case"], line["region"]) == ("c3", "ET")}
    assert third == {"good": "1", "fair": "2", "poor": "2"}


def test_record_names_folders_rules_and_seed(folders: dict[str, Path], tmp_path: Path) -> None:
    record = read_json(write_comparison(tmp_path / "out", compare_evaluations(list(folders.values())))[-1])
    assert [(model["model"], Path(model["folder"])) for model in record["models"]] == list(folders.items())
    assert (record["protocol"], record["editions"], record["num_cases"]) == ("plain", ["brats2021"], 4)
    assert record["metrics"] == [
        {"name": "dice", "is_higher_better": True},
        {"name": "hd95_mm", "is_higher_better": False},
    ]
    assert (len(record["pairs"]), len(record["rank_pairs"]), record["seed"]) == (18, 3, 0)
    assert record["rules"] == RULES


def test_order_of_the_folders_does_not_change_a_byte(folders: dict[str, Path], tmp_path: Path) -> None:
    contents = set()
    for number, order in enumerate(itertools.permutations(folders.values())):
        files = write_comparison(tmp_path / str(number), compare_evaluations(order))
        contents.add(tuple(path.read_bytes() for path in files[:3]))
    assert len(contents) == 1


def test_a_folder_that_must_be_kept_is_refused(folders: dict[str, Path], tmp_path: Path) -> None:
    with pytest.raises(OutputError, match="lies inside the input"):
        check_output(folders["good"] / "comparison", folders.values(), overwrite=True)
    out = tmp_path / "out"
    check_output(out, folders.values(), overwrite=False)
    assert not out.exists()
    write_comparison(out, compare_evaluations(list(folders.values())))
    with pytest.raises(OutputError, match="has a comparison already; choose another --out, or replace it"):
        check_output(out, folders.values(), overwrite=False)
    check_output(out, folders.values(), overwrite=True)


def test_a_comparison_that_was_not_finished_is_not_taken_for_one(
    folders: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from brats_seg.evaluation import comparison

    found = compare_evaluations(list(folders.values()))
    write_comparison(tmp_path / "out", found)

    def fail(*_: object) -> None:
        raise DataError("disk full")

    monkeypatch.setattr(comparison, "write_csv", fail)
    with pytest.raises(DataError, match="disk full"):
        write_comparison(tmp_path / "out", found)
    assert not (tmp_path / "out" / "compare.json").exists()
