"""Layout of a download: which files in which folders belong together as one case, by their names alone.

The last token of a file's stem decides its modality, never a pattern such as `*t1*`. Folders that hold no case are
passed over and listed. No file is opened except MSD's `dataset.json`.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from brats_seg.data.numbered import LABEL_FOLDERS, channel_order, is_numbered, numbered_cases
from brats_seg.data.stems import Found, ImageFile, split_stem, stem_of
from brats_seg.editions import EDITIONS, editions_of_case_name, modality_of_token
from brats_seg.errors import DataError

__all__ = [
    "Found",
    "ImageFile",
    "Listing",
    "is_segmentation_name",
    "list_folder",
    "name_of",
    "split_stem",
    "stem_of",
]

_SEGMENTATION_TOKENS = frozenset(edition.segmentation_token for edition in EDITIONS.values())
_MSD = next(edition for edition in EDITIONS.values() if edition.is_four_dimensional)
_MAPPING = re.compile(r"name_mapping\w*\.csv", re.IGNORECASE)
_TABLES = re.compile(r"(name_mapping|survival)\w*\.csv|dataset\.json", re.IGNORECASE)


@dataclass
class Listing:
    """What a folder holds, its subfolders included."""

    found: list[Found] = field(default_factory=list)
    passed_over: list[Path] = field(default_factory=list)
    """Files and folders that belong to no case; a folder stands for all that it holds."""
    mappings: list[Path] = field(default_factory=list)
    """Tables of names through the years (`name_mapping.csv`)."""
    nameless: list[Path] = field(default_factory=list)
    """Folders of numbered channels whose modalities nothing tells."""
    numbered: list[Path] = field(default_factory=list)
    """Folders of numbered channels whose modalities are known."""


def is_segmentation_name(path: Path) -> bool:
    """Return whether a file's name says that it is a label map (its last token is `seg` or `gtv`)."""
    return split_stem(stem_of(path.name) or path.name)[1].lower() in _SEGMENTATION_TOKENS


def name_of(folder: Path, prefixes: Iterable[str]) -> str:
    """Return the name of the one case in a folder: an edition's name if files or folder have one, else the folder's."""
    own = folder.resolve().name
    return next((name for name in (*sorted(prefixes), own) if _is_case_name(name)), own)


def list_folder(folder: Path, channels: Sequence[str] | None = None, _seen: frozenset[Path] = frozenset()) -> Listing:
    """Return what a folder and its subfolders hold; a case's own subfolders, and links in a circle, are passed over.

    Args:
        folder: only read.
        channels: modalities of nnU-Net's numbered channels, in order; None = as its `dataset.json` tells.

    Raises:
        DataError: a folder cannot be listed, `dataset.json` makes no sense or names other channels than asked for.
    """
    paths = _entries(folder)
    hidden = [path for path in paths if path.name.startswith(".")]  # .DS_Store, ._x.nii.gz, .incomplete-x
    folders = [path for path in paths if path not in hidden and path.is_dir()]
    files = [path for path in paths if path not in hidden and path not in folders]
    images = [path for path in files if stem_of(path.name)]
    are_numbered = is_numbered(images)
    order = channel_order(folder, channels) if are_numbered else None
    found = _numbered_or_other(folder, images, are_numbered, order)
    used = {path for one in found for path in (*(file.path for file in one.all_images()), *one.labels, *one.others)}
    unused = [path for path in files if path not in used and not _TABLES.fullmatch(path.name)]
    listing = Listing(found, hidden + unused, [path for path in files if _MAPPING.fullmatch(path.name)])
    if are_numbered:
        (listing.nameless if order is None else listing.numbered).append(folder)
    is_case = any(one.images for one in found) and _is_case_name(folder.resolve().name)
    seen = _seen | {folder.resolve()}
    for sub in folders:
        if sub.name in LABEL_FOLDERS.values():  # the label maps of the folder beside it
            continue
        if is_case or sub.resolve() in seen:
            listing.passed_over.append(sub)
        else:
            _add_subfolder(listing, sub, channels, seen)
    return listing


def _numbered_or_other(
    folder: Path, images: Sequence[Path], are_numbered: bool, order: Sequence[str] | None
) -> list[Found]:
    if are_numbered:
        return [] if order is None else numbered_cases(folder, images, order)
    return _msd_cases(folder, images) if folder.name.lower() in LABEL_FOLDERS else _cases_in(folder, images)


def _add_subfolder(listing: Listing, sub: Path, channels: Sequence[str] | None, seen: frozenset[Path]) -> None:
    below = list_folder(sub, channels, seen)
    listing.found += below.found
    listing.nameless += below.nameless
    listing.numbered += below.numbered
    listing.mappings += below.mappings
    listing.passed_over += below.passed_over if below.found else [sub]


def _entries(folder: Path) -> list[Path]:
    try:
        return sorted(folder.iterdir())
    except OSError as error:
        raise DataError(f"{folder}: cannot be listed ({error.strerror}); change its permissions") from error


def _is_case_name(name: str) -> bool:
    return bool(editions_of_case_name(name))


def _cases_in(folder: Path, files: Sequence[Path]) -> list[Found]:
    """Return the cases whose files lie in this very folder: none, one, or (a flat folder) several."""
    groups: dict[str, list[Path]] = {}
    for path in files:
        groups.setdefault(split_stem(stem_of(path.name) or "")[0], []).append(path)
    prefixes = [prefix for prefix, paths in groups.items() if any(_modality(path) for path in paths)]
    if not prefixes:
        is_hollow = _is_case_name(folder.resolve().name) and all(map(is_segmentation_name, files))
        return [Found(folder.resolve().name, folder, labels=list(files))] if is_hollow else []
    cases = [
        prefix for prefix in prefixes if _is_case_name(prefix) or len({*map(_modality, groups[prefix])} - {None}) > 1
    ]
    if len(cases) > 1 and folder.resolve().name not in prefixes:
        return [_found(prefix, folder, groups[prefix], is_flat=True) for prefix in prefixes]
    return [_found(name_of(folder, prefixes), folder, files, is_flat=False)]


def _modality(path: Path) -> str | None:
    return modality_of_token(split_stem(stem_of(path.name) or "")[1])


def _found(name: str, folder: Path, files: Iterable[Path], *, is_flat: bool) -> Found:
    found = Found(name, folder)
    for path in files:
        modality = _modality(path)
        if modality is not None:
            found.images.setdefault(modality, []).append(ImageFile(path))
        elif is_segmentation_name(path):
            found.labels.append(path)
        elif not is_flat and stem_of(path.name) != name:  # `<case>.nii.gz` is how predictions are named
            found.others.append(path)
    if not found.labels and len(found.others) == 1:  # BraTS20_Training_355: W39_1998.09.19_Segm.nii
        found.labels, found.others = found.others, []
    return found


def _msd_cases(folder: Path, files: Iterable[Path]) -> list[Found]:
    """Return MSD's cases in `imagesTr` or `imagesTs`: one 4-D file each, its label map in the folder beside."""
    labels = folder.resolve().parent / LABEL_FOLDERS[folder.name.lower()]
    order = _msd_order(folder.resolve().parent / "dataset.json")
    return [
        Found(
            name=name,
            folder=folder,
            images={modality: [ImageFile(path, order.index(modality))] for modality in order},
            labels=[label for label in (labels / path.name,) if label.is_file()],
        )
        for path in files
        if (name := stem_of(path.name)) is not None
    ]


def _msd_order(description: Path) -> list[str]:
    """Return the modalities in the order of the 4-D file's channels, as `dataset.json` has them if it is there."""
    official = list(_MSD.tokens)
    if not description.is_file():
        return official
    try:
        channels = json.loads(description.read_text(encoding="utf-8"))["modality"]
        order = [modality_of_token(channels[str(channel)]) for channel in range(len(channels))]
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise DataError(f"{description}: cannot be read ({error}); expected the channels under 'modality'") from error
    known = [modality for modality in order if modality is not None]
    if sorted(known) != sorted(official) or len(order) != len(official):
        raise DataError(f"{description}: channels are {list(channels.values())}; expected {list(_MSD.tokens.values())}")
    return known
