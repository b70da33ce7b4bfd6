"""`brats-seg evaluate`: predictions against references, in numbers that name their protocol."""

from __future__ import annotations

import math
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
from brats_seg.errors import UsageError
from brats_seg.reporting.tables import counted, format_table, table_width

if TYPE_CHECKING:
    from brats_seg.evaluation.folders import Evaluation

__all__ = ["PROTOCOL_NAMES", "command", "evaluate", "format_report"]

PROTOCOL_NAMES = "plain|brats2020|brats2023|brats2024|instance"
"""For the help text, which must not wait for the evaluation to be imported."""

_OVERLAP_TITLES = {"dice": "Dice", "lesionwise_dice": "lesion-wise Dice", "instance_dice": "Dice of instances"}

_JOBS = default_jobs()


_SlicesOption = Annotated[
    bool, typer.Option("--slices", help="Also score each slice of volumes, in slices.csv (2D sets: always).")
]
_PresenceOption = Annotated[
    str | None,
    typer.Option(
        "--presence-voxels",
        metavar="N|auto|DIR",
        help="Voxels from which a slice or case has tumour: a number, the best here, that of another evaluation.",
    ),
]


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
    protocol: Annotated[str, typer.Option("--protocol", metavar=PROTOCOL_NAMES, help="The rules; see above.")],
    edition: EditionOption = None,
    cases: CasesOption = None,
    jobs: JobsOption = _JOBS,
    nsd: Annotated[
        str | None,
        typer.Option("--nsd", metavar="MM,MM", help="Tolerances of further surface Dice, in supplement.csv."),
    ] = None,
    probabilities: Annotated[
        Path | None,
        typer.Option("--probabilities", metavar="DIR", help="Folder of <case>_<region>.nii.gz: adds calibration."),
    ] = None,
    report: Annotated[bool, typer.Option("--report", help="Write DIR/report.html, too (see report).")] = False,
    missing: Annotated[Missing, typer.Option("--missing", help="A case without a prediction.")] = Missing.ERROR,
    slices: _SlicesOption = False,
    presence: _PresenceOption = None,
    overwrite: OverwriteOption = False,
    quiet: QuietOption = False,
) -> None:
    """Score predictions against references under a named protocol.

    Writes cases.csv (a row per case and region), summary.json (mean, median, interval ... per region and metric),
    supplement.csv (accuracy, volume difference, further surface Dice), run.json, lesions.csv where the protocol counts
    lesions, portal.csv in the challenge portal's form, of saved probabilities calibration.csv and precision_recall.csv,
    of 2D sets slices.csv and presence.csv (tumour or none); prints a table. Regions are scored first, then the labels
    that are no region (NCR, ED).
    Nothing is written if any pair cannot be compared; all reasons are listed at once.

    \b
    Protocols (regions and task come from the edition):
      brats2020  portal of 2017-2021: HD95 in voxels, a missed or invented region
                 costs the grid's diagonal, both empty is perfect
      brats2023  lesion-wise Dice and HD95 by surface area, penalty 374
      brats2024  the same with predictions merged and filtered, and surface Dice
      instance   2025: connected components matched one to one, detection F1
      plain      no penalties; undefined values are nan and counted

    \b
    Example:
      brats-seg evaluate BraTS2020_TrainingData predictions --protocol brats2020 --out evaluation
    """
    from brats_seg.evaluation.folders import evaluate_folder  # noqa: PLC0415 (keeps --help fast)

    result = evaluate_folder(
        reference,
        prediction,
        out,
        protocol=protocol,
        edition=edition,
        select=partial(select_cases, wanted=cases),
        nsd_tolerances_mm=_tolerances(nsd),
        probabilities=probabilities,
        jobs=jobs,
        missing=missing.value,
        with_slices=slices,
        presence=presence,
        overwrite=overwrite,
        is_silent=is_silent(quiet),
    )
    if report:
        _write_report(out, edition, jobs, quiet=quiet)
    if quiet:
        return
    for line in result.warnings:
        print(f"warning: {line}", file=sys.stderr)
    print(format_report(result))
    names = ", ".join(path.name for path in result.files)
    print(f"\nWrote {names} to {out}; next, look: brats-seg report {out}; compare: brats-seg compare {out} OTHER")


def _write_report(out: Path, edition: str | None, jobs: int, *, quiet: bool) -> None:
    """Write the evaluation's page with the verb's own function; the evaluation has just replaced what was there."""
    from brats_seg.commands.report import report  # noqa: PLC0415 (keeps --help fast)

    report([out], edition=edition, jobs=jobs, overwrite=True, quiet=quiet)


def _tolerances(text: str | None) -> tuple[float, ...]:
    """Return the tolerances (mm) of `--nsd`.

    Raises:
        UsageError: one of them is no positive number.
    """
    words = [word.strip() for word in (text or "").split(",") if word.strip()]
    try:
        values = tuple(float(word) for word in words)
    except ValueError:
        values = (-1.0,)
    if any(not 0 < value < math.inf for value in values):
        raise UsageError(f"--nsd {text}: expected positive numbers of mm, separated by commas, such as 0.5,2")
    return values


def format_report(result: Evaluation) -> str:
    """Return the evaluation as text for a terminal: scores per region, what is empty or undefined, the worst cases."""
    summary = result.summary
    is_lesionwise = summary["main_metrics"][0] != "dice"
    parts = [
        *_paragraphs([f"Protocol {summary['protocol']}: {summary['protocol_title']}"]),
        *_paragraphs([f"Rules of {rules}" for rules in summary["rules"]]),
        f"{counted(summary['num_cases'], 'case')}, edition {', '.join(summary['editions'])}; means over cases",
        *(["", _lesion_table(summary), "", "Whole regions:"] if is_lesionwise else [""]),
        _score_table(summary),
        *_remarks(summary),
        *_calibration_lines(summary),
        *_presence_lines(summary),
        "",
        f"Worst cases by mean {_OVERLAP_TITLES[summary['main_metrics'][0]]} of {', '.join(result.regions)}:",
        _worst_table(summary, result.regions),
    ]
    return "\n".join(parts)


def _lesion_table(summary: dict[str, Any]) -> str:
    """Return the table of lesion-wise scores: the protocol's main overlap and distance, and lesions in all cases."""
    overlap, distance = summary["main_metrics"]
    others = [name for name in ("lesionwise_nsd_1mm", "instance_nsd", "f1") if name in _metrics_of(summary)]
    header = ["lesion-wise", "Dice", "sd", "median", "95 % interval", "HD95", "median", *map(_short, others)]
    rows = []
    for region, one in summary["regions"].items():
        of = one["metrics"]
        dice, hd95 = of[overlap], of[distance]
        row = [region, dice["mean"], dice["sd"], dice["median"], f"{dice['ci95_low']:.3f}-{dice['ci95_high']:.3f}"]
        row += [hd95["mean"], hd95["median"], *(of[name]["mean"] for name in others)]
        rows.append([*row, *(round(of[name]["mean"] * of[name]["num"]) for name in ("num_tp", "num_fn", "num_fp"))])
    digits = (0, 3, 3, 3, 0, 2, 2, *[3] * len(others), 0, 0, 0)
    return format_table([*header, "found", "missed", "false"], rows, digits=digits)


def _calibration_lines(summary: dict[str, Any]) -> list[str]:
    """Return a table of how true the probabilities are, where they were given."""
    if "calibration" not in summary:
        return []
    regions = summary["calibration"]["regions"]
    rows = [[region, of["ece"], of["brier"], of["average_precision"]] for region, of in regions.items()]
    table = format_table(["probabilities", "ECE", "Brier", "average precision"], rows)
    return ["", table, *_paragraphs([f"({summary['calibration']['rules']})"])]


def _presence_lines(summary: dict[str, Any]) -> list[str]:
    """Return a table of presence or absence, by case and by slice, and where its thresholds come from."""
    if "presence" not in summary:
        return []
    names = ("sensitivity", "specificity", "auc")
    rows = []
    for level, of in summary["presence"]["levels"].items():
        row: list[Any] = [level, of["num"], of["num_present"], of["threshold_voxels"]]
        for name in names:
            one = of[name]
            is_known = not math.isnan(one["value"])
            row += [one["value"], f"{one['ci95_low']:.3f}-{one['ci95_high']:.3f}" if is_known else ""]
        rows.append(row)
    header = ["tumour by", "num", "present", "voxels", "sens.", "95 %", "spec.", "95 %", "AUC", "95 %"]
    table = format_table(header, rows, digits=(*[0] * 4, 3, 0, 3, 0, 3, 0))
    return ["", table, *_paragraphs([f"(threshold: {summary['presence']['threshold_from']})"])]


def _metrics_of(summary: dict[str, Any]) -> set[str]:
    return set(next(iter(summary["regions"].values()))["metrics"])


def _short(metric: str) -> str:
    return "F1" if metric == "f1" else "NSD"


def _score_table(summary: dict[str, Any]) -> str:
    header = ["region", "Dice", "sd", "median", "95 % interval", "HD95", "median", "sens.", "spec.", "prec."]
    rows = []
    for region, one in summary["regions"].items():
        of = one["metrics"]
        dice, hd95 = of["dice"], of["hd95_mm"]
        row = [region, dice["mean"], dice["sd"], dice["median"], f"{dice['ci95_low']:.3f}-{dice['ci95_high']:.3f}"]
        names = ("sensitivity", "specificity", "precision", "reference_ml", "prediction_ml")
        rows.append([*row, hd95["mean"], hd95["median"], *(of[name]["mean"] for name in names)])
    return format_table([*header, "ref ml", "pred ml"], rows, digits=(0, 3, 3, 3, 0, 2, 2, 3, 4, 3, 1, 1))


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
        nans = [f"{name} {one['metrics'][name]['num_undefined']}" for name in _shown(summary, one)]
        undefined += [f"{region} {', '.join(nans)}"] * bool(nans)
    if empties:
        lines.append(f"Empty in the reference / the prediction / both: {'; '.join(empties)}")
    if undefined:
        lines.append(f"Undefined (nan), left out of the statistics: {'; '.join(undefined)}")
    return _paragraphs(lines)


def _shown(summary: dict[str, Any], region: dict[str, Any]) -> list[str]:
    """Return the metrics of `cases.csv` that are undefined in some case of a region."""
    of_supplement = {"relative_volume_difference", "hd95_directed_mm", "detection_precision", "detection_recall"}
    return [name for name, of in region["metrics"].items() if of["num_undefined"] and name not in of_supplement]


def _worst_table(summary: dict[str, Any], regions: tuple[str, ...]) -> str:
    overlap, distance = summary["main_metrics"]
    header = ["case", "Dice", *regions, *(f"HD95 {region}" for region in regions)]
    rows = [
        [one["case"], one["score"], *one[overlap].values(), *one[distance].values()] for one in summary["worst_cases"]
    ]
    return format_table(header, rows, digits=(0, *[3] * (1 + len(regions)), *[2] * len(regions)))


def _paragraphs(lines: list[str]) -> list[str]:
    width = table_width()
    return [
        textwrap.fill(line, width, subsequent_indent="  ", break_on_hyphens=False, break_long_words=False)
        for line in lines
    ]


command = command_from(evaluate)
