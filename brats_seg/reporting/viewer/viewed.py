"""What is looked at: a case and its label maps, as paths. Nothing is read here, so that the viewer starts at once."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from brats_seg.data.cases import Case
from brats_seg.editions import Edition, get_edition

__all__ = ["Viewed"]


@dataclass(frozen=True)
class Viewed:
    """A case and the label maps to look at with it."""

    case: Case
    label_maps: Mapping[str, Path]
    """`reference`, `prediction`, or none of them -> file."""

    @property
    def edition(self) -> Edition:
        """The case's edition."""
        return get_edition(self.case.edition)
