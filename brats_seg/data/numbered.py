"""nnU-Net's layout: flat folders of `<case>_0000.nii.gz`, `<case>_0001.nii.gz` ..., whose names tell no modality.

Which number is which modality is said by the caller, or by nnU-Net's own `dataset.json` (`channel_names`, or `modality`
of its first version); never guessed. Label maps of `imagesTr` lie in `labelsTr` beside it, as `<case>.nii.gz`.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Sequence
from pathlib import Path

from brats_seg.data.stems import Found, ImageFile, split_stem, stem_of
from brats_seg.editions import MODALITY_ALIASES, modality_of_token
from brats_seg.errors import DataError, UsageError, did_you_mean

__all__ = ["LABEL_FOLDERS", "channel_order", "is_numbered", "numbered_cases", "parse_modalities"]

LABEL_FOLDERS = {"imagestr": "labelsTr", "imagests": "labelsTs"}
"""Folder of images, in lower case -> that of their label maps beside it."""

_CHANNEL = re.compile(r"(.+)_(\d{4})")


def is_numbered(images: Sequence[Path]) -> bool:
    """Return whether all NIfTI files of a folder are numbered channels of cases, each case's from 0000 on."""
    channels: dict[str, set[int]] = {}
    for path in images:
        match = _CHANNEL.fullmatch(stem_of(path.name) or "")
        if match is None:
            return False
        channels.setdefault(match.group(1), set()).add(int(match.group(2)))
    return bool(channels) and all(0 in numbers for numbers in channels.values())


def parse_modalities(words: str) -> tuple[str, ...]:
    """Return the modalities that `t1,t1c,t2,flair` names in order, by any of their names.

    Raises:
        UsageError: one is unknown or named twice.
    """
    order: list[str] = []
    for word in words.split(","):
        modality = modality_of_token(word.strip())
        if modality is None or modality in order:
            why = "is named twice" if modality else f"is unknown{did_you_mean(word.strip(), MODALITY_ALIASES)}"
            raise UsageError(f"--modalities {words}: {word.strip()!r} {why}; such as t1,t1c,t2,flair for 0000 to 0003")
        order.append(modality)
    return tuple(order)


def channel_order(folder: Path, asked: Sequence[str] | None) -> tuple[str, ...] | None:
    """Return the modalities of channels 0000, 0001 ... of a folder; None where nothing tells them.

    Args:
        folder: of the images; `dataset.json` is looked for in it and beside it.
        asked: what the caller says; None = what `dataset.json` says.

    Raises:
        DataError: both tell, and differ; or `dataset.json` cannot be read.
    """
    descriptions = (place / "dataset.json" for place in (folder, folder.resolve().parent))
    path = next((path for path in descriptions if path.is_file()), None)
    told = None if path is None else _order_told(path)
    if asked is None or told is None:
        return told if asked is None else tuple(asked)
    if tuple(asked) != told:
        raise DataError(
            f"{path}: its channels are {','.join(told)}, asked for were {','.join(asked)}; give them in its order"
        )
    return told


def _order_told(path: Path) -> tuple[str, ...] | None:
    """Return the modalities that a `dataset.json` names; None where its words for them are none that BraTS has used."""
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
        names = record.get("channel_names") or record["modality"]
        words = [str(names[str(number)]) for number in range(len(names))]
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise DataError(f"{path}: cannot be read ({error}); expected the channels under 'channel_names'") from error
    order = [modality_of_token(word) or modality_of_token(split_stem(word)[1]) for word in words]
    known = tuple(modality for modality in order if modality is not None)
    return known if len(known) == len(set(known)) == len(words) else None


def numbered_cases(folder: Path, images: Iterable[Path], order: Sequence[str]) -> list[Found]:
    """Return the cases of a folder of numbered channels.

    Raises:
        DataError: a channel has no modality.
    """
    labels = folder.resolve().parent / LABEL_FOLDERS.get(folder.name.lower(), "")
    cases: dict[str, Found] = {}
    for path in images:
        match = _CHANNEL.fullmatch(stem_of(path.name) or "")
        if match is None:
            continue
        name, number = match.group(1), int(match.group(2))
        if number >= len(order):
            raise DataError(
                f"{path}: is channel {number:04d}, but only {len(order)} modalities are named ({','.join(order)}); "
                "name all with --modalities"
            )
        found = cases.setdefault(name, Found(name, folder))
        found.images.setdefault(order[number], []).append(ImageFile(path))
    if folder.name.lower() in LABEL_FOLDERS:
        for name, found in cases.items():
            found.labels += [path for suffix in (".nii.gz", ".nii") if (path := labels / (name + suffix)).is_file()]
    return list(cases.values())
