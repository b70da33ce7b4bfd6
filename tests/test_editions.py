"""Editions: labels, regions, names."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from brats_seg.editions import (
    EDITIONS,
    MODALITY_ALIASES,
    Edition,
    can_share_store,
    edition_of_files,
    editions_of_case_name,
    get_edition,
    modality_of_token,
    site_of_case_name,
)
from brats_seg.errors import DataError, UsageError

ALL = [pytest.param(edition, id=name) for name, edition in EDITIONS.items()]
WITH_ET = [param for param in ALL if "ET" in param.values[0].regions]


def regions_of(edition: Edition, values: list[int]) -> list[list[bool]]:
    return edition.regions_from_label_map(np.array(values, np.uint8)).tolist()


@pytest.mark.parametrize("edition", ALL)
@settings(deadline=None, max_examples=30)
@given(data=st.data())
def test_nested_regions_survive_the_way_through_a_label_map(edition: Edition, data: st.DataObject) -> None:
    # Each voxel lies in the outermost n regions, n = 0 ... 3: every combination that nested regions can have.
    num = len(edition.regions)
    depth = data.draw(hnp.arrays(np.int8, (2, 3), elements=st.integers(0, num)))
    masks = np.stack([depth >= num - channel for channel in range(num)])
    label_map = edition.label_map_from_regions(masks)
    assert label_map.dtype == np.uint8
    np.testing.assert_array_equal(edition.regions_from_label_map(label_map), masks)


@pytest.mark.parametrize("edition", ALL)
@settings(deadline=None, max_examples=30)
@given(data=st.data())
def test_any_masks_give_a_label_map_that_its_own_regions_reproduce(edition: Edition, data: st.DataObject) -> None:
    masks = data.draw(hnp.arrays(np.bool_, (len(edition.regions), 2, 3)))
    label_map = edition.label_map_from_regions(masks)
    again = edition.label_map_from_regions(edition.regions_from_label_map(label_map))
    np.testing.assert_array_equal(again, label_map)


@pytest.mark.parametrize("edition", WITH_ET)
def test_enhancing_tumour_outside_the_core_becomes_core_and_whole_tumour(edition: Edition) -> None:
    label_map = edition.label_map_from_regions(np.array([[True], [False], [False]]))
    assert edition.regions_from_label_map(label_map).tolist() == [[True], [True], [True]]


@pytest.mark.parametrize("edition", WITH_ET)
def test_regions_are_nested_and_in_the_order_et_tc_wt(edition: Edition) -> None:
    assert edition.region_names == ("ET", "TC", "WT")
    assert edition.regions["ET"] < edition.regions["TC"] < edition.regions["WT"] <= set(edition.label_values)


@pytest.mark.parametrize(
    ("name", "et", "tc", "wt"),
    [
        ("brats2017", {4}, {1, 4}, {1, 2, 4}),
        ("brats2020", {4}, {1, 4}, {1, 2, 4}),
        ("brats2021", {4}, {1, 4}, {1, 2, 4}),
        ("brats2023-gli", {3}, {1, 3}, {1, 2, 3}),
        ("brats2023-men", {3}, {1, 3}, {1, 2, 3}),
        ("brats2023-met", {3}, {1, 3}, {1, 2, 3}),
        ("brats2023-ped", {3}, {1, 3}, {1, 2, 3}),
        ("brats2023-ssa", {3}, {1, 3}, {1, 2, 3}),
        ("brats2024-gli", {3}, {1, 3}, {1, 2, 3}),
        ("brats2024-met", {3}, {1, 3}, {1, 2, 3}),
        ("brats2024-ped", {1}, {1, 2, 3}, {1, 2, 3, 4}),
        ("msd-task01", {3}, {2, 3}, {1, 2, 3}),
    ],
)
def test_regions_are_the_published_label_sets(name: str, et: set[int], tc: set[int], wt: set[int]) -> None:
    assert get_edition(name).regions == {"ET": et, "TC": tc, "WT": wt}


def test_enhancing_tumour_is_4_until_2021_and_3_from_2023() -> None:
    assert get_edition("brats2020").label_map_from_regions(np.ones((3, 1), bool)).tolist() == [4]
    assert get_edition("brats2023-gli").label_map_from_regions(np.ones((3, 1), bool)).tolist() == [3]


def test_pediatric_labels_of_2024_are_permuted() -> None:
    # rows ET, TC, WT of the voxels 0, ET, NETC, CC, ED
    assert regions_of(get_edition("brats2024-ped"), [0, 1, 2, 3, 4]) == [
        [False, True, False, False, False],
        [False, True, True, True, False],
        [False, True, True, True, True],
    ]


def test_decathlon_labels_are_edema_core_enhancing() -> None:
    edition = get_edition("msd-task01")
    assert regions_of(edition, [1, 2, 3]) == [[False, False, True], [False, True, True], [True, True, True]]
    # regions ET, TC, WT of one voxel each, from the outside in
    masks = np.array([[0, 0, 1], [0, 1, 1], [1, 1, 1]], bool)
    assert edition.label_map_from_regions(masks).tolist() == [1, 2, 3]


@pytest.mark.parametrize("name", ["brats2024-gli", "brats2024-met"])
def test_resection_cavity_lies_outside_core_and_whole_tumour(name: str) -> None:
    assert regions_of(get_edition(name), [4]) == [[False], [False], [False]]


def test_wrong_labels_are_refused_with_the_editions_that_they_fit() -> None:
    with pytest.raises(
        DataError, match=r"labels \[0, 1, 2, 4\], but edition brats2023-gli has \[0, 1, 2, 3\]"
    ) as caught:
        get_edition("brats2023-gli").regions_from_label_map(np.array([0, 1, 2, 4], np.uint8))
    assert "brats2020" in str(caught.value)
    assert "--edition" in str(caught.value)


def test_labels_that_no_edition_has_are_refused() -> None:
    with pytest.raises(DataError, match=r"labels \[0, 7\].*no edition has"):
        get_edition("brats2020").check_labels([0, 7])


def test_unknown_edition_names_the_nearest() -> None:
    with pytest.raises(UsageError, match="'brats2020x' is unknown; did you mean brats2020"):
        get_edition("brats2020x")


@pytest.mark.parametrize(
    ("token", "modality"),
    [
        *[(token, "t1") for token in ("t1", "t1n", "T1", "T1w")],
        *[(token, "t1c") for token in ("t1ce", "t1c", "t1gd", "T1GD", "T1Gd", "CT1", "T1c", "gad")],
        *[(token, "t2") for token in ("t2", "t2w", "T2")],
        *[(token, "flair") for token in ("flair", "fla", "t2f", "FLAIR", "FL")],
        *[(token, None) for token in ("seg", "", "t1cex", "t", "001")],
    ],
)
def test_a_whole_token_decides_the_modality_in_any_case_of_letters(token: str, modality: str | None) -> None:
    assert modality_of_token(token) == modality


def test_no_alias_stands_for_two_modalities() -> None:
    names = [name for aliases in MODALITY_ALIASES.values() for name in aliases]
    assert len(names) == len(set(names))


@pytest.mark.parametrize("edition", ALL)
def test_official_tokens_are_among_the_aliases(edition: Edition) -> None:
    assert {modality_of_token(token): token for token in edition.tokens.values()} == edition.tokens


@pytest.mark.parametrize(
    ("case", "names", "patient"),
    [
        ("Brats17_TCIA_101_1", ["brats2017"], "Brats17_TCIA_101_1"),
        ("Brats18_2013_3_1", ["brats2018"], "Brats18_2013_3_1"),
        ("BraTS19_TCIA01_131_1", ["brats2019"], "BraTS19_TCIA01_131_1"),
        ("brats18_cbica_abm_1", ["brats2018"], "brats18_cbica_abm_1"),
        ("BraTS20_Training_355", ["brats2020"], "BraTS20_Training_355"),
        ("BraTS20_Validation_001", ["brats2020"], "BraTS20_Validation_001"),
        ("BraTS2021_00000", ["brats2021"], "BraTS2021_00000"),
        ("BraTS-GLI-00000-001", ["brats2023-gli", "brats2024-gli"], "BraTS-GLI-00000"),
        ("BraTS-GLI-02062-100", ["brats2024-gli"], "BraTS-GLI-02062"),
        ("BraTS-MEN-00004-000", ["brats2023-men"], "BraTS-MEN-00004"),
        ("BraTS-MET-00004-000", ["brats2023-met", "brats2024-met"], "BraTS-MET-00004"),
        ("BraTS-PED-00004-000", ["brats2023-ped", "brats2024-ped"], "BraTS-PED-00004"),
        ("BraTS-SSA-00004-000", ["brats2023-ssa"], "BraTS-SSA-00004"),
        ("BraTS-MEN-RT-0000-1", ["brats2024-men-rt"], "BraTS-MEN-RT-0000"),
        ("BRATS_001", ["msd-task01"], "BRATS_001"),
        ("TCGA_CS_4941_19960909", ["lgg-mri"], "TCGA_CS_4941"),
        ("TCGA_DU_A5TR_19970726_12", ["lgg-mri"], "TCGA_DU_A5TR"),
        ("patient7", [], None),
    ],
)
def test_case_names_tell_edition_and_patient(case: str, names: list[str], patient: str | None) -> None:
    editions = editions_of_case_name(case)
    assert [edition.name for edition in editions] == names
    assert {edition.patient_of(case) for edition in editions} == ({patient} if patient else set())


@pytest.mark.parametrize(
    ("case", "site"),
    [
        ("Brats18_CBICA_ABM_1", "CBICA"),
        ("BraTS19_TCIA01_131_1", "TCIA01"),
        ("BraTS19_2013_12_1", "2013"),
        ("BraTS19_TMC_06290_1", "TMC"),
        ("TCGA_CS_4941_19960909", "CS"),
        ("BraTS20_Training_001", None),
        ("BraTS2021_00000", None),
        ("BraTS-GLI-00000-000", None),
    ],
)
def test_site_is_in_the_names_of_2017_to_2019_and_of_tcga_only(case: str, site: str | None) -> None:
    assert site_of_case_name(case) == site


def test_file_names_are_the_official_ones() -> None:
    assert get_edition("brats2020").file_name("BraTS20_Training_001", "t1c", ".nii") == "BraTS20_Training_001_t1ce.nii"
    assert get_edition("brats2023-gli").file_name("BraTS-GLI-00000-000", "flair") == "BraTS-GLI-00000-000-t2f.nii.gz"
    assert get_edition("brats2024-men-rt").file_name("BraTS-MEN-RT-0000-1", None) == "BraTS-MEN-RT-0000-1_gtv.nii.gz"


def test_editions_share_a_store_only_with_equal_modalities_and_regions() -> None:
    assert can_share_store(get_edition("brats2019"), get_edition("brats2023-gli"))
    assert not can_share_store(get_edition("brats2019"), get_edition("brats2024-men-rt"))


@pytest.mark.parametrize(
    ("modalities", "edition"),
    [
        (("t1c",), "brats2024-men-rt"),
        (("t1", "t1c", "t2", "flair"), "brats2021"),
        (("t1", "t1c", "flair"), "lgg-mri"),
        (("grey",), "images"),
    ],
)
def test_files_without_telling_names_are_of_the_edition_that_the_model_takes(
    modalities: tuple[str, ...], edition: str
) -> None:
    assert edition_of_files(modalities) == edition
    assert get_edition(edition).modalities == modalities


def test_channels_of_the_lgg_set_are_t1_flair_t1c_in_its_files_and_in_the_usual_order_with_us() -> None:
    edition = get_edition("lgg-mri")
    assert list(edition.tokens) == ["t1", "flair", "t1c"]
    assert edition.modalities == ("t1", "t1c", "flair")
    assert edition.region_names == ("WT",)
