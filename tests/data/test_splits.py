"""Folds: whole patients, even strata, the same for the same cases."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from brats_seg.data.splits import Member, fold_of, load_split, save_split, split_cases
from brats_seg.errors import DataError


def member(name: str, patient: str | None = None, site: str | None = None, has_et: bool | None = True) -> Member:
    return Member(name, patient or name, site, has_et)


def singles(num: int, *, has_et: bool | None = True, site: str | None = None, prefix: str = "p") -> list[Member]:
    """One case a patient."""
    return [member(f"{prefix}{n:03d}", has_et=has_et, site=site) for n in range(num)]


@st.composite
def cohorts(draw: st.DrawFn, largest: int) -> list[Member]:
    """Patients with one to `largest` time points, of any site, with and without ET."""
    members = []
    for patient in range(draw(st.integers(2, 40))):
        site = draw(st.sampled_from([None, "CBICA", "TCIA01", "2013"]))
        for scan in range(draw(st.integers(1, largest))):
            members.append(
                member(f"{patient:02d}-{scan}", str(patient), site, draw(st.sampled_from([True, False, None])))
            )
    return members


@settings(deadline=None, max_examples=60)
@given(members=cohorts(largest=3), num_folds=st.integers(2, 6), random=st.randoms(use_true_random=False))
def test_every_case_is_held_out_once_with_its_patient_whatever_the_order(
    members: list[Member], num_folds: int, random: Random
) -> None:
    patient_of = {m.name: m.patient for m in members}
    num_patients = len(set(patient_of.values()))
    if num_patients < num_folds:
        with pytest.raises(DataError, match=f"{num_folds} folds of {num_patients} patients"):
            split_cases(members, num_folds)
        return
    folds = split_cases(members, num_folds)
    assert sorted(name for fold in folds for name in fold) == sorted(patient_of)
    patients = [{patient_of[name] for name in fold} for fold in folds]
    assert sum(map(len, patients)) == num_patients
    assert all(patients)
    shuffled = random.sample(members, len(members))
    assert split_cases(shuffled, num_folds) == folds


@settings(deadline=None, max_examples=60)
@given(members=cohorts(largest=1), num_folds=st.integers(2, 6))
def test_patients_and_those_with_and_without_et_differ_by_at_most_one(members: list[Member], num_folds: int) -> None:
    if len(members) < num_folds:
        return
    has_et = {m.name: m.has_et for m in members}
    counts = [Counter(has_et[name] for name in fold) for fold in split_cases(members, num_folds)]
    for kind in (True, False, None):
        numbers = [count[kind] for count in counts]
        assert max(numbers) - min(numbers) <= 1
    sizes = [count.total() for count in counts]
    assert max(sizes) - min(sizes) <= 1


def test_sites_are_spread_over_the_folds() -> None:
    members = [
        *singles(10, site="CBICA", prefix="a"),
        *singles(5, site="TCIA01", prefix="b"),
        *singles(5, site="TMC", prefix="c", has_et=False),
    ]
    site = {m.name: m.site for m in members}
    for fold in split_cases(members, 5):
        assert Counter(site[name] for name in fold) == {"CBICA": 2, "TCIA01": 1, "TMC": 1}


def test_a_site_of_both_strata_is_spread_too() -> None:
    # Two patients of TMC without ET and three with it: one in each fold.
    members = [
        *singles(3, site="CBICA", prefix="a", has_et=False),
        *singles(2, site="TMC", prefix="b", has_et=False),
        *singles(7, site="CBICA", prefix="c"),
        *singles(3, site="TMC", prefix="d"),
    ]
    site = {m.name: m.site for m in members}
    assert [sum(site[name] == "TMC" for name in fold) for fold in split_cases(members, 5)] == [1] * 5


def test_patients_of_many_time_points_are_spread_over_the_folds() -> None:
    # Patients of 1, 2, 3 and 4 scans: 4 and 3 are dealt first, then 2 to the smaller fold, then 1: 4 + 1 and 3 + 2.
    members = [member(f"{size}-{scan}", str(size)) for size in (1, 2, 3, 4) for scan in range(size)]
    assert [len(fold) for fold in split_cases(members, 2)] == [5, 5]


def test_a_patient_scanned_at_two_sites_counts_for_the_first_scans_whatever_the_order() -> None:
    moved = [member("a-0", "a", "TMC"), member("a-1", "a", "CBICA")]
    others = [member(name, site="TMC") for name in "bcd"]
    assert split_cases(moved + others, 2) == (("a-0", "a-1", "d"), ("b", "c"))
    assert split_cases(others + moved[::-1], 2) == (("a-0", "a-1", "d"), ("b", "c"))


def test_a_patient_with_et_at_one_time_point_counts_as_with_et() -> None:
    members = [member("a-0", "a", has_et=False), member("a-1", "a"), *singles(1), *singles(2, has_et=False, prefix="n")]
    folds = split_cases(members, 2)
    assert all(len([name for name in fold if name.startswith("n")]) == 1 for fold in folds)


def test_few_patients_one_fold_and_twins_are_refused() -> None:
    with pytest.raises(DataError, match="5 folds of 4 patients: a fold would be empty"):
        split_cases(singles(4), 5)
    with pytest.raises(DataError, match="1 folds: at least 2"):
        split_cases(singles(4), 1)
    with pytest.raises(DataError, match="case p000: there more than once"):
        split_cases([*singles(4), *singles(1)], 2)


# ---- files ----


def test_saved_folds_come_back(tmp_path: Path) -> None:
    folds = split_cases(singles(7), 3)
    save_split(tmp_path / "split.json", folds)
    assert load_split(tmp_path / "split.json") == folds
    assert json.loads((tmp_path / "split.json").read_text()) == {"folds": [list(fold) for fold in folds]}


def load_text(folder: Path, text: str) -> tuple[tuple[str, ...], ...]:
    (folder / "split.json").write_text(text)
    return load_split(folder / "split.json")


def test_case_in_two_folds_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"split\.json: case a is in folds 0 and 2; leave it in one"):
        load_text(tmp_path, '{"folds": [["a"], ["b"], ["a", "c"]]}')


def test_case_twice_in_a_fold_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="case a is twice in fold 0"):
        load_text(tmp_path, '{"folds": [["a", "a"], ["b"]]}')


def test_patient_in_two_folds_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="patient BraTS-SSA-00001 is in folds 0 and 1"):
        load_text(tmp_path, '{"folds": [["BraTS-SSA-00001-000"], ["BraTS-SSA-00001-001"]]}')


def test_patients_of_the_store_are_looked_at_too(tmp_path: Path) -> None:
    load_text(tmp_path, '{"folds": [["a"], ["b"]]}')
    with pytest.raises(DataError, match="patient P is in folds 0 and 1"):
        load_split(tmp_path / "split.json", patients={"a": "P", "b": "P"})


def test_all_overlaps_are_told_at_once(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"folds overlap: 2 problems\n.*case a.*\n.*case b"):
        load_text(tmp_path, '{"folds": [["a", "b"], ["b", "a"]]}')


@pytest.mark.parametrize(
    "text", ["[]", "{}", '{"folds": 3}', '{"folds": [3]}', '{"folds": [[3]]}', '{"folds": ["ab"]}']
)
def test_other_json_is_refused(tmp_path: Path, text: str) -> None:
    with pytest.raises(DataError, match="a list of case names a fold"):
        load_text(tmp_path, text)


def test_no_file_and_no_json_are_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no such file; brats-seg split DATA"):
        load_split(tmp_path / "none.json")
    with pytest.raises(DataError, match="cannot be read as JSON"):
        load_text(tmp_path, "{")


# ---- one fold ----

FOLDS = (("a", "d"), ("b",), ("c",))


def test_a_fold_trains_on_all_others() -> None:
    assert fold_of(FOLDS, 1, ["a", "b", "c", "d"]) == (("a", "c", "d"), ("b",))


def test_cases_that_no_fold_names_are_in_neither() -> None:
    assert fold_of(FOLDS, 0, ["a", "b", "c", "d", "e"]) == (("b", "c"), ("a", "d"))


@pytest.mark.parametrize("fold", [-1, 3])
def test_fold_that_does_not_exist_is_refused(fold: int) -> None:
    with pytest.raises(DataError, match=f"fold {fold}: there are 3 folds, 0 to 2"):
        fold_of(FOLDS, fold, ["a", "b", "c", "d"])


def test_fold_with_nothing_to_hold_out_or_to_train_on_is_refused() -> None:
    with pytest.raises(DataError, match="fold 1: no case would be held out"):
        fold_of((("a",), ()), 1, ["a"])
    with pytest.raises(DataError, match="fold 0: no case would be trained on"):
        fold_of((("a",), ()), 0, ["a"])


def test_case_that_is_not_there_is_refused_by_name() -> None:
    with pytest.raises(DataError, match=r"2 cases that are not there: c, d \(2 are there\)"):
        fold_of(FOLDS, 0, ["a", "b"])


def test_slices_of_one_patient_in_two_folds_are_refused_also_where_the_file_names_slices(tmp_path: Path) -> None:
    name = "TCGA_CS_4941_19960909"
    path = tmp_path / "split.json"
    save_split(path, [[f"{name}_1"], [f"{name}_2"]])
    with pytest.raises(DataError, match=r"patient TCGA_CS_4941 is in folds 0 and 1; leave it in one"):
        load_split(path)
    save_split(path, [[name], ["TCGA_CS_4941_19970909"]])
    with pytest.raises(DataError, match=r"patient TCGA_CS_4941 is in folds 0 and 1"):
        load_split(path)
