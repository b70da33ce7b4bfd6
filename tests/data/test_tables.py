"""Tables that come with a set."""

from __future__ import annotations

from pathlib import Path

import pytest

from brats_seg.data.tables import read_name_mappings, rows_by_patient
from brats_seg.errors import DataError


def test_a_patient_of_several_years_has_its_newest_name_and_a_site(tmp_path: Path) -> None:
    table = tmp_path / "name_mapping.csv"
    table.write_text(
        "Grade,BraTS_2019_subject_ID,BraTS_2020_subject_ID\nHGG,BraTS19_CBICA_AAB_1,BraTS20_Training_005\n"
    )
    patient = ("BraTS20_Training_005", "CBICA")
    assert read_name_mappings([table]) == {"brats19_cbica_aab_1": patient, "brats20_training_005": patient}


def test_rows_are_found_by_patient_in_any_case_of_letters_with_what_they_tell(tmp_path: Path) -> None:
    table = tmp_path / "data.csv"
    table.write_text("Patient,laterality,death01\nTCGA_CS_4941, 3 ,1\ntcga_du_a5tr,,0\n", encoding="utf-8-sig")
    assert rows_by_patient(table) == {
        "TCGA_CS_4941": {"Patient": "TCGA_CS_4941", "laterality": "3", "death01": "1"},
        "TCGA_DU_A5TR": {"Patient": "tcga_du_a5tr", "death01": "0"},
    }


def test_rows_longer_or_shorter_than_the_header_do_no_harm(tmp_path: Path) -> None:
    table = tmp_path / "data.csv"
    table.write_text("Patient,a\nTCGA_CS_4941\nTCGA_CS_4942,1,2,3\n")
    assert rows_by_patient(table) == {
        "TCGA_CS_4941": {"Patient": "TCGA_CS_4941"},
        "TCGA_CS_4942": {"Patient": "TCGA_CS_4942", "a": "1"},
    }


def test_a_table_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    for read in (rows_by_patient, lambda path: read_name_mappings([path])):
        with pytest.raises(DataError, match=r"gone.csv: cannot be read"):
            read(tmp_path / "gone.csv")
