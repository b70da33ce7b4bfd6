"""Editions: the only place that knows label values, regions, modality names, file naming, colours and grids.

An edition is one year and task of BraTS, MSD Task01, or a 2D set of slices or images. Everything else in the package
asks an `Edition` object.
Sources: the challenge pages and data descriptions of BraTS 2017-2025 and of the Medical Segmentation Decathlon; the
description of "LGG MRI Segmentation" (Kaggle, kaggle_3m).
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import ArrayLike, NDArray

from brats_seg.errors import DataError, UsageError, did_you_mean

__all__ = [
    "EDITIONS",
    "MODALITY_ALIASES",
    "Edition",
    "Label",
    "can_share_store",
    "edition_of_files",
    "editions_of_case_name",
    "get_edition",
    "modality_of_token",
    "site_of_case_name",
]

MODALITY_ALIASES: Mapping[str, frozenset[str]] = {
    "t1": frozenset({"t1", "t1n", "t1w"}),
    "t1c": frozenset({"t1c", "t1ce", "t1gd", "ct1", "gad"}),
    "t2": frozenset({"t2", "t2w"}),
    "flair": frozenset({"flair", "fla", "t2f", "fl"}),
    "grey": frozenset({"grey", "gray"}),
}
"""Lower-case last tokens of a file stem, by modality. Always the whole token: `t1` is a prefix of `t1ce`.

The order is that of channels, everywhere. `grey` is an image of which nothing more is known.
"""


@dataclass(frozen=True)
class Label:
    """One value of a label map: its number, short and long name, and ITK-SNAP colour (R, G, B of 0-255)."""

    value: int
    name: str
    title: str
    color: tuple[int, int, int]


@dataclass(frozen=True)
class Edition:
    """One year and task: names, labels, regions, grid.

    Regions are in channel order, outermost last (ET, TC, WT); `paint` lists (region, label value) in the order in which
    region masks are painted into a label map, so that an inner region overwrites an outer one.
    """

    name: str
    title: str
    case_pattern: str
    """Regular expression that a whole case name fulfils, in any case of letters; its first group is the patient."""
    tokens: Mapping[str, str]
    """Modality -> token of the official file name, in the canonical order of channels."""
    labels: tuple[Label, ...]
    regions: Mapping[str, frozenset[int]]
    paint: tuple[tuple[str, int], ...]
    task: str = "GLI"
    segmentation_token: str = "seg"
    separator: str = "_"
    shape: tuple[int, int, int] | None = (155, 240, 240)
    """Expected grid as (K, J, I); None = any."""
    is_four_dimensional: bool = False
    """True where one file holds all modalities; `tokens` is then in the file's channel order."""
    is_two_dimensional: bool = False
    """True where a file holds one slice or image (PNG, TIFF ...); `tokens` is then in the file's channel order."""
    filler: str | None = None
    """Modality of which a copy stands where another one is missing."""

    @property
    def modalities(self) -> tuple[str, ...]:
        """Modalities in the canonical channel order (T1, T1c, T2, FLAIR where there are four)."""
        return tuple(m for m in MODALITY_ALIASES if m in self.tokens)

    @property
    def region_names(self) -> tuple[str, ...]:
        """Region names in channel order."""
        return tuple(self.regions)

    @property
    def label_values(self) -> tuple[int, ...]:
        """All values that a label map may have, background 0 included, ascending."""
        return (0, *sorted(label.value for label in self.labels))

    @cached_property
    def region_table(self) -> NDArray[np.bool_]:
        """(region, 256) bool: whether a label value belongs to a region."""
        table = np.zeros((len(self.regions), 256), bool)
        for row, values in zip(table, self.regions.values(), strict=True):
            row[sorted(values)] = True
        table.flags.writeable = False
        return table

    def regions_from_label_map(self, label_map: NDArray[np.uint8]) -> NDArray[np.bool_]:
        """Return the region masks, (region, *shape) bool, of a uint8 label map of any shape.

        Raises:
            DataError: the label map has a value that this edition does not have.
        """
        self.check_labels(np.flatnonzero(np.bincount(label_map.ravel(), minlength=256)))
        return np.stack([row[label_map] for row in self.region_table])

    def label_map_from_regions(self, masks: ArrayLike) -> NDArray[np.uint8]:
        """Return the uint8 label map of region masks (region, *shape), made consistent: ET is in TC, TC in WT.

        Where regions disagree the inner one wins, so that a voxel of ET outside TC becomes both.
        """
        array = np.asarray(masks, dtype=bool)
        label_map = np.zeros(array.shape[1:], np.uint8)
        for region, value in self.paint:
            label_map[array[self.region_names.index(region)]] = value
        return label_map

    def check_labels(self, values: Iterable[int], what: str = "label map") -> None:
        """Refuse label values that the edition does not have.

        Raises:
            DataError: names the values found, those allowed, and the editions that have all of them.
        """
        found = {int(v) for v in values}
        if found <= set(self.label_values):
            return
        fitting = [e.name for e in EDITIONS.values() if found <= set(e.label_values)]
        hint = f"these values fit {', '.join(fitting)}: name one with --edition" if fitting else "no edition has them"
        expected = f"edition {self.name} has {list(self.label_values)}"
        raise DataError(f"{what}: labels {sorted(found)}, but {expected}; {hint}")

    def file_name(self, case: str, modality: str | None, suffix: str = ".nii.gz") -> str:
        """Return the official file name of a modality of a case, or of its label map (modality None)."""
        token = self.segmentation_token if modality is None else self.tokens[modality]
        return f"{case}{self.separator}{token}{suffix}"

    def patient_of(self, case: str) -> str | None:
        """Return the patient of a case name, or None where the name is not this edition's."""
        match = re.fullmatch(self.case_pattern, case, re.IGNORECASE)
        return match.group(1) if match else None


_RED, _GREEN, _BLUE, _YELLOW, _CYAN = (255, 0, 0), (0, 255, 0), (0, 0, 255), (255, 255, 0), (0, 255, 255)
_OLD_TOKENS = {"t1": "t1", "t1c": "t1ce", "t2": "t2", "flair": "flair"}
_NEW_TOKENS = {"t1": "t1n", "t1c": "t1c", "t2": "t2w", "flair": "t2f"}
_PAINT_NCR_ED = (("WT", 2), ("TC", 1))


def _regions(et: set[int], tc: set[int], wt: set[int]) -> dict[str, frozenset[int]]:
    return {"ET": frozenset(et), "TC": frozenset(tc), "WT": frozenset(wt)}


def _until_2021(year: int, title: str, case_pattern: str) -> Edition:
    necrosis = "NCR/NET (necrotic and non-enhancing core)" if year < 2021 else "NCR (necrotic core)"
    return Edition(
        name=f"brats{year}",
        title=title,
        case_pattern=case_pattern,
        tokens=_OLD_TOKENS,
        labels=(
            Label(1, "NCR", necrosis, _RED),
            Label(2, "ED", "ED (peritumoral edema)", _GREEN),
            Label(4, "ET", "ET (enhancing tumor)", _YELLOW),
        ),
        regions=_regions({4}, {1, 4}, {1, 2, 4}),
        paint=(*_PAINT_NCR_ED, ("ET", 4)),
    )


_NETC = Label(1, "NETC", "NETC (non-enhancing tumor core)", _RED)
_SNFH = Label(2, "SNFH", "SNFH (surrounding non-enhancing FLAIR hyperintensity)", _GREEN)
_ET3 = Label(3, "ET", "ET (enhancing tumor)", _YELLOW)
_RC = Label(4, "RC", "RC (resection cavity)", _BLUE)
_NCR_ED = (Label(1, "NCR", "NCR (necrotic core)", _RED), Label(2, "ED", "ED (peritumoral edema)", _GREEN))


def _from_2023(
    year: int,
    task: str,
    title: str,
    labels: tuple[Label, ...],
    shape: tuple[int, int, int] = (155, 240, 240),
    time_point: str = r"\d{3}",
) -> Edition:
    return Edition(
        name=f"brats{year}-{task.lower()}",
        title=title,
        case_pattern=rf"(BraTS-{task}-\d{{5}})-{time_point}",
        tokens=_NEW_TOKENS,
        labels=labels,
        regions=_regions({3}, {1, 3}, {1, 2, 3}),
        paint=(*_PAINT_NCR_ED, ("ET", 3)),
        task=task,
        separator="-",
        shape=shape,
    )


_WT = Label(1, "WT", "WT (whole tumor: what the masks show)", _RED)


def _two_dimensional(name: str, title: str, case_pattern: str, channels: str, filler: str | None = None) -> Edition:
    return Edition(
        name=name,
        title=title,
        case_pattern=case_pattern,
        tokens={modality: modality for modality in channels.split()},
        labels=(_WT,),
        regions={"WT": frozenset({1})},
        paint=(("WT", 1),),
        shape=None,
        is_two_dimensional=True,
        filler=filler,
    )


_ALL = (
    _until_2021(2017, "BraTS 2017", r"(Brats17_\w+_\d+)"),
    _until_2021(2018, "BraTS 2018", r"(Brats18_\w+_\d+)"),
    _until_2021(2019, "BraTS 2019", r"(BraTS19_\w+_\d+)"),
    _until_2021(2020, "BraTS 2020", r"(BraTS20_(?:Training|Validation)_\d{3})"),
    _until_2021(2021, "BraTS 2021", r"(BraTS2021_\d{5})"),
    # Time points from 100 on are post-treatment scans, which first came with 2024.
    _from_2023(2023, "GLI", "BraTS 2023 adult glioma", (*_NCR_ED, _ET3), time_point=r"0\d{2}"),
    _from_2023(2023, "MEN", "BraTS 2023 meningioma", (_NETC, _SNFH, _ET3)),
    _from_2023(2023, "MET", "BraTS 2023 metastases", (_NETC, _SNFH, _ET3)),
    _from_2023(
        2023,
        "PED",
        "BraTS 2023 pediatric",
        (Label(1, "NC", "NC (non-enhancing and cystic core)", _RED), _NCR_ED[1], _ET3),
    ),
    _from_2023(2023, "SSA", "BraTS 2023 Sub-Saharan Africa", (*_NCR_ED, _ET3)),
    _from_2023(2024, "GLI", "BraTS 2024/25 adult glioma, post-treatment", (_NETC, _SNFH, _ET3, _RC), (182, 218, 182)),
    _from_2023(2024, "MET", "BraTS 2024/25 metastases", (_NETC, _SNFH, _ET3, _RC)),
    Edition(
        name="brats2024-ped",
        title="BraTS 2024/25 pediatric",
        case_pattern=r"(BraTS-PED-\d{5})-\d{3}",
        tokens=_NEW_TOKENS,
        labels=(
            Label(1, "ET", "ET (enhancing tumor)", _YELLOW),
            Label(2, "NETC", "NETC (non-enhancing tumor core)", _RED),
            Label(3, "CC", "CC (cystic component)", _CYAN),
            Label(4, "ED", "ED (peritumoral edema)", _GREEN),
        ),
        regions=_regions({1}, {1, 2, 3}, {1, 2, 3, 4}),
        paint=(("WT", 4), ("TC", 2), ("ET", 1)),
        task="PED",
        separator="-",
    ),
    Edition(
        name="brats2024-men-rt",
        title="BraTS 2024/25 meningioma radiotherapy",
        case_pattern=r"(BraTS-MEN-RT-\d{4})-\d",
        tokens={"t1c": "t1c"},
        labels=(Label(1, "GTV", "GTV (gross tumor volume)", _RED),),
        regions={"GTV": frozenset({1})},
        paint=(("GTV", 1),),
        task="MEN-RT",
        segmentation_token="gtv",
        shape=None,
    ),
    Edition(
        name="msd-task01",
        title="Medical Segmentation Decathlon, Task01_BrainTumour",
        case_pattern=r"(BRATS_\d{3})",
        tokens={"flair": "FLAIR", "t1": "T1w", "t1c": "T1gd", "t2": "T2w"},
        labels=(
            Label(1, "ED", "ED (edema)", _GREEN),
            Label(2, "NET", "NET (non-enhancing tumor)", _RED),
            Label(3, "ET", "ET (enhancing tumor)", _YELLOW),
        ),
        regions=_regions({3}, {2, 3}, {1, 2, 3}),
        paint=(("WT", 1), ("TC", 2), ("ET", 3)),
        is_four_dimensional=True,
    ),
    _two_dimensional(
        "lgg-mri",
        "LGG MRI Segmentation (Kaggle): a patient's slices, T1 before contrast, FLAIR, T1 after contrast",
        r"(TCGA_[A-Z0-9]{2}_[A-Z0-9]{4})_\d{8}(?:_\d+)?",  # with a number behind it is one slice, no case
        "t1 flair t1c",
        filler="flair",
    ),
    _two_dimensional("images", "grey images with masks", r"(?!)()", "grey"),  # any name, so that none tells it
)

EDITIONS: Mapping[str, Edition] = {edition.name: edition for edition in _ALL}
"""All editions by name."""


def get_edition(name: str) -> Edition:
    """Return the edition of that name.

    Raises:
        UsageError: there is none; the message names the nearest.
    """
    if name not in EDITIONS:
        raise UsageError(f"edition {name!r} is unknown{did_you_mean(name, EDITIONS)}")
    return EDITIONS[name]


def edition_of_files(modalities: Sequence[str]) -> str:
    """Return the edition of images whose names tell none, by the modalities of the model that they are for."""
    fitting = [name for name, edition in EDITIONS.items() if edition.modalities == tuple(modalities)]
    return "brats2021" if "brats2021" in fitting or not fitting else fitting[0]


def modality_of_token(token: str) -> str | None:
    """Return the modality that a whole token, in any case of letters, stands for (`t1ce` -> `t1c`), or None."""
    lower = token.lower()
    return next((modality for modality, names in MODALITY_ALIASES.items() if lower in names), None)


def editions_of_case_name(name: str) -> list[Edition]:
    """Return the editions that name their cases so, the earliest first; several where only grid or labels can tell."""
    return [edition for edition in EDITIONS.values() if edition.patient_of(name) is not None]


def site_of_case_name(name: str) -> str | None:
    """Return the site in a case name of 2017-2019 (`Brats18_TCIA01_378_1` -> `TCIA01`) or of TCGA (`TCGA_CS_...`).

    None where names hide it.
    """
    match = re.fullmatch(r"(?:BraTS1[789]_([A-Z0-9]+)|TCGA_([A-Z0-9]{2}))_\w+", name, re.IGNORECASE)
    return (match.group(1) or match.group(2)).upper() if match else None


def can_share_store(first: Edition, second: Edition) -> bool:
    """Return whether cases of both editions can train one network: same modalities, same regions."""
    return first.modalities == second.modalities and first.region_names == second.region_names
