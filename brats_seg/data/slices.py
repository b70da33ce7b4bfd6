"""Layout of 2D sets: a patient's slices (LGG MRI Segmentation), or a plain folder of images and masks, by names alone.

A set that has files named as TCGA slices, `TCGA_CS_4941_19960909_12.tif` and `..._12_mask.tif`, is of the first kind:
the files of one name in one folder are a case, stacked in the order of their numbers; `data.csv` tells more of its
patients. Any other set of pictures is of the second kind, a case an image. Image and mask belong together

- where folders `images` and `masks` lie beside each other: by equal names, `_mask` at the end of a mask's name or not;
- elsewhere: `<name>_mask` beside `<name>`.

Folder names are read in any case of letters, singular or plural; `img`, `imgs`, `label`, `labels` do as well. No
picture is opened.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from brats_seg.data.layout import Listing
from brats_seg.data.pictures import PICTURE_SUFFIXES
from brats_seg.data.stems import Complaint, Found, ImageFile
from brats_seg.data.tables import rows_by_patient
from brats_seg.editions import Edition, get_edition
from brats_seg.errors import DataError, all_findings

__all__ = ["list_slices", "missing_between", "require_no_gaps", "slices_in_words"]

_TCGA = re.compile(r"(TCGA_[A-Z0-9]{2}_[A-Z0-9]{4}_\d{8})_(\d+)(_mask)?", re.IGNORECASE)
_NUMBERED = re.compile(r"(.+)_(\d+)(_mask)?", re.IGNORECASE)
_MASK_NAME = re.compile(r"(.+)[_-]mask", re.IGNORECASE)
_IMAGE_FOLDERS = frozenset({"image", "images", "img", "imgs"})
_MASK_FOLDERS = frozenset({"mask", "masks", "label", "labels"})
_TABLE = "data.csv"


@dataclass
class _Slices:
    """The files of one name in one folder, by suffix and number."""

    images: dict[str, dict[int, Path]] = field(default_factory=dict)
    masks: dict[str, dict[int, Path]] = field(default_factory=dict)

    def numbers(self, what: Mapping[str, Mapping[int, Path]]) -> set[int]:
        return {number for files in what.values() for number in files}


@dataclass
class _Pair:
    images: list[Path] = field(default_factory=list)
    masks: list[Path] = field(default_factory=list)


def list_slices(root: Path, edition: Edition | None = None, *, needs_masks: bool = True) -> Listing:
    """Return the cases of a 2D set in a folder and its subfolders; none where there are no pictures.

    Args:
        root: the folder; only read.
        edition: `lgg-mri` takes any names that end in a number as slices, `images` takes each picture as an image; None
            = as names tell.
        needs_masks: False passes over masks that have no image, and does not mind images without a mask.

    Raises:
        DataError: a folder cannot be listed, or `data.csv` makes no sense.
    """
    files = list(_files_below(root, frozenset()))
    pictures = [path for path in files if path.suffix.lower() in PICTURE_SUFFIXES]
    groups = {} if edition is not None and edition.name == "images" else _slices_of(pictures, edition)
    if groups:
        found, used = _patients(groups, needs_masks), {path for one in groups.values() for path in _paths_of(one)}
        tables = [path for path in files if path.name.lower() == _TABLE]
        _join_tables(found, tables)
        used |= set(tables)
    else:
        found, used = _images(root, pictures, needs_masks)
    return Listing(found, [path for path in files if path not in used] if found else files)


def slices_in_words(numbers: Iterable[int]) -> str:
    """Return `slice 3` or `slices 3, 4, 7 ...`."""
    some = sorted(numbers)
    text = ", ".join(map(str, some[:6])) + (" ..." if len(some) > 6 else "")
    return f"slice{'s' if len(some) > 1 else ''} {text}"


def missing_between(numbers: Sequence[int] | None) -> list[int]:
    """Return the numbers that are missing between those of a patient's slices, ascending; none of a volume (None)."""
    return sorted(set(range(min(numbers), max(numbers))) - set(numbers)) if numbers else []


def require_no_gaps(numbers: Mapping[str, Sequence[int] | None], extent: int) -> None:
    """Refuse cases whose slices have gaps where a network sees several slices of them at once.

    Args:
        numbers: case -> the numbers of its slices; None = a volume.
        extent: slices along K that the network sees at once; 1 minds no gap.

    Raises:
        DataError: names each case and what it lacks.
    """
    gaps = {case: missing for case, of in numbers.items() if (missing := missing_between(of))}
    if extent > 1 and gaps:
        lines = [f"case {case}: {slices_in_words(missing)} not there" for case, missing in gaps.items()]
        remedy = f"the network sees {extent} slices at once (K), which must be neighbours; learn from single slices"
        raise DataError(all_findings("slices are missing", [f"{line}; {remedy}" for line in lines]))


def _files_below(folder: Path, seen: frozenset[Path]) -> Iterator[Path]:
    try:
        paths = sorted(folder.iterdir())
    except OSError as error:
        raise DataError(f"{folder}: cannot be listed ({error.strerror}); change its permissions") from error
    seen |= {folder.resolve()}
    for path in paths:
        if path.name.startswith("."):
            continue
        if not path.is_dir():
            yield path
        elif path.resolve() not in seen:
            yield from _files_below(path, seen)


# ---- slices of patients ----


def _slices_of(pictures: Iterable[Path], edition: Edition | None) -> dict[tuple[Path, str], _Slices]:
    """Return folder and case name -> the files that are slices of it."""
    pattern = _NUMBERED if edition is not None else _TCGA
    groups: dict[tuple[Path, str], _Slices] = {}
    for path in pictures:
        if match := pattern.fullmatch(path.stem):
            group = groups.setdefault((path.parent, match.group(1)), _Slices())
            part = group.masks if match.group(3) else group.images
            part.setdefault(path.suffix, {})[int(match.group(2))] = path
    return groups


def _paths_of(group: _Slices) -> Iterator[Path]:
    return (path for part in (group.images, group.masks) for files in part.values() for path in files.values())


def _patients(groups: Mapping[tuple[Path, str], _Slices], needs_masks: bool) -> list[Found]:
    has_masks = any(group.masks for group in groups.values())
    found = []
    for (folder, name), group in groups.items():
        if not (group.images or needs_masks):
            continue
        one = Found(name, folder, edition="lgg-mri")
        for channel, modality in enumerate(get_edition("lgg-mri").tokens if group.images else ()):
            one.images[modality] = [
                ImageFile(folder / f"{name}_*{suffix}", channel) for suffix in sorted(group.images)[:1]
            ]
        one.labels = [folder / f"{name}_*_mask{suffix}" for suffix in sorted(group.masks)[:1]]
        one.complaints += _complaints_of(group, has_masks, needs_masks)
        found.append(one)
    return found


def _complaints_of(group: _Slices, has_masks: bool, needs_masks: bool) -> Iterator[Complaint]:
    images, masks = group.numbers(group.images), group.numbers(group.masks)
    for what, part in (("image", group.images), ("mask", group.masks)):
        if len(part) > 1 and (what == "image" or needs_masks):
            suffixes = ", ".join(sorted(part))
            yield Complaint("ambiguous", f"{what}s of {len(part)} kinds of files ({suffixes}); keep one kind")
    if not needs_masks:
        return
    if has_masks and images - masks:
        yield Complaint("missing mask", f"{slices_in_words(images - masks)}: image without mask")
    if masks - images:
        yield Complaint("missing", f"{slices_in_words(masks - images)}: mask without image")


def _join_tables(found: Sequence[Found], tables: Iterable[Path]) -> None:
    """Give each case what `data.csv` tells of its patient, by column."""
    rows: dict[str, dict[str, str]] = {}
    for table in tables:
        rows |= rows_by_patient(table)
    edition = get_edition("lgg-mri")
    for one in found:
        one.details = rows.get((edition.patient_of(one.name) or one.name).upper(), {})


# ---- images and masks ----


def _images(root: Path, pictures: Sequence[Path], needs_masks: bool) -> tuple[list[Found], set[Path]]:
    """Return a case an image, masks with them, and all files that belong to one."""
    pairs: dict[tuple[Path, Path, str], _Pair] = {}
    for path in pictures:
        is_mask, key = _role_of(path, root)
        pair = pairs.setdefault(key, _Pair())
        (pair.masks if is_mask else pair.images).append(path)
    has_masks = any(pair.masks for pair in pairs.values())
    found = []
    for (_, _, stem), pair in pairs.items():
        if not (pair.images or needs_masks):
            continue
        first = (pair.images or pair.masks)[0]
        one = Found(stem, first.parent, edition="images", labels=list(pair.masks))
        if pair.images:
            one.images["grey"] = [ImageFile(path) for path in pair.images]
        if needs_masks and not pair.images:
            one.complaints.append(Complaint("missing", f"{first.name}: mask without image", (first,)))
        if needs_masks and has_masks and not pair.masks:
            one.complaints.append(Complaint("missing mask", f"{first.name}: image without mask", (first,)))
        if not needs_masks:
            one.labels = []
        found.append(one)
    kept = [pair for pair in pairs.values() if pair.images or needs_masks]
    return found, {path for pair in kept for path in (*pair.images, *pair.masks)}


def _role_of(path: Path, root: Path) -> tuple[bool, tuple[Path, Path, str]]:
    """Return whether a picture is a mask, and what it has in common with its partner: folders and name."""
    for folder in (path.parent, *path.parent.parents):
        if folder.name.lower() in _IMAGE_FOLDERS | _MASK_FOLDERS:
            is_mask = folder.name.lower() in _MASK_FOLDERS
            match = _MASK_NAME.fullmatch(path.stem) if is_mask else None
            stem = match.group(1) if match else path.stem
            return is_mask, (folder.parent, path.parent.relative_to(folder), stem)
        if folder == root:
            break
    match = _MASK_NAME.fullmatch(path.stem)
    return match is not None, (path.parent, Path(), match.group(1) if match else path.stem)
