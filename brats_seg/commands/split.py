"""`brats-seg split`: folds by patient, from what names, tables and label maps tell."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated

import typer

from brats_seg.commands.options import (
    EditionOption,
    JobsOption,
    OverwriteOption,
    QuietOption,
    command_from,
    default_jobs,
    is_silent,
)
from brats_seg.data.cases import Case, find_cases
from brats_seg.data.reading import read_label_map
from brats_seg.data.splits import Folds, Member, load_split, save_split, split_cases
from brats_seg.data.workers import map_in_processes
from brats_seg.editions import get_edition
from brats_seg.errors import DataError, OutputError, all_findings
from brats_seg.files import make_output_folder, require_outside
from brats_seg.reporting.tables import format_table

__all__ = ["command", "split"]

_JOBS = default_jobs()


def split(
    data: Annotated[Path, typer.Argument(metavar="DATA", help="A download; only read.")],
    out: Annotated[Path, typer.Option("--out", metavar="FILE", help="Where to write the folds (JSON).")],
    folds: Annotated[int, typer.Option("--folds", metavar="N", help="Number of folds.")] = 5,
    edition: EditionOption = None,
    jobs: JobsOption = _JOBS,
    overwrite: OverwriteOption = False,
    quiet: QuietOption = False,
) -> None:
    """Divide the cases of a download into folds, by patient.

    No patient is in two folds, whatever the number of time points. Patients with and without enhancing tumour, and
    sites, are spread evenly; sites come from the case names of 2017-2019, or from the download's name_mapping.csv.
    There is no seed: the same cases always give the same folds.

    \b
    Example:
      brats-seg split MICCAI_BraTS2020_TrainingData --folds 5 --out split.json
    """
    require_outside(out, data)
    if out.is_dir():
        raise OutputError(f"{out}: is a folder; name a file in it for --out")
    cases = find_cases(data, edition=edition).cases
    members = _members(cases, jobs, is_silent(quiet))
    chosen = split_cases(members, folds)
    _require_same_or_none(out, chosen, overwrite)
    make_output_folder(out.absolute().parent)
    save_split(out, chosen)
    if not quiet:
        print(_table(chosen, {member.name: member for member in members}))
        print(f"\nwrote {out}\nnext: brats-seg prepare {data} STORE")


command = command_from(split)


def _require_same_or_none(out: Path, chosen: Folds, overwrite: bool) -> None:
    """Refuse to replace other folds: a run that was trained with them could no longer be told what it held out."""
    if overwrite or not out.exists():
        return
    try:
        is_same = load_split(out) == chosen
    except DataError:
        is_same = False
    if not is_same:
        raise OutputError(f"{out}: holds something else already; name another file, or replace it with --overwrite")


def _members(cases: Sequence[Case], jobs: int, silent: bool) -> list[Member]:
    from tqdm import tqdm  # noqa: PLC0415 (--help need not wait for it)

    with tqdm(total=len(cases), desc="read label maps", unit="case", disable=silent) as bar:
        answers = map_in_processes(_has_et, cases, jobs=jobs, progress=bar.update)
    findings = [answer for answer in answers if isinstance(answer, str)]
    if findings:
        raise DataError(all_findings("label maps", findings))
    return [
        Member(case.name, case.patient, case.site, None if isinstance(answer, str) else answer)
        for case, answer in zip(cases, answers, strict=True)
    ]


def _has_et(case: Case) -> bool | str | None:
    """Return whether the label map has ET (None: no label map, or an edition without ET), or what is wrong with it."""
    edition = get_edition(case.edition)
    if case.label is None or "ET" not in edition.regions:
        return None
    try:
        label_map, _ = read_label_map(case.label)
        return bool(edition.regions_from_label_map(label_map)[edition.region_names.index("ET")].any())
    except DataError as error:
        return f"case {case.name}: {error}"


def _table(folds: Folds, members: Mapping[str, Member]) -> str:
    header = ["fold", "cases", "patients", "with ET", "without ET", "sites"]
    rows = []
    for number, names in enumerate(folds):
        fold = [members[name] for name in names]
        sites = Counter(member.site or "not known" for member in fold)
        rows.append(
            (
                str(number),
                len(fold),
                len({member.patient for member in fold}),
                sum(member.has_et is True for member in fold),
                sum(member.has_et is False for member in fold),
                ", ".join(f"{site} {count}" for site, count in sorted(sites.items())),
            )
        )
    return format_table(header, rows)
