"""Evaluation folders read back: what comes out, and everything that is refused."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from brats_seg.errors import BratsSegError, DataError, UsageError
from brats_seg.evaluation.saved import join_evaluations, names_of_folders, read_evaluation
from brats_seg.files import write_csv, write_json

REGIONS = ("ET", "TC", "WT", "NCR", "ED")
COLUMNS = (
    *("case", "region", "dice", "iou", "sensitivity", "specificity", "precision", "hd95_mm", "assd_mm", "nsd_1mm"),
    *("reference_ml", "prediction_ml", "reference_voxels", "prediction_voxels", "protocol"),
)

Rows = list[dict[str, object]]


def rows_of(cases: tuple[str, ...] = ("a", "b"), **changes: object) -> Rows:
    """Return lines of a `cases.csv` whose Dice is 0.1 in the first, 0.11 in the second and so on."""
    values = dict.fromkeys(COLUMNS[2:12], 0.25) | {"reference_voxels": 3, "prediction_voxels": 2}
    places = [(case, region) for case in cases for region in REGIONS]
    return [
        {"case": case, "region": region, **values, "dice": round(0.1 + 0.01 * n, 2), "protocol": "brats2020"} | changes
        for n, (case, region) in enumerate(places)
    ]


def write(folder: Path, rows: Rows, editions: tuple[str, ...] = ("brats2020",), missing: tuple[str, ...] = ()) -> Path:
    """Write a folder as `evaluate` does."""
    folder.mkdir(parents=True, exist_ok=True)
    write_csv(folder / "cases.csv", [COLUMNS, *([row[name] for name in COLUMNS] for row in rows)])
    write_json(folder / "summary.json", {"protocol_title": "a title", "editions": editions, "missing": missing})
    return folder


def test_what_was_written_is_read_back(tmp_path: Path) -> None:
    rows = rows_of(("b", "a"), hd95_mm=math.inf, precision=math.nan)
    one = read_evaluation(write(tmp_path / "x", rows))
    assert (one.protocol, one.editions, one.regions, one.cases) == (
        "brats2020",
        ("brats2020",),
        ("ET", "TC", "WT"),
        ("a", "b"),
    )
    assert (one.protocol_title, one.labels) == ("a title", ("NCR", "ED"))
    assert "dice" in one.metrics
    assert "reference_ml" not in one.metrics
    # The file has b first: its ET, TC, WT are rows 0 to 2, those of a rows 5 to 7; labels come last.
    assert one.columns["dice"] == pytest.approx(
        np.array([[0.15, 0.16, 0.17, 0.18, 0.19], [0.1, 0.11, 0.12, 0.13, 0.14]])
    )
    assert np.isinf(one.columns["hd95_mm"]).all()
    assert np.isnan(one.columns["precision"]).all()


def test_editions_with_the_same_regions_mix(tmp_path: Path) -> None:
    folders = [
        write(tmp_path / "x", rows_of(), ("brats2020", "brats2019")),
        write(tmp_path / "y", rows_of(), ("brats2019", "brats2020")),
    ]
    evaluations = [read_evaluation(folder) for folder in folders]
    assert evaluations[0].editions == ("brats2019", "brats2020")
    assert join_evaluations(evaluations).regions == ("ET", "TC", "WT")


def test_scores_are_of_the_regions_and_the_challenges_metrics(tmp_path: Path) -> None:
    folders = [write(tmp_path / name, rows_of()) for name in ("x", "y")]
    scores = join_evaluations([read_evaluation(folder) for folder in folders])
    assert (scores.models, scores.cases, scores.regions) == (("x", "y"), ("a", "b"), ("ET", "TC", "WT"))
    assert [metric.name for metric in scores.metrics] == ["dice", "hd95_mm"]
    assert scores.values.shape == (2, 2, 3, 2)
    named = join_evaluations([read_evaluation(folder) for folder in folders], ["iou"])
    assert (named.values == 0.25).all()


def test_regions_and_labels_can_be_named(tmp_path: Path) -> None:
    evaluations = [read_evaluation(write(tmp_path / name, rows_of())) for name in ("x", "y")]
    scores = join_evaluations(evaluations, ["dice"], ["ED", "ET"])
    assert scores.regions == ("ED", "ET")
    assert scores.values[0, :, :, 0].tolist() == [[0.14, 0.1], [0.19, 0.15]]
    assert scores.is_nothing_missed is not None
    assert scores.is_nothing_missed.shape == (2, 2, 2)
    with pytest.raises(UsageError, match=r"region 'NRC' is not in .*x; did you mean NCR\?"):
        join_evaluations(evaluations, None, ["NRC"])
    with pytest.raises(UsageError, match="region 'ET' is named twice"):
        join_evaluations(evaluations, None, ["ET", "ET"])


def test_a_label_that_some_cases_lack_is_left_out(tmp_path: Path) -> None:
    rows = [row for row in rows_of() if (row["case"], row["region"]) != ("b", "NCR")]
    one = read_evaluation(write(tmp_path / "x", rows))
    assert (one.labels, one.columns["dice"].shape) == (("ED",), (2, 4))


def test_both_empty_counts_as_nothing_missed_unless_the_prediction_was_missing(tmp_path: Path) -> None:
    rows = rows_of(("a", "b", "c"), reference_voxels=0, prediction_voxels=0)
    rows = [row | {"prediction_voxels": 5} if row["case"] == "c" else row for row in rows]
    folders = [write(tmp_path / "x", rows), write(tmp_path / "y", rows, missing=("b",))]
    scores = join_evaluations([read_evaluation(folder) for folder in folders])
    assert scores.is_nothing_missed is not None
    assert scores.is_nothing_missed[..., 0].tolist() == [[True, True, False], [True, False, False]]


def test_names_are_the_folders_own_with_as_much_before_as_tells_them_apart() -> None:
    names = names_of_folders([Path("/d/run1/evaluation"), Path("/d/run2/evaluation"), Path("/d/swin")])
    assert names == ("run1/evaluation", "run2/evaluation", "swin")
    assert names_of_folders([Path("/a/x/e"), Path("/b/x/e")]) == ("a/x/e", "b/x/e")
    with pytest.raises(UsageError, match=r"/d/e/../swin: given twice"):
        names_of_folders([Path("/d/swin"), Path("/d/other"), Path("/d/e/../swin")])


def edit(path: Path, change: Callable[[str], str]) -> None:
    path.write_text(change(path.read_text()))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda text: text.replace("0.11,", "bad,", 1), "cases.csv: line 3, column dice: 'bad', expected a number"),
        (lambda text: text.replace("3,2,", "nan,2,", 1), "line 2, column reference_voxels: 'nan', expected a whole"),
        (lambda text: text.replace("0.25,3", "3", 1), "cases.csv: line 2: 14 values, expected 15"),
        (lambda text: text + text.splitlines()[1] + "\n", "line 12: case a, region ET comes twice"),
        (lambda text: text.replace("b,TC", "b,TX"), r"case b has no row of region TC \(1 such rows missing"),
        (lambda text: text.replace("reference_voxels,", "voxels,"), "no column reference_voxels in line 1"),
        (lambda text: text.replace("iou", "dice", 1), "a column comes twice in line 1"),
        (lambda text: text.splitlines()[0], "no rows below the header"),
        (lambda text: "", "no column case, region, reference_voxels, prediction_voxels, protocol in line 1"),
        (lambda text: text.replace("brats2020", "plain", 1), r"rows of several protocols \(brats2020, plain\)"),
        (lambda text: text.replace("a,ET", '"a,ET', 1), "no table in UTF-8"),
    ],
    ids=["number", "voxels", "short", "twice", "gap", "column", "columns", "no rows", "empty", "protocols", "quotes"],
)
def test_a_malformed_table_is_refused_by_place(tmp_path: Path, change: Callable[[str], str], message: str) -> None:
    folder = write(tmp_path / "x", rows_of())
    edit(folder / "cases.csv", change)
    with pytest.raises(DataError, match=message) as caught:
        read_evaluation(folder)
    assert "\n" not in str(caught.value)
    assert str(folder / "cases.csv") in str(caught.value)


def test_a_table_in_another_encoding_is_refused(tmp_path: Path) -> None:
    folder = write(tmp_path / "x", rows_of())
    (folder / "cases.csv").write_bytes(b"case\xff,region\n")
    with pytest.raises(DataError, match="no table in UTF-8"):
        read_evaluation(folder)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "no summary that names its editions"),
        ("[]", "no summary that names its editions"),
        ('{"editions": []}', r"editions \[\], expected one or more of"),
        ('{"editions": ["brats1999"]}', r"editions \['brats1999'\], expected one or more of brats2017"),
        ('{"editions": ["brats2020"], "missing": 5}', "no summary that names its editions"),
        (None, "summary.json: not there, and it tells the edition"),
    ],
)
def test_a_summary_that_tells_no_edition_is_refused(tmp_path: Path, text: str | None, message: str) -> None:
    folder = write(tmp_path / "x", rows_of())
    (folder / "summary.json").unlink()
    if text is not None:
        (folder / "summary.json").write_text(text)
    with pytest.raises(DataError, match=message):
        read_evaluation(folder)


def test_an_edition_that_is_named_needs_no_summary(tmp_path: Path) -> None:
    folder = write(tmp_path / "x", rows_of())
    assert read_evaluation(folder, "brats2021").editions == ("brats2021",)
    (folder / "summary.json").unlink()
    one = read_evaluation(folder, "brats2020")
    assert (one.editions, one.regions, one.without_prediction) == (("brats2020",), ("ET", "TC", "WT"), ())
    assert one.protocol_title.startswith("BraTS 2017-2021 portal")
    with pytest.raises(UsageError, match="edition 'brats20' is unknown"):
        read_evaluation(folder, "brats20")


def test_what_is_no_evaluation_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"it has no cases\.csv; expected a folder written by `brats-seg evaluate"):
        read_evaluation(tmp_path)
    with pytest.raises(DataError, match="no such folder"):
        read_evaluation(tmp_path / "x")
    (tmp_path / "cases.csv").write_text("")
    with pytest.raises(DataError, match=r"cases\.csv: a file; expected a folder"):
        read_evaluation(tmp_path / "cases.csv")


def joined(*folders: Path, metrics: list[str] | None = None) -> None:
    join_evaluations([read_evaluation(folder) for folder in folders], metrics)


def test_fewer_than_two_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="1 evaluation given, expected two or more"):
        joined(write(tmp_path / "x", rows_of()))


@pytest.mark.parametrize(
    ("rows", "editions", "message"),
    [
        (rows_of(protocol="plain"), ("brats2020",), "protocols differ: x has brats2020, y has plain"),
        (rows_of(), ("brats2021",), r"editions differ: x has brats2020 \(regions ET, TC, WT\), y has brats2021"),
        (
            rows_of(("b", "c", "d")),
            ("brats2020",),
            r"cases differ: x lacks c, d \(2 of 4\); y lacks a \(1 of 4\); evaluate",
        ),
        (
            rows_of(reference_voxels=9),
            ("brats2020",),
            "references differ: case a, region ET has 3 voxels in x, 9 in y",
        ),
    ],
    ids=["protocol", "edition", "cases", "reference"],
)
def test_what_cannot_be_compared_is_refused(
    tmp_path: Path, rows: Rows, editions: tuple[str, ...], message: str
) -> None:
    with pytest.raises(BratsSegError, match=message) as caught:
        joined(write(tmp_path / "x", rows_of()), write(tmp_path / "y", rows, editions))
    assert "\n" not in str(caught.value)


def test_many_missing_cases_are_counted(tmp_path: Path) -> None:
    many = tuple(f"c{number:02}" for number in range(30))
    with pytest.raises(DataError, match=r"y lacks c01, c02, .*, c10, and 19 more \(29 of 30\)"):
        joined(write(tmp_path / "x", rows_of(many)), write(tmp_path / "y", rows_of(many[:1])))


def test_a_metric_that_one_lacks_is_refused(tmp_path: Path) -> None:
    folders = [write(tmp_path / name, rows_of()) for name in ("x", "y")]
    edit(folders[1] / "cases.csv", lambda text: text.replace("iou", "other", 1))
    joined(*folders)
    with pytest.raises(UsageError, match="metric 'iou' is not there"):
        joined(*folders, metrics=["iou"])
