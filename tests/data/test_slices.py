"""2D sets: which pictures are whose slices, and which masks belong to which images."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from brats_seg.data.cases import Case, find_cases
from brats_seg.data.phantom_slices import sliced_case_name, write_images, write_slices
from brats_seg.data.reading import slice_numbers
from brats_seg.data.slices import list_slices, missing_between, require_no_gaps, slices_in_words
from brats_seg.errors import DataError

NAME = "TCGA_CS_4941_19960909"


def touch(folder: Path, *names: str) -> Path:
    """Make empty files: names alone are looked at."""
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).touch()
    return folder


def numbered(numbers: Iterable[int], *, mask: bool, name: str = NAME) -> list[str]:
    return [f"{name}/{name}_{number}{'_mask' if mask else ''}.tif" for number in numbers]


def only_case(root: Path, **options: bool) -> Case:
    (case,) = find_cases(root, **options).cases
    return case


def problems_of(root: Path, **options: bool) -> list[str]:
    return list(find_cases(root, strict=False, **options).problems)


# ---- patients and their slices ----


def test_kaggles_folder_is_a_case_a_patient(tmp_path: Path) -> None:
    write_slices(tmp_path, 3, size=32, num_slices=2)
    download = find_cases(tmp_path)
    assert [case.name for case in download.cases] == sorted(sliced_case_name(index) for index in (1, 2, 3))
    case = download.cases[0]
    assert (case.edition, case.name, case.patient, case.site) == (
        "lgg-mri",
        "TCGA_DU_4901_19970202",
        "TCGA_DU_4901",
        "DU",
    )
    assert {modality: image.channel for modality, image in case.images.items()} == {"t1": 0, "t1c": 2, "flair": 1}
    assert {image.path.name for image in case.images.values()} == {"TCGA_DU_4901_19970202_*.tif"}
    assert case.label == case.folder / "TCGA_DU_4901_19970202_*_mask.tif"
    assert download.passed_over == ()
    assert case.details["Patient"] == "TCGA_DU_4901"
    assert len(case.details) == 18


def test_one_patients_folder_is_one_case(tmp_path: Path) -> None:
    write_slices(tmp_path, 2, size=32, num_slices=2)
    assert only_case(tmp_path / "kaggle_3m" / sliced_case_name(2)).patient == "TCGA_EZ_4902"


def test_slices_of_several_patients_in_one_folder_are_told_apart_by_name(tmp_path: Path) -> None:
    other = "TCGA_DU_A5TR_19970726"
    touch(tmp_path, *(f"{name}_{n}{what}.tif" for name in (NAME, other) for n in (1, 2) for what in ("", "_mask")))
    assert [case.name for case in find_cases(tmp_path).cases] == [NAME, other]


def test_two_scans_of_a_patient_are_two_cases_of_one_patient(tmp_path: Path) -> None:
    later = "TCGA_CS_4941_19970909"
    for name in (NAME, later):
        touch(tmp_path, *numbered([1], mask=False, name=name), *numbered([1], mask=True, name=name))
    assert [(case.name, case.patient) for case in find_cases(tmp_path).cases] == [
        (NAME, "TCGA_CS_4941"),
        (later, "TCGA_CS_4941"),
    ]


def test_a_slice_without_mask_is_named_by_its_number(tmp_path: Path) -> None:
    touch(tmp_path, *numbered([1, 2, 3], mask=False), *numbered([2], mask=True))
    assert problems_of(tmp_path) == [f"case {NAME}: slices 1, 3: image without mask"]
    with pytest.raises(DataError, match="slices 1, 3: image without mask"):
        find_cases(tmp_path)
    assert only_case(tmp_path, needs_masks=False).images  # for prediction no mask is needed


def test_a_mask_without_slice_is_named_by_its_number(tmp_path: Path) -> None:
    touch(tmp_path, *numbered([1], mask=False), *numbered([1, 2], mask=True))
    assert problems_of(tmp_path) == [f"case {NAME}: slice 2: mask without image"]
    assert problems_of(tmp_path, needs_masks=False) == []


def test_a_set_without_masks_is_no_problem(tmp_path: Path) -> None:
    touch(tmp_path, *numbered([1, 2], mask=False))
    assert only_case(tmp_path).label is None


def test_gaps_are_no_problem_in_2d_and_the_numbers_are_kept(tmp_path: Path) -> None:
    touch(tmp_path, *numbered([2, 5, 11], mask=False), *numbered([2, 5, 11], mask=True))
    case = only_case(tmp_path)
    assert slice_numbers(case.images["t1"].path) == (2, 5, 11)


def test_two_kinds_of_files_are_ambiguous(tmp_path: Path) -> None:
    touch(tmp_path, *numbered([1], mask=False), f"{NAME}/{NAME}_2.png", *numbered([1, 2], mask=True))
    assert any("images of 2 kinds of files (.png, .tif)" in problem for problem in problems_of(tmp_path))


def test_the_copy_that_kaggles_archive_has_inside_itself_is_told(tmp_path: Path) -> None:
    for place in ("kaggle_3m", "lgg-mri-segmentation/kaggle_3m"):
        touch(tmp_path / place, *numbered([1], mask=False), *numbered([1], mask=True))
    assert f"case {NAME}: is there 2 times" in problems_of(tmp_path)[0]


@pytest.mark.parametrize(
    ("content", "reason"),
    [("", "is empty"), ("Patient,death01\n", "no rows in it"), ("a,b\n1,2\n", "no column Patient"), ("\xff", "")],
)
def test_a_table_of_patients_that_tells_nothing_is_an_error(tmp_path: Path, content: str, reason: str) -> None:
    touch(tmp_path, *numbered([1], mask=False))
    (tmp_path / "data.csv").write_bytes(content.encode("latin-1"))
    with pytest.raises(DataError, match=rf"data.csv: .*{reason}"):
        find_cases(tmp_path)


def test_without_a_table_or_a_row_a_patient_has_no_details(tmp_path: Path) -> None:
    touch(tmp_path, *numbered([1], mask=False))
    assert only_case(tmp_path).details == {}
    (tmp_path / "data.csv").write_text("Patient,death01\nTCGA_DU_0000,1\n")
    assert only_case(tmp_path).details == {}


def test_edition_lgg_mri_takes_slices_of_any_names(tmp_path: Path) -> None:
    touch(tmp_path, "anna/anna_1.png", "anna/anna_2.png", "anna/anna_1_mask.png", "anna/anna_2_mask.png")
    (case,) = find_cases(tmp_path, edition="lgg-mri").cases
    assert (case.name, case.patient, slice_numbers(case.images["t1"].path)) == ("anna", "anna", (1, 2))


def test_volumes_come_first(tmp_path: Path) -> None:
    touch(
        tmp_path,
        *(f"BraTS20_Training_001/BraTS20_Training_001_{token}.nii.gz" for token in ("t1", "t1ce", "t2", "flair")),
    )
    touch(tmp_path, "figures/a.png", *numbered([1], mask=False))
    assert [case.edition for case in find_cases(tmp_path).cases] == ["brats2020"]


# ---- images and masks ----


def test_folders_images_and_masks_pair_by_equal_names(tmp_path: Path) -> None:
    write_images(tmp_path, 2, size=32)
    first, second = find_cases(tmp_path).cases
    assert (first.name, first.patient, first.edition) == ("0001", "0001", "images")
    assert first.images["grey"].path == tmp_path / "images" / "0001.png"
    assert first.label == tmp_path / "masks" / "0001.png"
    assert second.name == "0002"


@pytest.mark.parametrize(
    ("image", "mask"),
    [
        ("images/a.png", "masks/a.png"),
        ("Image/a.jpg", "Mask/a.png"),
        ("imgs/a.tif", "labels/a_mask.tif"),
        ("images/sub/a.npy", "masks/sub/a.npy"),
        ("train/images/a.png", "train/masks/a-mask.png"),
        ("a.png", "a_mask.png"),
        ("yes/a b.jpeg", "yes/a b_mask.jpeg"),
    ],
)
def test_image_and_mask_are_paired(tmp_path: Path, image: str, mask: str) -> None:
    case = only_case(touch(tmp_path, image, mask))
    assert (case.images["grey"].path, case.label) == (tmp_path / image, tmp_path / mask)
    assert find_cases(tmp_path).passed_over == ()


def test_images_and_masks_that_lack_each_other_are_each_named(tmp_path: Path) -> None:
    touch(tmp_path, "images/a.png", "images/b.png", "masks/b.png", "masks/c.png")
    assert problems_of(tmp_path) == ["case a: a.png: image without mask", "case c: c.png: mask without image"]
    assert [case.name for case in find_cases(tmp_path, needs_masks=False).cases] == ["a", "b"]


def test_images_in_two_folders_of_one_name_are_told(tmp_path: Path) -> None:
    touch(tmp_path, "train/images/a.png", "train/masks/a.png", "test/images/a.png", "test/masks/a.png")
    assert "case a: is there 2 times" in problems_of(tmp_path)[0]


def test_two_files_of_one_image_or_mask_are_ambiguous(tmp_path: Path) -> None:
    touch(tmp_path, "images/a.png", "images/a.jpg", "masks/a.png")
    assert any("two GREYs (a.jpg, a.png)" in problem for problem in problems_of(tmp_path))


def test_images_without_any_masks_are_cases_to_predict(tmp_path: Path) -> None:
    download = find_cases(touch(tmp_path, "a.png", "notes.txt"))
    assert [(case.name, case.label) for case in download.cases] == [("a", None)]
    assert download.passed_over == ("notes.txt",)


def test_slices_taken_as_images_still_belong_to_their_patient(tmp_path: Path) -> None:
    touch(tmp_path, f"images/{NAME}_1.png", f"images/{NAME}_2.png", f"masks/{NAME}_1.png", f"masks/{NAME}_2.png")
    cases = find_cases(tmp_path, edition="images").cases
    assert [(case.name, case.patient) for case in cases] == [
        (f"{NAME}_1", "TCGA_CS_4941"),
        (f"{NAME}_2", "TCGA_CS_4941"),
    ]


def test_a_folder_without_pictures_has_no_cases(tmp_path: Path) -> None:
    touch(tmp_path, "notes.txt")
    assert list_slices(tmp_path).found == []
    with pytest.raises(DataError, match="no cases in it"):
        find_cases(tmp_path, edition="images")


def test_links_in_a_circle_end(tmp_path: Path) -> None:
    touch(tmp_path, "images/a.png")
    (tmp_path / "images" / "again").symlink_to(tmp_path)
    assert only_case(tmp_path).name == "a"


@given(numbers=st.sets(st.integers(0, 500), min_size=1, max_size=30))
def test_numbers_in_words_name_the_first_six(numbers: set[int]) -> None:
    words = slices_in_words(numbers)
    some = sorted(numbers)
    assert words.startswith(f"slices {some[0]}, {some[1]}" if len(some) > 1 else f"slice {some[0]}")
    assert words.endswith(" ...") == (len(some) > 6)


@given(numbers=st.sets(st.integers(0, 60), min_size=1))
def test_numbers_between_the_first_and_the_last_are_there_or_missing(numbers: set[int]) -> None:
    missing = missing_between(sorted(numbers))
    assert sorted([*numbers, *missing]) == list(range(min(numbers), max(numbers) + 1))


def test_gaps_are_refused_where_a_network_sees_several_slices_at_once() -> None:
    numbers = {"a": (1, 2, 5), "b": (1, 2, 3), "c": None}
    require_no_gaps(numbers, 1)
    with pytest.raises(DataError, match=r"^case a: slices 3, 4 not there; the network sees 3 slices at once"):
        require_no_gaps(numbers, 3)
