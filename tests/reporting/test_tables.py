"""Plain-text tables: alignment by type, decimals, wrapping of the last column, nothing ever cut."""

from __future__ import annotations

import os

import numpy as np
import pytest

from brats_seg.reporting.tables import counted, format_table, table_width


def test_one_thing_is_singular_and_thousands_have_commas() -> None:
    assert [counted(number, "case") for number in (0, 1, 2, 1251)] == ["0 cases", "1 case", "2 cases", "1,251 cases"]


def test_text_is_left_and_numbers_are_right() -> None:
    table = format_table(["case", "Dice", "voxels"], [["a", 0.5, 7], ["longer", 0.12345, 1234]])
    assert table.splitlines() == [
        "case     Dice  voxels",
        "------  -----  ------",
        "a       0.500       7",
        "longer  0.123    1234",
    ]


def test_decimals_may_differ_by_column() -> None:
    table = format_table(["a", "b"], [[1.0, 2.0]], digits=(1, 4))
    assert table.splitlines()[-1] == "1.0  2.0000"


def test_nan_and_inf_are_words_and_none_is_empty() -> None:
    table = format_table(["x", "y"], [[float("nan"), None], [float("inf"), 1.0]])
    assert table.splitlines()[2:] == ["nan", "inf  1.000"]


def test_numpy_numbers_are_numbers_and_truth_is_text() -> None:
    table = format_table(["x", "number", "ok"], [[np.float32(0.25), np.int64(3), True]])
    assert table.splitlines()[-1] == "0.250       3  True"


def test_last_column_wraps_between_words_under_itself() -> None:
    table = format_table(["case", "finding"], [["a", "label 3 is not in edition brats2020"]], width=28)
    assert table.splitlines() == [
        "case  finding",
        "----  ----------------------",
        "a     label 3 is not in",
        "      edition brats2020",
    ]


@pytest.mark.parametrize("width", [1, 40, 200])
def test_names_are_never_cut(width: int) -> None:
    name, path = "BraTS-GLI-00000-000-" * 5, "/a/very/long/path/" * 8 + "x.nii.gz"
    table = format_table(["case", "Dice", "file"], [[name, 0.5, path]], width=width)
    assert name in table
    assert path in table


def test_lines_of_a_cell_stay_lines() -> None:
    assert format_table(["a", "b"], [["x", "one\ntwo"]]).splitlines()[2:] == ["x  one", "   two"]


def test_no_rows_give_the_header_alone() -> None:
    assert format_table(["case", "Dice"], []) == "case  Dice\n----  ----"


def test_a_row_of_another_length_is_our_own_mistake() -> None:
    with pytest.raises(ValueError, match="zip"):
        format_table(["a", "b"], [["only one"]])


def test_width_is_100_without_a_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("COLUMNS", raising=False)
    monkeypatch.setattr("shutil.get_terminal_size", os.terminal_size)
    assert table_width() == 100


def test_width_follows_the_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "60")
    table = format_table(["case", "finding"], [["a", "word " * 30]])
    assert max(map(len, table.splitlines())) <= 60
