"""`brats-seg evaluate`: predictions against references, in numbers that name their protocol."""

from __future__ import annotations

import sys
import textwrap
from enum import StrEnum
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from brats_seg.commands.options import (
    CasesOption,
    EditionOption,
    JobsOption,
    OverwriteOption,
    QuietOption,
    command_from,
    default_jobs,
    is_silent,
    select_cases,
)

if TYPE_CHECKING:
    from brats_seg.evaluation.pairs import Evaluation

__all__ = ["command", "evaluate", "format_report"]

_JOBS = default_jobs()


class Missing(StrEnum):
    """What a case without a prediction is."""

    ERROR = "error"
    SCORE_AS_FAILURE = "score-as-failure"


def evaluate(
    reference: Annotated[
        Path, typer.Argument(metavar="REFERENCE", help="A download, or a flat folder of <case>.nii.gz.")
    ],
    prediction: Annotated[
        Path, typer.Argument(metavar="PREDICTION", help="A folder of <case>.nii.gz or <case>.nii label maps.")
    ],
    out: Annotated[Path, typer.Option("--out", metavar="DIR", help="Folder for cases.csv and summary.json.")],
    protocol: Annotated[
        str, typer.Option("--protocol", metavar="plain|brats2020", help="The rules: HD95, empty cases, penalties.")
    ],
    edition: EditionOption = None,
    cases: CasesOption = None,
    jobs: JobsOption = _JOBS,
    missing: Annotated[Missing, typer.Option("--missing", help="A case without a prediction.")] = Missing.ERROR,
    overwrite: OverwriteOption = False,
    quiet: QuietOption = False,
) -> None:
    """Score predictions against references under a named protocol.

    Writes cases.csv (a row per case and region), summary.json (mean, median, interval ... per region and metric),
    run.json and, for brats2020, portal.csv in the challenge portal's form; prints a table. Regions are scored first,
    then the labels that are no region (NCR, ED). Nothing is written if any pair cannot be compared; all reasons are
    listed at once.

    Protocols: brats2020 = the portal's rules of 2017-2021 (HD95 in voxels; a missed or invented region costs the
    grid's diagonal, both empty is perfect); plain = no penalties, undefined values are nan and counted.

    \b
    Example:
      brats-seg evaluate BraTS2020_TrainingData predictions --protocol brats2020 --out evaluation
    """
    from brats_seg.evaluation.pairs import evaluate_folder  # noqa: PLC0415 (keeps --help fast)

    result = evaluate_folder(
        reference,
        prediction,
        out,
        protocol=protocol,
        edition=edition,
        select=partial(select_cases, wanted=cases),
        jobs=jobs,
        missing=missing.value,
        overwrite=overwrite,
        is_silent=is_silent(quiet),
    )
    if quiet:
        return
    if result.extra:
        print(f"warning: not scored, no such reference: {', '.join(result.extra)}", file=sys.stderr)
    print(format_report(result))
    names = ", ".join(path.name for path in result.files)
    print(f"\nWrote {names} to {out}; next, look at the worst cases: brats-seg export itksnap")


def format_report(result: Evaluation) -> str:
    """Return the evaluation as text for a terminal: scores per region, what is empty or undefined, the worst cases."""
    summary = result.summary
    parts = [
        *_paragraphs([f"Protocol {summary['protocol']}: {summary['protocol_title']}"]),
        f"{_count(summary['num_cases'], 'case')}, edition {', '.join(summary['editions'])}; means over cases",
        "",
        _score_table(summary),
        *_remarks(summary),
        "",
        f"Worst cases by mean Dice of {', '.join(result.regions)}:",
        _worst_table(summary, result.regions),
    ]
    return "\n".join(parts)


def _score_table(summary: dict[str, Any]) -> str:
    from brats_seg.reporting.tables import format_table  # noqa: PLC0415 (keeps --help fast)

    header = [
        "region",
        "Dice",
        "sd",
        "median",
        "95 % interval",
        "HD95",
        "median",
        "sens.",
        "spec.",
        "prec.",
        "ref ml",
        "pred ml",
    ]
    rows = []
    for region, one in summary["regions"].items():
        of = one["metrics"]
        dice, hd95 = of["dice"], of["hd95_mm"]
        row = [region, dice["mean"], dice["sd"], dice["median"], f"{dice['ci95_low']:.3f}-{dice['ci95_high']:.3f}"]
        names = ("sensitivity", "specificity", "precision", "reference_ml", "prediction_ml")
        rows.append([*row, hd95["mean"], hd95["median"], *(of[name]["mean"] for name in names)])
    return format_table(header, rows, digits=(0, 3, 3, 3, 0, 2, 2, 3, 4, 3, 1, 1))


def _remarks(summary: dict[str, Any]) -> list[str]:
    """Return a paragraph each on missing predictions, empty regions and values that are undefined."""
    lines = []
    if summary["missing"]:
        lines.append(f"No prediction, scored as failures: {', '.join(summary['missing'])}")
    empties, undefined = [], []
    for region, one in summary["regions"].items():
        counts = [one[key] for key in ("num_empty_reference", "num_empty_prediction", "num_both_empty")]
        if any(counts):
            empties.append(f"{region} {counts[0]} / {counts[1]} / {counts[2]}")
        nans = [f"{name} {of['num_undefined']}" for name, of in one["metrics"].items() if of["num_undefined"]]
        undefined += [f"{region} {', '.join(nans)}"] * bool(nans)
    if empties:
        lines.append(f"Empty in the reference / the prediction / both: {'; '.join(empties)}")
    if undefined:
        lines.append(f"Undefined (nan), left out of the statistics: {'; '.join(undefined)}")
    return _paragraphs(lines)


def _worst_table(summary: dict[str, Any], regions: tuple[str, ...]) -> str:
    from brats_seg.reporting.tables import format_table  # noqa: PLC0415 (keeps --help fast)

    header = ["case", "Dice", *regions, *(f"HD95 {region}" for region in regions)]
    rows = [
        [one["case"], one["mean_dice"], *one["dice"].values(), *one["hd95_mm"].values()]
        for one in summary["worst_cases"]
    ]
    return format_table(header, rows, digits=(0, *[3] * (1 + len(regions)), *[2] * len(regions)))


def _paragraphs(lines: list[str]) -> list[str]:
    from brats_seg.reporting.tables import table_width  # noqa: PLC0415 (keeps --help fast)

    width = table_width()
    return [
        textwrap.fill(line, width, subsequent_indent="  ", break_on_hyphens=False, break_long_words=False)
        for line in lines
    ]


def _count(number: int, what: str) -> str:
    return f"{number} {what}{'' if number == 1 else 's'}"


command = command_from(evaluate)
