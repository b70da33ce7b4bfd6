"""Tables that come with a set: names of patients through the years (`name_mapping.csv`), what is known of them."""

from __future__ import annotations

import csv
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TypeAlias

from brats_seg.editions import site_of_case_name
from brats_seg.errors import DataError

__all__ = ["NameMapping", "read_name_mappings", "rows_by_patient"]

NameMapping: TypeAlias = Mapping[str, tuple[str, str | None]]
"""Lower-case case name -> its patient and site, as `name_mapping.csv` tells them."""

_PATIENT = "Patient"


def read_name_mappings(tables: Iterable[Path]) -> NameMapping:
    """Read all `name_mapping*.csv`; a row is one patient through the years, named by the newest of its names.

    Raises:
        DataError: a table cannot be read.
    """
    known: dict[str, tuple[str, str | None]] = {}
    for table in tables:
        for row in _read(table)[0]:
            columns = sorted(c for c in row if c and re.fullmatch(r"BraTS_\d{4}_subject_ID", c.strip(), re.IGNORECASE))
            names = [name for c in columns if (name := (row[c] or "").strip()) and name.upper() not in ("NA", "N/A")]
            site = next((site for name in reversed(names) if (site := site_of_case_name(name))), None)
            known |= {name.lower(): (names[-1], site) for name in names}
    return known


def rows_by_patient(table: Path) -> dict[str, dict[str, str]]:
    """Return the rows of the `data.csv` of LGG MRI Segmentation: patient in capital letters -> column -> text.

    Raises:
        DataError: it cannot be read, has no rows, or no column of patients.
    """
    rows, columns = _read(table)
    remedy = "download it again, or move it out of the folder"
    if not rows:
        raise DataError(f"{table}: {'no rows in it' if columns else 'is empty'}, expected one a patient; {remedy}")
    if _PATIENT not in columns:
        raise DataError(f"{table}: no column {_PATIENT} (found: {', '.join(columns[:5])} ...); {remedy}")
    return {
        (row[_PATIENT] or "").strip().upper(): {key: value.strip() for key, value in row.items() if key and value}
        for row in rows
    }


def _read(table: Path) -> tuple[list[dict[str, str]], list[str]]:
    """Return the rows of a table, and its columns."""
    try:
        with table.open(newline="", encoding="utf-8-sig") as file:
            reader = csv.DictReader(file)
            return list(reader), list(reader.fieldnames or [])
    except (OSError, ValueError, csv.Error) as error:
        raise DataError(f"{table}: cannot be read ({error})") from error
