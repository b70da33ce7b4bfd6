"""Discovery: every layout in which BraTS was given out, and what people make of it."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

import numpy as np
import pytest

from brats_seg.data.cases import Case, case_from_files, find_cases, stem_of
from brats_seg.data.nifti import header_for, write_label_map
from brats_seg.data.phantom import write_download
from brats_seg.editions import EDITIONS
from brats_seg.errors import DataError, UsageError

OLD = ("t1", "t1ce", "t2", "flair")
NEW = ("t1n", "t1c", "t2w", "t2f")


def touch(path: Path) -> Path:
    """Make an empty file: names alone are looked at unless they leave the edition open."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.touch()
    return path


def make_case(
    parent: Path, name: str, tokens: Iterable[str] = (*OLD, "seg"), *, separator: str = "_", suffix: str = ".nii.gz"
) -> Path:
    for token in tokens:
        touch(parent / name / f"{name}{separator}{token}{suffix}")
    return parent / name


def make_labelled(
    parent: Path, name: str, values: Sequence[int], shape: tuple[int, int, int] = (2, 3, 4), tokens: Iterable[str] = NEW
) -> Path:
    """Make a case of the years from 2023 on; label map and images are files that can be read."""
    label_map = np.resize(np.array(values, np.uint8), shape)
    header = header_for(shape, (1.0, 1.0, 1.0), np.diag([-1.0, -1.0, 1.0, 1.0]), np.uint8)
    folder = parent / name
    folder.mkdir(parents=True)
    for token in (*tokens, *["seg"] * bool(len(values))):
        write_label_map(folder / f"{name}-{token}.nii.gz", label_map, header)
    return folder


def names_of(cases: Iterable[Case]) -> list[str]:
    return [case.name for case in cases]


# ---- layouts ----


@pytest.mark.parametrize("suffix", [".nii.gz", ".nii", ".NII.GZ"])
def test_download_of_2020_is_found_compressed_or_not(tmp_path: Path, suffix: str) -> None:
    folder = make_case(tmp_path / "MICCAI_BraTS2020_TrainingData", "BraTS20_Training_001", suffix=suffix)
    (case,) = find_cases(tmp_path).cases
    assert (case.name, case.patient, case.site, case.edition) == (folder.name, folder.name, None, "brats2020")
    assert {m: file.path.name for m, file in case.images.items()} == {
        m: f"BraTS20_Training_001_{token}{suffix}" for m, token in zip(("t1", "t1c", "t2", "flair"), OLD, strict=True)
    }
    assert list(case.images) == ["t1", "t1c", "t2", "flair"]
    assert case.label == folder / f"BraTS20_Training_001_seg{suffix}"
    assert all(file.channel is None for file in case.images.values())


def test_grade_folders_of_2018_are_looked_into_and_cases_sorted_by_name(tmp_path: Path) -> None:
    make_case(tmp_path / "LGG", "Brats18_2013_0_1")
    make_case(tmp_path / "HGG", "Brats18_TCIA01_101_1")
    make_case(tmp_path / "HGG" / "deeper" / "still", "Brats18_CBICA_AAB_1")
    cases = find_cases(tmp_path).cases
    assert names_of(cases) == ["Brats18_2013_0_1", "Brats18_CBICA_AAB_1", "Brats18_TCIA01_101_1"]
    assert [case.site for case in cases] == ["2013", "CBICA", "TCIA01"]


def test_single_case_folder_is_a_download_of_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = make_case(tmp_path, "BraTS2021_00000")
    assert names_of(find_cases(folder).cases) == ["BraTS2021_00000"]
    monkeypatch.chdir(folder)
    assert names_of(find_cases(Path()).cases) == ["BraTS2021_00000"]


def test_editions_that_go_together_mix_in_one_folder(tmp_path: Path) -> None:
    make_case(tmp_path / "a", "Brats18_2013_3_1")
    make_case(tmp_path / "b", "BraTS19_TCIA01_131_1")
    make_case(tmp_path / "c", "BraTS2021_00000")
    make_case(tmp_path / "d", "BraTS-SSA-00002-000", (*NEW, "seg"), separator="-")
    editions = {case.name: case.edition for case in find_cases(tmp_path).cases}
    assert list(editions.values()) == ["brats2023-ssa", "brats2019", "brats2021", "brats2018"]


def test_editions_with_other_modalities_do_not_mix(tmp_path: Path) -> None:
    make_case(tmp_path, "BraTS2021_00000")
    make_case(tmp_path, "BraTS-MEN-RT-0000-1", ("t1c", "gtv"))
    with pytest.raises(DataError, match=r"brats2021 and brats2024-men-rt in one folder: .*give one at a time"):
        find_cases(tmp_path)


def test_validation_cases_have_no_label_map(tmp_path: Path) -> None:
    make_case(tmp_path, "BraTS20_Validation_001", OLD)
    make_case(tmp_path, "BraTS2021_00001", OLD)
    assert [case.label for case in find_cases(tmp_path).cases] == [None, None]


def test_radiotherapy_cases_have_one_modality_and_underscores(tmp_path: Path) -> None:
    folder = make_case(tmp_path, "BraTS-MEN-RT-0012-1", ("t1c", "gtv"))
    (case,) = find_cases(tmp_path).cases
    assert (case.edition, case.patient, list(case.images)) == ("brats2024-men-rt", "BraTS-MEN-RT-0012", ["t1c"])
    assert case.label == folder / "BraTS-MEN-RT-0012-1_gtv.nii.gz"


def test_time_points_belong_to_one_patient(tmp_path: Path) -> None:
    for name in ("BraTS-SSA-00000-000", "BraTS-SSA-00000-001", "BraTS-SSA-00001-000"):
        make_case(tmp_path, name, NEW, separator="-")
    assert [case.patient for case in find_cases(tmp_path).cases] == [*["BraTS-SSA-00000"] * 2, "BraTS-SSA-00001"]


def test_files_of_several_cases_may_lie_in_one_folder(tmp_path: Path) -> None:
    for name in ("BraTS2021_00000", "BraTS2021_00001"):
        for token in (*OLD, "seg"):
            touch(tmp_path / "flat" / f"{name}_{token}.nii.gz")
    download = find_cases(tmp_path)
    assert names_of(download.cases) == ["BraTS2021_00000", "BraTS2021_00001"]
    assert [case.label.name for case in download.cases if case.label] == [
        "BraTS2021_00000_seg.nii.gz",
        "BraTS2021_00001_seg.nii.gz",
    ]


def test_linked_folders_are_followed_and_circles_are_not(tmp_path: Path) -> None:
    make_case(tmp_path / "elsewhere", "BraTS2021_00000")
    root = tmp_path / "root"
    root.mkdir()
    (root / "linked").symlink_to(tmp_path / "elsewhere")
    (root / "circle").symlink_to(root)
    download = find_cases(root)
    assert names_of(download.cases) == ["BraTS2021_00000"]
    assert download.passed_over == ("circle/",)


# ---- the decathlon ----


@pytest.fixture
def decathlon(tmp_path: Path) -> Path:
    root = tmp_path / "Task01_BrainTumour"
    for name in ("BRATS_001", "BRATS_002"):
        touch(root / "imagesTr" / f"{name}.nii.gz")
        touch(root / "imagesTr" / f"._{name}.nii.gz")
        touch(root / "labelsTr" / f"{name}.nii.gz")
    touch(root / "imagesTs" / "BRATS_485.nii.gz")
    return root


def test_decathlon_is_read_by_channel(decathlon: Path) -> None:
    download = find_cases(decathlon.parent)
    assert names_of(download.cases) == ["BRATS_001", "BRATS_002", "BRATS_485"]
    first, _, test = download.cases
    assert first.edition == "msd-task01"
    assert {m: file.channel for m, file in first.images.items()} == {"t1": 1, "t1c": 2, "t2": 3, "flair": 0}
    assert {file.path for file in first.images.values()} == {decathlon / "imagesTr" / "BRATS_001.nii.gz"}
    assert first.label == decathlon / "labelsTr" / "BRATS_001.nii.gz"
    assert test.label is None
    assert [Path(path).name for path in download.passed_over] == ["._BRATS_001.nii.gz", "._BRATS_002.nii.gz"]


def test_decathlon_channels_are_those_of_its_description(decathlon: Path) -> None:
    channels = {"0": "T1w", "1": "FLAIR", "2": "t1gd", "3": "T2w"}
    (decathlon / "dataset.json").write_text(json.dumps({"modality": channels}))
    images = find_cases(decathlon).cases[0].images
    assert {m: file.channel for m, file in images.items()} == {"t1": 0, "t1c": 2, "t2": 3, "flair": 1}


@pytest.mark.parametrize("text", ["{", "{}", '{"modality": {"0": "CT"}}', '{"modality": ["T1w"]}'])
def test_description_without_the_four_channels_is_refused(decathlon: Path, text: str) -> None:
    (decathlon / "dataset.json").write_text(text)
    with pytest.raises(DataError, match=r"dataset\.json"):
        find_cases(decathlon)


# ---- modalities ----


def test_modality_aliases_are_known_in_any_case_of_letters(tmp_path: Path) -> None:
    for token in ("T1w", "T1GD", "T2", "FLAIR", "Seg"):
        touch(tmp_path / "BraTS2021_00000" / f"BraTS2021_00000_{token}.nii.gz")
    (case,) = find_cases(tmp_path).cases
    assert [file.path.name.split("_")[-1] for file in case.images.values()] == [
        "T1w.nii.gz",
        "T1GD.nii.gz",
        "T2.nii.gz",
        "FLAIR.nii.gz",
    ]
    assert case.label is not None


def test_files_may_be_named_by_modality_alone(tmp_path: Path) -> None:
    for token in (*OLD, "seg"):
        touch(tmp_path / "BraTS2021_00005" / f"{token}.nii.gz")
    assert names_of(find_cases(tmp_path).cases) == ["BraTS2021_00005"]


def test_only_the_last_token_counts(tmp_path: Path) -> None:
    folder = make_case(tmp_path, "BraTS2021_00000")
    touch(folder / "BraTS2021_00000_t1_mask.nii.gz")
    touch(folder / "BraTS2021_00000_t2flairsum.nii.gz")
    download = find_cases(tmp_path)
    assert len(download.cases) == 1
    assert [Path(path).name for path in download.passed_over] == [
        "BraTS2021_00000_t1_mask.nii.gz",
        "BraTS2021_00000_t2flairsum.nii.gz",
    ]


def test_missing_modality_is_a_problem_that_names_those_found(tmp_path: Path) -> None:
    make_case(tmp_path, "BraTS2021_00000", ("t1", "t2", "flair"))
    with pytest.raises(DataError, match=r"case BraTS2021_00000: no t1c \(found: t1, t2, flair\)"):
        find_cases(tmp_path)


def test_all_problems_of_all_cases_are_raised_at_once(tmp_path: Path) -> None:
    make_case(tmp_path, "BraTS2021_00000", ("t1", "t2", "flair"))
    make_case(tmp_path, "BraTS2021_00001", ("t1ce",))
    with pytest.raises(
        DataError, match=r"2 problems\n  case BraTS2021_00000: no t1c .*\n  case BraTS2021_00001: no t1, t2"
    ):
        find_cases(tmp_path)


def test_cases_with_problems_are_returned_when_asked_for(tmp_path: Path) -> None:
    make_case(tmp_path, "BraTS2021_00000", ("t1", "t2", "flair"))
    download = find_cases(tmp_path, strict=False)
    assert list(download.cases[0].images) == ["t1", "t2", "flair"]
    assert download.problems == ("case BraTS2021_00000: no t1c (found: t1, t2, flair)",)


@pytest.mark.parametrize("second", ["BraTS2021_00000_t1.nii", "BraTS2021_00000_t1n.nii.gz", "copy_t1.nii.gz"])
def test_two_t1s_are_a_problem_that_names_both(tmp_path: Path, second: str) -> None:
    folder = make_case(tmp_path, "BraTS2021_00000")
    touch(folder / second)
    with pytest.raises(DataError, match="case BraTS2021_00000: two T1s") as caught:
        find_cases(tmp_path)
    assert "BraTS2021_00000_t1.nii.gz" in str(caught.value)
    assert second in str(caught.value)


def test_two_t1s_are_seen_in_a_renamed_case_folder(tmp_path: Path) -> None:
    folder = make_case(tmp_path, "BraTS2021_00000").rename(tmp_path / "mine")
    touch(folder / "copy_t1.nii.gz")
    with pytest.raises(DataError, match="case BraTS2021_00000: two T1s"):
        find_cases(tmp_path)


def test_two_label_maps_are_a_problem(tmp_path: Path) -> None:
    touch(make_case(tmp_path, "BraTS2021_00000") / "BraTS2021_00000_seg.nii")
    with pytest.raises(DataError, match="two label maps"):
        find_cases(tmp_path)


def test_same_case_twice_is_a_problem_that_names_both_places(tmp_path: Path) -> None:
    make_case(tmp_path / "a", "BraTS2021_00000")
    make_case(tmp_path / "b", "BraTS2021_00000")
    with pytest.raises(DataError, match=r"case BraTS2021_00000: is there 2 times \(.*a/BraTS.*b/BraTS"):
        find_cases(tmp_path)


def test_empty_case_folder_is_a_problem(tmp_path: Path) -> None:
    make_case(tmp_path, "BraTS2021_00000")
    (tmp_path / "BraTS2021_00001").mkdir()
    with pytest.raises(DataError, match=r"case BraTS2021_00001: no t1, t1c, t2, flair \(found: no NIfTI file\)"):
        find_cases(tmp_path)


# ---- label maps ----


def test_odd_segmentation_name_of_case_355_is_the_label_map(tmp_path: Path) -> None:
    folder = make_case(tmp_path, "BraTS20_Training_355", OLD, suffix=".nii")
    odd = touch(folder / "W39_1998.09.19_Segm.nii")
    assert find_cases(tmp_path).cases[0].label == odd


def test_of_two_files_without_modality_none_is_guessed_to_be_the_label_map(tmp_path: Path) -> None:
    folder = make_case(tmp_path, "BraTS20_Training_355", OLD)
    touch(folder / "W39_Segm.nii")
    touch(folder / "other.nii")
    download = find_cases(tmp_path)
    assert download.cases[0].label is None
    assert [Path(path).name for path in download.passed_over] == ["W39_Segm.nii", "other.nii"]


def test_prediction_beside_the_images_is_no_label_map(tmp_path: Path) -> None:
    folder = make_case(tmp_path, "BraTS20_Validation_001", OLD)
    touch(folder / "BraTS20_Validation_001.nii.gz")
    assert find_cases(tmp_path).cases[0].label is None


# ---- what is passed over ----


def test_other_folders_and_hidden_files_are_reported_and_passed_over(tmp_path: Path) -> None:
    folder = make_case(tmp_path, "BraTS20_Training_001")
    touch(tmp_path / "notes" / "deep" / "todo.txt")
    touch(tmp_path / "predictions" / "BraTS20_Training_001.nii.gz")
    touch(tmp_path / "masks" / "BraTS20_Training_001" / "BraTS20_Training_001_seg.nii.gz")
    touch(tmp_path / ".incomplete-1-x" / "BraTS20_Training_009_t1.nii.gz")
    touch(tmp_path / ".DS_Store")
    touch(tmp_path / "survival_info.csv")
    make_case(folder / "backup", "BraTS20_Training_001")
    download = find_cases(tmp_path)
    assert names_of(download.cases) == ["BraTS20_Training_001"]
    assert download.passed_over == (
        ".DS_Store",
        ".incomplete-1-x/",
        "BraTS20_Training_001/backup/",
        "masks/BraTS20_Training_001/",
        "notes/",
        "predictions/",
    )


# ---- editions ----


def test_unknown_case_name_asks_for_the_edition(tmp_path: Path) -> None:
    make_case(tmp_path, "BraTS2021_00000")
    make_case(tmp_path, "patient7")
    with pytest.raises(DataError, match=r"case patient7: no edition has such case names; name one with --edition"):
        find_cases(tmp_path)


def test_unknown_case_name_may_have_a_default_edition_beside_known_ones(tmp_path: Path) -> None:
    make_case(tmp_path, "patient7")
    make_case(tmp_path, "BraTS20_Training_001")
    editions = {case.name: case.edition for case in find_cases(tmp_path, otherwise="brats2021").cases}
    assert editions == {"patient7": "brats2021", "BraTS20_Training_001": "brats2020"}


def test_named_edition_takes_any_case_name_as_the_patient(tmp_path: Path) -> None:
    for name in ("patient7", "patient8"):
        for token in (*OLD, "seg"):
            touch(tmp_path / name / f"scan_{token}.nii.gz")
    cases = find_cases(tmp_path, edition="brats2021").cases
    assert [(case.name, case.patient, case.edition) for case in cases] == [
        ("patient7", "patient7", "brats2021"),
        ("patient8", "patient8", "brats2021"),
    ]


def test_named_edition_wins_over_the_name_but_time_points_stay_one_patient(tmp_path: Path) -> None:
    make_case(tmp_path, "BraTS-GLI-00007-001", NEW, separator="-")
    (case,) = find_cases(tmp_path, edition="brats2023-met").cases
    assert (case.edition, case.patient) == ("brats2023-met", "BraTS-GLI-00007")


def test_unknown_edition_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="did you mean brats2021"):
        find_cases(tmp_path, edition="brats21")


def test_later_time_points_of_gliomas_are_post_treatment(tmp_path: Path) -> None:
    make_case(tmp_path, "BraTS-GLI-02062-100", NEW, separator="-")
    assert find_cases(tmp_path).cases[0].edition == "brats2024-gli"


@pytest.mark.parametrize(
    ("shape", "edition"),
    [((155, 240, 240), "brats2023-gli"), ((182, 218, 182), "brats2024-gli"), ((2, 3, 4), "brats2023-gli")],
)
def test_grid_tells_the_year_of_early_time_points(tmp_path: Path, shape: tuple[int, int, int], edition: str) -> None:
    folder = make_labelled(tmp_path, "BraTS-GLI-00003-000", [], shape, tokens=("t1n",))
    for token in NEW[1:]:
        touch(folder / f"BraTS-GLI-00003-000-{token}.nii.gz")
    assert find_cases(tmp_path).cases[0].edition == edition


def test_label_4_does_not_turn_a_glioma_on_the_grid_of_2023_into_one_of_2024(tmp_path: Path) -> None:
    folder = make_labelled(tmp_path, "BraTS-GLI-00003-000", [], (155, 240, 240), tokens=("t1n",))
    make_labelled(tmp_path / "other", "BraTS-GLI-00003-000", [0, 4], tokens=()).rename(tmp_path / "labelled")
    (tmp_path / "labelled" / "BraTS-GLI-00003-000-seg.nii.gz").rename(folder / "BraTS-GLI-00003-000-seg.nii.gz")
    (tmp_path / "labelled").rmdir()
    assert find_cases(tmp_path, strict=False).cases[0].edition == "brats2023-gli"


@pytest.mark.parametrize(("values", "edition"), [([0, 1, 2, 3], "brats2023-met"), ([0, 3, 4], "brats2024-met")])
def test_metastases_are_of_2024_once_a_cavity_is_seen(tmp_path: Path, values: list[int], edition: str) -> None:
    make_labelled(tmp_path, "BraTS-MET-00001-000", [0, 1])
    make_labelled(tmp_path, "BraTS-MET-00002-000", values)
    assert {case.edition for case in find_cases(tmp_path).cases} == {edition}


def test_pediatric_cases_are_of_2024_once_a_4_is_seen(tmp_path: Path) -> None:
    make_labelled(tmp_path / "training", "BraTS-PED-00001-000", [0, 1])
    make_labelled(tmp_path / "training", "BraTS-PED-00002-000", [0, 1, 4])
    make_case(tmp_path / "validation", "BraTS-PED-00003-000", NEW, separator="-")
    assert {case.edition for case in find_cases(tmp_path).cases} == {"brats2024-ped"}


@pytest.mark.parametrize("values", [[0, 1, 2, 3], []], ids=["without a 4", "without label map"])
def test_pediatric_cases_without_a_4_ask_for_the_edition(tmp_path: Path, values: list[int]) -> None:
    make_labelled(tmp_path, "BraTS-PED-00001-000", values)
    with pytest.raises(DataError, match=r"brats2023-ped or brats2024-ped.*--edition"):
        find_cases(tmp_path)
    assert find_cases(tmp_path, edition="brats2023-ped").cases[0].edition == "brats2023-ped"


def test_labels_are_read_only_until_the_edition_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from brats_seg.data import cases

    make_case(tmp_path, "BraTS2021_00000")
    make_labelled(tmp_path, "BraTS-PED-00001-000", [0, 4])
    make_labelled(tmp_path, "BraTS-PED-00002-000", [0, 1])
    read: list[str] = []
    original: Callable[[Path], set[int]] = cases._label_values
    monkeypatch.setattr(cases, "_label_values", lambda path: read.append(path.name) or original(path))
    find_cases(tmp_path)
    assert read == ["BraTS-PED-00001-000-seg.nii.gz"]


def test_broken_label_map_decides_nothing(tmp_path: Path) -> None:
    make_labelled(tmp_path, "BraTS-PED-00001-000", [0, 4])
    make_case(tmp_path, "BraTS-PED-00000-000", (*NEW, "seg"), separator="-")
    assert {case.edition for case in find_cases(tmp_path).cases} == {"brats2024-ped"}


@pytest.mark.parametrize("name", [name for name in EDITIONS if name != "brats2023-ped"])
def test_synthetic_download_of_each_edition_is_recognised(tmp_path: Path, name: str) -> None:
    write_download(tmp_path, 3, shape=(16, 24, 24), edition=name)
    download = find_cases(tmp_path)
    assert [case.edition for case in download.cases] == [name] * 3
    assert all(case.label for case in download.cases)
    assert download.passed_over == ()


# ---- name_mapping.csv ----

HEAD = (
    "Grade,BraTS_2017_subject_ID,BraTS_2018_subject_ID,TCGA_TCIA_subject_ID,BraTS_2019_subject_ID,BraTS_2020_subject_ID"
)


def test_mapping_tells_the_site_of_2020_and_joins_a_patient_of_several_years(tmp_path: Path) -> None:
    (tmp_path / "name_mapping.csv").write_text(
        f"{HEAD}\n"
        "HGG,Brats17_CBICA_AAB_1,Brats18_CBICA_AAB_1,NA,BraTS19_CBICA_AAB_1,BraTS20_Training_001\n"
        "HGG,NA,NA,NA,BraTS19_TCIA02_7_1,BraTS20_Training_002\n"
        "HGG,NA,NA,NA,NA,BraTS20_Training_003\n"
    )
    for name in ("BraTS20_Training_001", "BraTS20_Training_002", "BraTS20_Training_003", "Brats18_CBICA_AAB_1"):
        make_case(tmp_path, name)
    found = {case.name: (case.patient, case.site) for case in find_cases(tmp_path).cases}
    assert found == {
        "BraTS20_Training_001": ("BraTS20_Training_001", "CBICA"),
        "BraTS20_Training_002": ("BraTS20_Training_002", "TCIA02"),
        "BraTS20_Training_003": ("BraTS20_Training_003", None),
        "Brats18_CBICA_AAB_1": ("BraTS20_Training_001", "CBICA"),
    }


# ---- nothing there ----


def test_empty_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="is empty; expected"):
        find_cases(tmp_path)


def test_folder_without_cases_is_refused_naming_what_is_there(tmp_path: Path) -> None:
    touch(tmp_path / "notes.txt")
    with pytest.raises(DataError, match=r"no cases in it \(found notes\.txt\)"):
        find_cases(tmp_path)


def test_archive_is_to_be_unpacked_first(tmp_path: Path) -> None:
    touch(tmp_path / "archive.zip")
    with pytest.raises(DataError, match=r"unpack archive\.zip first"):
        find_cases(tmp_path)


def test_file_and_missing_folder_are_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="is a file"):
        find_cases(touch(tmp_path / "x.nii.gz"))
    with pytest.raises(DataError, match="no such folder"):
        find_cases(tmp_path / "nowhere")


# ---- explicit files ----


def test_explicit_files_make_a_case_named_by_what_they_share(tmp_path: Path) -> None:
    files = {
        token: touch(tmp_path / "in" / f"BraTS2021_00000_{token}.nii.gz") for token in ("flair", "t2", "t1ce", "t1")
    }
    case = case_from_files(files, edition="brats2021")
    assert (case.name, case.patient, case.edition, case.label) == (
        "BraTS2021_00000",
        "BraTS2021_00000",
        "brats2021",
        None,
    )
    assert [file.path for file in case.images.values()] == [files[token] for token in ("t1", "t1ce", "t2", "flair")]


def test_explicit_files_of_any_name_are_named_by_their_folder_or_as_asked(tmp_path: Path) -> None:
    files = {m: touch(tmp_path / "session" / f"scan{n}.nii") for n, m in enumerate(("t1", "t1c", "t2", "flair"))}
    assert case_from_files(files, edition="brats2021").name == "session"
    assert case_from_files(files, name="mine", edition="brats2021").name == "mine"


def test_explicit_file_named_as_another_modality_is_refused(tmp_path: Path) -> None:
    files = {token: touch(tmp_path / f"x_{token}.nii.gz") for token in OLD}
    files["t1"], files["t1ce"] = files["t1ce"], files["t1"]
    with pytest.raises(UsageError, match=r"x_t1ce.nii.gz: given as t1, but its name says t1c"):
        case_from_files(files, edition="brats2020")


def test_explicit_files_report_everything_that_is_missing(tmp_path: Path) -> None:
    files = {"t1": tmp_path / "a.nii", "t2": touch(tmp_path / "b.nii")}
    with pytest.raises(DataError, match=r"no t1c, flair \(found: t1, t2\)\n.*no file .*a\.nii"):
        case_from_files(files, edition="brats2021")


def test_case_may_lack_modalities_where_that_is_allowed(tmp_path: Path) -> None:
    for name, tokens in (("BraTS2021_00001", ("flair", "t1ce")), ("BraTS2021_00002", ("t1", "t1ce", "t2", "flair"))):
        for token in tokens:
            touch(tmp_path / name / f"{name}_{token}.nii.gz")
    with pytest.raises(DataError, match=r"00001: no t1, t2 \(found: t1c, flair\)"):
        find_cases(tmp_path, edition="brats2021")
    cases = find_cases(tmp_path, edition="brats2021", allow_missing=True).cases
    assert [case.missing for case in cases] == [("t1", "t2"), ()]


def test_case_without_any_modality_is_never_allowed(tmp_path: Path) -> None:
    touch(tmp_path / "BraTS2021_00001" / "BraTS2021_00001_seg.nii.gz")
    with pytest.raises(DataError, match="no t1, t1c, t2, flair"):
        find_cases(tmp_path, edition="brats2021", allow_missing=True)


def test_two_files_of_a_modality_are_no_matter_of_missing_ones(tmp_path: Path) -> None:
    for token in ("t1ce", "t1gd"):
        touch(tmp_path / "BraTS2021_00001" / f"BraTS2021_00001_{token}.nii.gz")
    with pytest.raises(DataError, match="two T1Cs"):
        find_cases(tmp_path, edition="brats2021", allow_missing=True)


def test_explicit_files_may_be_fewer_where_that_is_allowed_but_must_be_there(tmp_path: Path) -> None:
    case = case_from_files({"t2": touch(tmp_path / "b.nii")}, edition="brats2021", allow_missing=True)
    assert case.missing == ("t1", "t1c", "flair")
    with pytest.raises(DataError, match=r"no file .*a\.nii"):
        case_from_files({"t2": tmp_path / "a.nii"}, edition="brats2021", allow_missing=True)


def test_explicit_modality_that_the_edition_lacks_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="modality 't2' is unknown in edition brats2024-men-rt"):
        case_from_files({"t2": touch(tmp_path / "t2.nii")}, edition="brats2024-men-rt")


@pytest.mark.parametrize(
    ("name", "stem"), [("a_t1.nii.gz", "a_t1"), ("a.b.nii", "a.b"), ("a.NII", "a"), ("a.gz", None)]
)
def test_stem_is_the_name_without_nii(name: str, stem: str | None) -> None:
    assert stem_of(name) == stem


@pytest.mark.data
def test_the_real_cases_are_28_of_three_editions(real_data: Path) -> None:
    download = find_cases(real_data)
    editions = [case.edition for case in download.cases]
    assert {name: editions.count(name) for name in editions} == {"brats2018": 14, "brats2019": 7, "brats2021": 7}
    assert len({case.patient for case in download.cases}) == 28
    assert all(case.label for case in download.cases)
