"""`brats-seg check`: the audit of a download, as a table and as JSON."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path, PurePosixPath
from typing import Annotated

import typer

from brats_seg.commands.options import (
    EditionOption,
    JobsOption,
    ModalitiesOption,
    QuietOption,
    command_from,
    default_jobs,
    is_silent,
)
from brats_seg.data.audit import SEVERITIES, Audit, Finding, audit_download
from brats_seg.data.cases import Download, find_cases
from brats_seg.data.numbered import parse_modalities
from brats_seg.errors import OutputError
from brats_seg.files import make_output_folder, require_outside, write_json
from brats_seg.reporting.tables import counted, format_table

__all__ = ["check", "command"]

_JOBS = default_jobs()


def check(
    data: Annotated[Path, typer.Argument(metavar="DATA", help="A download, or the folder of one case; only read.")],
    edition: EditionOption = None,
    modalities: ModalitiesOption = None,
    json_file: Annotated[
        Path | None, typer.Option("--json", metavar="FILE", help="Also write every finding to this file.")
    ] = None,
    jobs: JobsOption = _JOBS,
    quiet: QuietOption = False,
) -> None:
    """Audit a download: every problem of every case in one table.

    Errors (exit code 1) make a case unusable: a file missing or unreadable, shapes or affines that differ within a
    case, NaN, labels that the edition does not have, an empty modality. Warnings: an unexpected grid, tumour outside
    the brain, the same voxels twice. The rest is notes; equal notes are counted here, and written out by --json.

    \b
    Examples:
      brats-seg check MICCAI_BraTS2020_TrainingData
      brats-seg check DATA --edition brats2024-ped --json findings.json
    """
    if json_file is not None:
        _require_writable(json_file, data)
    channels = None if modalities is None else parse_modalities(modalities)
    download = find_cases(data, edition=edition, channels=channels, strict=False)
    audit = _audit(download, jobs, is_silent(quiet))
    if json_file is not None:
        write_json(json_file, audit.as_json())
    _report(audit, download, json_file, quiet)
    if audit.counts["error"]:
        raise typer.Exit(1)


command = command_from(check)


def _require_writable(json_file: Path, data: Path) -> None:
    """Refuse a place for the findings that cannot be written to, before minutes of reading."""
    require_outside(json_file, data)
    if json_file.is_dir():
        raise OutputError(f"{json_file}: is a folder; name a file in it for --json")
    make_output_folder(json_file.absolute().parent)


def _audit(download: Download, jobs: int, silent: bool) -> Audit:
    from tqdm import tqdm  # noqa: PLC0415 (--help need not wait for it)

    with tqdm(total=len(download.cases), desc="check", unit="case", disable=silent) as bar:
        return audit_download(download, jobs=jobs, progress=bar.update)


def _report(audit: Audit, download: Download, json_file: Path | None, quiet: bool) -> None:
    shown = [finding for finding in audit.findings if finding.severity == "error" or not quiet]
    if not quiet:
        print(f"{audit.root}: {_inventory(audit)}\n")
    if shown:
        rows = _listed(f for f in shown if f.severity != "note") + _counted(f for f in shown if f.severity == "note")
        print(format_table(("severity", "where", "finding"), rows) + "\n" * (not quiet))
    if quiet:
        return
    print(", ".join(counted(number, severity) for severity, number in audit.counts.items()))
    if json_file is not None:
        print(f"wrote {json_file}")
    print(_next_step(audit, download))


def _inventory(audit: Audit) -> str:
    editions = ", ".join(f"{number} {edition}" for edition, number in audit.editions.items())
    return f"{counted(audit.num_cases, 'case')} of {counted(audit.num_patients, 'patient')} ({editions})"


def _where(finding: Finding) -> str:
    """Return the shortest text that says which file of which case: official file names begin with the case's."""
    name = PurePosixPath(finding.file).name
    if not finding.file or not finding.case:
        return finding.case or finding.file
    return name if name.startswith(finding.case) else f"{finding.case}: {name}"


def _listed(findings: Iterable[Finding]) -> list[tuple[str, str, str]]:
    """Return a row for each error and warning, those of one message together, the message written out once."""
    groups: dict[tuple[str, str], list[Finding]] = {}
    for finding in findings:
        groups.setdefault((finding.severity, finding.message), []).append(finding)
    return [
        (severity, _where(finding), message if finding is same[0] else "as above")
        for (severity, message), same in groups.items()
        for finding in same
    ]


def _counted(notes: Iterable[Finding]) -> list[tuple[str, str, str]]:
    """Return a row for each kind of note: a download of a thousand cases has one line, not thousands."""
    kinds: dict[tuple[str, str, str], list[Finding]] = {}
    for note in notes:
        kinds.setdefault((note.check, note.message, "" if note.case else _kind_of(note.file)), []).append(note)
    return [("note", _extent(same, kind), message) for (_, message, kind), same in kinds.items()]


def _kind_of(path: str) -> str:
    """Return what makes files of no case alike: their name, or `._*`, which macOS leaves beside each file."""
    name = PurePosixPath(path).name
    if path.endswith("/"):
        return path
    return "._*" if name.startswith("._") else name


def _extent(notes: list[Finding], kind: str) -> str:
    if len(notes) == 1:
        return _where(notes[0])
    if kind:
        return f"{kind} ({len(notes)} times)"
    num_cases, num_files = len({note.case for note in notes}), sum(bool(note.file) for note in notes)
    files = f"{counted(num_files, 'file')} of " if num_files else ""
    return f"{files}{counted(num_cases, 'case')}"


def _next_step(audit: Audit, download: Download) -> str:
    if audit.counts[SEVERITIES[0]]:
        return "next: correct these files or move their cases elsewhere, then check again"
    if not any(case.label for case in download.cases):
        return f"next: brats-seg predict RUN {audit.root} OUT"
    if audit.num_patients < 5:
        return f"next: brats-seg prepare {audit.root} STORE"
    return f"next: brats-seg split {audit.root} --folds 5 --out FILE"
