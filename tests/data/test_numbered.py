"""nnU-Net's numbered channels: named by the caller or by `dataset.json`, never guessed."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from brats_seg.data.cases import find_cases
from brats_seg.data.numbered import is_numbered, parse_modalities
from brats_seg.errors import DataError, UsageError

ORDER = ("flair", "t1", "t1c", "t2")


def touch(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.touch()
    return path


@pytest.fixture
def raw(tmp_path: Path) -> Path:
    """Two cases as nnU-Net's raw data sets hold them, without a description."""
    for case in ("BRATS_001", "site-A_17"):
        for number in range(4):
            touch(tmp_path / "Dataset001_Brain" / "imagesTr" / f"{case}_{number:04d}.nii.gz")
        touch(tmp_path / "Dataset001_Brain" / "labelsTr" / f"{case}.nii.gz")
    return tmp_path / "Dataset001_Brain"


def describe(folder: Path, **words: object) -> Path:
    path = folder / "dataset.json"
    path.write_text(json.dumps(words))
    return path


def test_channels_are_the_modalities_that_are_named(raw: Path) -> None:
    cases = find_cases(raw, edition="msd-task01", channels=ORDER).cases
    assert [case.name for case in cases] == ["BRATS_001", "site-A_17"]
    for case in cases:
        files = {modality: file.path.name for modality, file in case.images.items()}
        assert files == {modality: f"{case.name}_{number:04d}.nii.gz" for number, modality in enumerate(ORDER)}
        assert {file.channel for file in case.images.values()} == {None}
        assert case.label == raw / "labelsTr" / f"{case.name}.nii.gz"


def test_flat_folder_alone_is_enough(raw: Path) -> None:
    cases = find_cases(raw / "imagesTr", edition="brats2021", channels=("t1", "t1c", "t2", "flair")).cases
    assert cases[0].images["t1"].path.name == "BRATS_001_0000.nii.gz"


@pytest.mark.parametrize(
    "words",
    [
        {"channel_names": {"0": "FLAIR", "1": "T1w", "2": "T1gd", "3": "T2w"}},
        {"modality": {"0": "mri_flair", "1": "mri_T1", "2": "mri_T1ce", "3": "mri_T2"}},
    ],
)
def test_description_tells_the_channels(raw: Path, words: dict[str, object]) -> None:
    describe(raw, **words)
    for folder in (raw, raw / "imagesTr"):
        case = find_cases(folder, edition="msd-task01").cases[0]
        assert {modality: file.path.name[-11:-7] for modality, file in case.images.items()} == {
            "flair": "0000",
            "t1": "0001",
            "t1c": "0002",
            "t2": "0003",
        }


def test_without_any_word_the_option_is_named(raw: Path) -> None:
    for folder in (raw, raw / "imagesTr"):
        with pytest.raises(DataError, match=r"do not tell their modality.*--modalities t1,t1c,t2,flair"):
            find_cases(folder, edition="msd-task01")


def test_description_in_words_of_its_own_tells_nothing(raw: Path) -> None:
    describe(raw, channel_names={"0": "noNorm", "1": "a", "2": "b", "3": "c"})
    with pytest.raises(DataError, match="--modalities"):
        find_cases(raw, edition="msd-task01")
    assert find_cases(raw, edition="msd-task01", channels=ORDER).cases


def test_other_order_than_described_is_refused(raw: Path) -> None:
    describe(raw, channel_names={"0": "FLAIR", "1": "T1w", "2": "T1gd", "3": "T2w"})
    with pytest.raises(DataError, match="its channels are flair,t1,t1c,t2, asked for were t1,t1c,t2,flair"):
        find_cases(raw, edition="msd-task01", channels=("t1", "t1c", "t2", "flair"))


@pytest.mark.parametrize("text", ["{", "[]", "{}"])
def test_damaged_description_is_refused(raw: Path, text: str) -> None:
    (raw / "dataset.json").write_text(text)
    with pytest.raises(DataError, match=r"dataset.json: cannot be read"):
        find_cases(raw, edition="msd-task01")


def test_missing_channel_is_a_problem_and_surplus_one_an_error(raw: Path) -> None:
    (raw / "imagesTr" / "BRATS_001_0002.nii.gz").unlink()
    with pytest.raises(DataError, match="case BRATS_001: no t1c"):
        find_cases(raw, edition="msd-task01", channels=ORDER)
    with pytest.raises(DataError, match=r"_0003.nii.gz: is channel 0003, but only 3 modalities are named"):
        find_cases(raw, edition="msd-task01", channels=ORDER[:3])


def test_modalities_are_refused_where_no_file_is_numbered(tmp_path: Path) -> None:
    for token in ("t1", "t1ce", "t2", "flair"):
        touch(tmp_path / "BraTS20_Training_001" / f"BraTS20_Training_001_{token}.nii.gz")
    with pytest.raises(UsageError, match=r"--modalities: no file in .* is named such as"):
        find_cases(tmp_path, channels=ORDER)


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        (["a_0000.nii.gz", "a_0001.nii.gz"], True),
        (["a_0000.nii", "b_0000.nii"], True),
        (["a_0001.nii.gz"], False),
        (["a_0000.nii.gz", "a.nii.gz"], False),
        (["BraTS2021_00000.nii.gz"], False),
        ([], False),
    ],
)
def test_numbered_are_folders_in_which_each_case_begins_with_0000(names: list[str], expected: bool) -> None:
    assert is_numbered([Path(name) for name in names]) is expected


def test_modalities_are_read_by_any_of_their_names() -> None:
    assert parse_modalities("T1n, t1ce,T2,t2f") == ("t1", "t1c", "t2", "flair")
    with pytest.raises(UsageError, match="'t3' is unknown"):
        parse_modalities("t1,t3")
    with pytest.raises(UsageError, match="'t1n' is named twice"):
        parse_modalities("t1,t1n")
