"""`brats-seg prepare`: a download becomes a training store."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from brats_seg.commands.options import (
    CasesOption,
    EditionOption,
    JobsOption,
    ModalitiesOption,
    OverwriteOption,
    QuietOption,
    command_from,
    default_jobs,
    is_silent,
    select_cases,
)
from brats_seg.data.cases import Case, find_cases
from brats_seg.data.numbered import parse_modalities
from brats_seg.errors import DataError, WorkError, all_findings
from brats_seg.files import require_outside
from brats_seg.reporting.tables import counted

if TYPE_CHECKING:
    from brats_seg.preprocessing.filling import Outcome

__all__ = ["command", "prepare"]

_JOBS = default_jobs()


def prepare(
    data: Annotated[Path, typer.Argument(metavar="DATA", help="A download; only read.")],
    store: Annotated[Path, typer.Argument(metavar="STORE", help="Folder to write: new, empty, or a store to add to.")],
    edition: EditionOption = None,
    cases: CasesOption = None,
    modalities: ModalitiesOption = None,
    jobs: JobsOption = _JOBS,
    overwrite: OverwriteOption = False,
    quiet: QuietOption = False,
) -> None:
    """Turn a download into a training store.

    Each case becomes a folder of plain .npy files: the modalities cropped to the brain, in their own numbers, and the
    label map. A case appears when it is complete. Run the command again after an interruption, or with more data: cases
    that are there, from the same files, are kept. Cases that cannot be used are listed at the end, and the exit code
    is 1. Editions with the same modalities and regions can share one store.

    \b
    Example:
      brats-seg prepare MICCAI_BraTS2020_TrainingData store --jobs 4
    """
    require_outside(store, data)
    channels = None if modalities is None else parse_modalities(modalities)
    usable, problems = _find(data, edition, cases, channels)
    outcomes = _fill(usable, store, jobs, overwrite, is_silent(quiet))
    if not quiet:
        for note in _notes_in_words(outcomes):
            print(f"note: {note}")
        print(_summary(store, outcomes, {case.name: case.label is not None for case in usable}))
    failures = [*problems, *(outcome.error for outcome in outcomes if outcome.error is not None)]
    if failures:
        num = len(outcomes) + len(problems)
        raise WorkError(all_findings(f"{num - len(failures)} of {num} cases prepared into {store}", failures))
    if not quiet:
        print(_next_step(store, usable[0]))


command = command_from(prepare)


def _next_step(store: Path, case: Case) -> str:
    recipe = {"lgg-mri": "lgg_unet2d", "images": "images_unet2d_128"}.get(case.edition, "cpu_small")
    on_gpu = "   (on a GPU: default, for cpu_small)" if recipe == "cpu_small" else ""
    return f"next: brats-seg train {recipe} data.store={store} output=RUN{on_gpu}"


def _find(
    data: Path, edition: str | None, wanted: str | None, channels: Sequence[str] | None
) -> tuple[list[Case], list[str]]:
    """Return the selected cases that can be prepared, and what is wrong with the others."""
    download = find_cases(data, edition=edition, channels=channels, strict=False)
    names = set(select_cases([case.name for case in download.cases], wanted))
    problems = [problem for problem in download.found_problems if problem.case in names]
    names -= {problem.case for problem in problems}
    usable = [case for case in download.cases if case.name in names]
    if not usable:
        raise DataError(all_findings(f"{data}: no case can be prepared", map(str, problems)))
    return usable, [str(problem) for problem in problems]


def _fill(cases: Sequence[Case], store: Path, jobs: int, overwrite: bool, silent: bool) -> Sequence[Outcome]:
    from tqdm import tqdm  # noqa: PLC0415 (--help need not wait for these)

    from brats_seg.preprocessing.filling import fill_store  # noqa: PLC0415 (MONAI)

    with tqdm(total=len(cases), desc="prepare", unit="case", disable=silent) as bar:
        return fill_store(cases, store, jobs=jobs, overwrite=overwrite, progress=bar.update)


def _notes_in_words(outcomes: Sequence[Outcome]) -> list[str]:
    """Return a line for each kind of note, the first of its kind in full: sets have thousands of images."""
    kinds: dict[str, list[str]] = {}
    for outcome in outcomes:
        for note in outcome.notes:
            kind = re.sub(r"[\d,]+", "", note.removeprefix(f"case {outcome.case}: "))
            kinds.setdefault(kind, []).append(note)
    return [f"{same[0]} (and {len(same) - 1} cases more)" if len(same) > 1 else same[0] for same in kinds.values()]


def _summary(store: Path, outcomes: Sequence[Outcome], has_label: dict[str, bool]) -> str:
    """Return what was written, in a line or two."""
    counts = sorted(Counter(outcome.state for outcome in outcomes).items())
    there = [outcome.case for outcome in outcomes if outcome.state != "failed"]
    size = sum(file.stat().st_size for case in there for file in (store / case).iterdir())
    states = ", ".join(f"{num} {state}" for state, num in counts)
    lines = [f"wrote {store}: {counted(len(there), 'case')}, {size / 1e9:.2f} GB ({states})"]
    unlabelled = sum(not has_label[case] for case in there)
    if unlabelled:
        lines.append(f"note: without a segmentation, for no network to learn from: {unlabelled}")
    return "\n".join(lines)
