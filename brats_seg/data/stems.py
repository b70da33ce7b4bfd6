"""What a file's name says, and a case as its files' names give it, before its edition is known."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

__all__ = ["Found", "ImageFile", "split_stem", "stem_of"]


@dataclass(frozen=True)
class ImageFile:
    """A modality's file, and its channel (0, 1, ...) where one 4-D file holds all modalities."""

    path: Path
    channel: int | None = None


@dataclass
class Found:
    """A case before its edition is known."""

    name: str
    folder: Path
    images: dict[str, list[ImageFile]] = field(default_factory=dict)
    """Modality -> its files; more than one is a problem."""
    labels: list[Path] = field(default_factory=list)
    others: list[Path] = field(default_factory=list)
    """NIfTI files beside the images that are neither modality nor label map."""

    def all_images(self) -> Iterator[ImageFile]:
        """Yield every image file of every modality."""
        return (file for files in self.images.values() for file in files)


def stem_of(file_name: str) -> str | None:
    """Return a NIfTI file's name without `.nii` or `.nii.gz` (in any case of letters); None if it is no NIfTI file."""
    match = re.fullmatch(r"(.+)\.nii(\.gz)?", file_name, re.IGNORECASE)
    return match.group(1) if match else None


def split_stem(stem: str) -> tuple[str, str]:
    """Return what stands before the last token of a stem (tokens are parted by `_` or `-`), and that token."""
    parts = re.split(r"[_-](?=[^_-]*$)", stem, maxsplit=1)
    return (parts[0], parts[1]) if len(parts) == 2 else ("", stem)
