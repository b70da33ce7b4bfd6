"""Which cases of a store a run learns from, and which it holds out."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Literal

from brats_seg.config import DataConfig, RunConfig
from brats_seg.data.slices import require_no_gaps
from brats_seg.data.splits import Member, fold_of, load_split, split_cases
from brats_seg.errors import DataError
from brats_seg.networks.slices import thickened
from brats_seg.preprocessing.store import Store, StoredCase

__all__ = ["divide", "folds_of_store", "require_neighbours"]


def folds_of_store(store: Store, config: DataConfig) -> tuple[tuple[str, ...], ...]:
    """Return the names held out in each fold: from the split file, or by patient over the store's labelled cases.

    Where nothing is held out, and no file says otherwise, the labelled cases are not divided: one patient is enough.
    """
    if config.split is not None:
        return load_split(Path(config.split))
    if config.fold == "none":
        return (tuple(sorted(case.name for case in _labelled(store))),)
    members = [Member(case.name, case.patient, case.site, case.has_et) for case in _labelled(store)]
    return split_cases(members, config.num_folds)


def divide(
    store: Store, folds: Sequence[Sequence[str]], fold: int | Literal["none"]
) -> tuple[tuple[StoredCase, ...], tuple[StoredCase, ...]]:
    """Return the training and the validation cases of a fold; `none` = all labelled cases and nothing held out.

    Raises:
        DataError: no such fold, an empty one, or cases that the store does not hold.
    """
    cases = {case.name: case for case in _labelled(store)}
    if fold == "none":
        return tuple(cases.values()), ()
    training, validation = fold_of(tuple(tuple(names) for names in folds), fold, list(cases))
    return tuple(cases[name] for name in training), tuple(cases[name] for name in validation)


def require_neighbours(cases: Sequence[StoredCase], config: RunConfig) -> None:
    """Refuse cases whose slices have gaps where the network sees several slices of them at once.

    Raises:
        DataError: names them.
    """
    block = thickened(config.train.patch, config.network.neighbours)
    require_no_gaps({case.name: case.slices for case in cases}, block[0])


def _labelled(store: Store) -> list[StoredCase]:
    cases = [case for case in store.cases if case.has_label]
    if not cases:
        raise DataError(f"{store.folder}: none of its {len(store.cases)} cases has a segmentation to learn from")
    return cases
