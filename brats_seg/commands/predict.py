"""`brats-seg predict`: cases become label maps that lie exactly on their images."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from tqdm import tqdm

from brats_seg.commands.inputs import read_request
from brats_seg.commands.options import (
    CasesOption,
    DeviceOption,
    ModalitiesOption,
    OverwriteOption,
    QuietOption,
    command_from,
    default_jobs,
    is_silent,
)
from brats_seg.commands.process import prepare_process
from brats_seg.data.cases import Case
from brats_seg.data.reading import slice_numbers
from brats_seg.data.slices import require_no_gaps
from brats_seg.editions import Edition, get_edition
from brats_seg.errors import DataError, UsageError, WorkError, all_findings
from brats_seg.files import provenance
from brats_seg.inference.mask_pictures import require_pictures, write_masks
from brats_seg.inference.outputs import RECORD, PredictionFolder, Wanted
from brats_seg.reporting.tables import counted

if TYPE_CHECKING:
    from torch import Tensor

    from brats_seg.inference.ensemble import Ensemble, Member
    from brats_seg.preprocessing.prepare import PreparedCase

__all__ = ["command", "predict"]

_Task = tuple[Case, Wanted]
_MissingOption = Annotated[
    bool, typer.Option("--allow-missing", help="Cases may lack modalities, if the model has learned to do without.")
]
_ShardOption = Annotated[
    str | None, typer.Option("--shard", metavar="I/N", help="Only the I-th of N parts of the cases, one a process.")
]
_MasksOption = Annotated[
    bool, typer.Option("--save-masks", help="2D sets: also write a PNG a slice, 0 and 255, OUT/masks/.")
]
_LabelsOption = Annotated[
    str | None,
    typer.Option("--edition", metavar="NAME", help="Edition of the labels written (default: the input's)."),
]
_FileOption = Annotated[Path | None, typer.Option(metavar="FILE", help="Explicit image of one case, in place of DATA.")]


def predict(
    words: Annotated[
        list[str],
        typer.Argument(
            metavar="MODEL... DATA OUT [KEY=VALUE]...",
            help="Folder that brats-seg train wrote, or starter (the bundled model), or several: an ensemble; a "
            "download, a folder of cases or one case; where to write; inference settings, for all models.",
        ),
    ],
    t1: _FileOption = None,
    t1c: _FileOption = None,
    t2: _FileOption = None,
    flair: _FileOption = None,
    name: Annotated[
        str | None, typer.Option("--name", metavar="CASE", help="Name of the case of explicit files.")
    ] = None,
    edition: _LabelsOption = None,
    cases: CasesOption = None,
    shard: _ShardOption = None,
    modalities: ModalitiesOption = None,
    allow_missing: _MissingOption = False,
    device: DeviceOption = "auto",
    save_probabilities: Annotated[
        bool,
        typer.Option("--save-probabilities", help="Also write the probability of each region, OUT/probabilities/."),
    ] = False,
    save_masks: _MasksOption = False,
    overwrite: OverwriteOption = False,
    quiet: QuietOption = False,
) -> None:
    """Write a NIfTI label map for each case, in the geometry of its T1 and the labels of its edition.

    Cases need no segmentation. Cases that the same model has made already are passed over. Several models, or the
    folder of all folds, predict together: their probabilities are averaged, each with its own windows; threshold and
    post-processing are those of the first model, unless KEY=VALUE says otherwise. For research only.

    \b
    Examples:
      brats-seg predict starter DATA predictions
      brats-seg predict runs/first DATA predictions inference.tta=flips --cases BraTS20_Training_001
      brats-seg predict runs/first OUT --t1 a.nii.gz --t1c b.nii.gz --t2 c.nii.gz --flair d.nii.gz
      brats-seg predict runs/first DATA predictions --device cuda:1 --shard 2/4
      brats-seg predict starter OUT --t1c b.nii.gz --flair d.nii.gz --allow-missing
      brats-seg predict starter Dataset001/imagesTs predictions --modalities t1,t1c,t2,flair
      brats-seg predict runs/first runs/second DATA predictions
    """
    files = {"t1": t1, "t1c": t1c, "t2": t2, "flair": flair}
    models, rest = _split(words, has_files=any(files.values()))
    request = read_request(rest, files, name=name, edition=edition, cases=cases, shard=shard, modalities=modalities)
    prepare_process()
    from brats_seg.inference.ensemble import find_members, load_ensemble  # noqa: PLC0415 (torch: seconds)
    from brats_seg.inference.model import can_miss_modalities, require_dropout  # noqa: PLC0415

    members = find_members(models, request.overrides)
    configs = [member.config for member in members]
    if allow_missing:
        require_dropout(configs, " + ".join(models))
    own_edition = members[0].description.own_edition
    found = request.find(own_edition, allow_missing=allow_missing, could_miss=can_miss_modalities(configs))
    ensemble = load_ensemble(members, device, num_cases=len(found))
    wanted = _wanted_of(found, edition, ensemble)
    made_by = _made_by(ensemble, found, save_probabilities, save_masks)
    record = provenance(device=str(ensemble), models=[str(member.run.resolve()) for member in members])
    with PredictionFolder(request.output, made_by, record, is_shared=request.shard is not None) as folder:
        folder.require_replaceable(list(wanted.values()), overwrite=overwrite)
        todo = [(case, wanted[case.name]) for case in found if not folder.is_made(wanted[case.name])]
        if not quiet:
            _say_plan(_in_words(members, ensemble), todo, len(wanted))
        failures = _predict_all(ensemble, todo, folder, save_probabilities, is_silent(quiet), save_masks)
    _say_doubts(folder, [one.case for _, one in todo])
    if failures:
        raise WorkError(all_findings(f"{len(todo) - len(failures)} of {len(todo)} cases predicted", failures))
    if not quiet:
        _say_done(len(todo), request.output, request.data or "DATA", get_edition(found[0].edition))


def _split(words: Sequence[str], *, has_files: bool) -> tuple[list[str], list[str]]:
    """Return the models, and the words behind them.

    Raises:
        UsageError: there is no model, or no OUT.
    """
    overrides = [word for word in words if "=" in word and not Path(word).exists()]
    places = [word for word in words if word not in overrides]
    num_last = 1 if has_files else 2
    if len(places) <= num_last:
        what = "MODEL and OUT beside --t1, --t1c, --t2, --flair" if has_files else "MODEL, DATA and OUT"
        raise UsageError(f"predict: found {places}, expected {what}; such as: brats-seg predict RUN DATA OUT")
    return places[:-num_last], [*places[-num_last:], *overrides]


def _in_words(members: Sequence[Member], ensemble: Ensemble) -> str:
    runs = ", ".join(str(member.run) for member in members)
    return f"model: {runs}, device: {ensemble}" if len(members) == 1 else f"{len(members)} models: {runs}; {ensemble}"


def _say_plan(model: str, todo: Sequence[_Task], num_cases: int) -> None:
    print(f"{model}\n{counted(len(todo), 'case')} to predict, {num_cases - len(todo)} made already by this model")
    for _, wanted in todo:
        if wanted.missing:
            print(f"case {wanted.case}: predicted without {', '.join(wanted.missing)}")


def _say_doubts(folder: PredictionFolder, cases: Sequence[str]) -> None:
    """Print one line about the cases that are doubtful; all reasons stand in the record."""
    doubts = {case: found for case in cases if (found := folder.warnings(case))}
    if not doubts:
        return
    names = ", ".join(list(doubts)[:3]) + ", ..." * (len(doubts) > 3)
    first = next(iter(doubts.values()))
    more = f" (and {len(first) - 1} more)" * (len(first) > 1)
    which = "" if len(doubts) == 1 else "the first: "
    print(
        f"warning: {len(doubts)} of {len(cases)} cases are doubtful: {names}; "
        f"{which}{first[0]}{more}; see {folder.folder / RECORD}",
        file=sys.stderr,
    )


def _say_done(num_cases: int, output: Path, data: Path | str, edition: Edition) -> None:
    print(f"wrote {counted(num_cases, 'label map')} to {output} (for research only, not a medical device)")
    if edition.is_two_dimensional:
        print(f"next: brats-seg evaluate {data} {output} --protocol plain --out DIR")
        return
    print(
        f"next: brats-seg export itksnap {data} --prediction {output} --out DIR, "
        f"or brats-seg evaluate {data} {output} --protocol brats2020 --out DIR"
    )


def _wanted_of(found: Sequence[Case], edition: str | None, ensemble: Ensemble) -> dict[str, Wanted]:
    """Return the label map that is asked for of each case, by its name, if the models can make it."""
    wanted = {case.name: Wanted(case.name, edition or case.edition, case.missing) for case in found}
    _check_editions(ensemble, {e for case in found for e in (case.edition, wanted[case.name].edition)})
    numbers = {case.name: slice_numbers(image.path) for case in found for image in list(case.images.values())[:1]}
    require_no_gaps(numbers, max(member.block[0] for member in ensemble.members))
    return wanted


def _made_by(ensemble: Ensemble, found: Sequence[Case], save_probabilities: bool, save_masks: bool) -> dict[str, Any]:
    """Return what decides what is written."""
    made_by = {**ensemble.made_by(), "has_probabilities": save_probabilities}
    if save_masks:
        require_pictures(found)
        made_by["has_masks"] = True
    return made_by


def _check_editions(ensemble: Ensemble, names: Iterable[str]) -> None:
    findings = []
    for name in sorted(names):
        try:
            ensemble.check_edition(get_edition(name), f"edition {name}")
        except DataError as error:
            findings.append(str(error))
    if findings:
        raise DataError(all_findings("the model does not fit", findings))


def _predict_all(
    ensemble: Ensemble,
    todo: Sequence[_Task],
    folder: PredictionFolder,
    save_probabilities: bool,
    silent: bool,
    save_masks: bool = False,
) -> list[str]:
    """Predict and write every case, reading and writing beside the network; return a line for each that failed.

    Raises:
        OutOfMemoryError: there was not enough for the very first case.
    """
    from brats_seg.inference.memory import OutOfMemoryError  # noqa: PLC0415 (torch)
    from brats_seg.inference.model import as_prediction  # noqa: PLC0415
    from brats_seg.inference.reading import read_case  # noqa: PLC0415
    from brats_seg.inference.stream import stream  # noqa: PLC0415

    def read(task: _Task) -> PreparedCase:
        return read_case(task[0], ensemble.reference, allow_missing=True)  # what may be missing was decided before

    def make(task: _Task, case: PreparedCase) -> Tensor:
        return ensemble.probabilities(case.image, case.mean, case.sd).cpu()

    def write(task: _Task, case: PreparedCase, probabilities: Tensor) -> None:
        wanted = task[1]
        made = as_prediction(ensemble, case, probabilities, wanted.edition, with_probabilities=save_probabilities)
        if save_masks:
            write_masks(folder.folder, task[0], made.label_map)
        geometry = None if case.placement is None else case.notes[0]
        folder.write(wanted, made.label_map, case.header_bytes, made.probabilities, made.warnings, geometry)

    failures: list[str] = []
    num_readers, num_writers = _threads(ensemble)
    outcomes = stream(todo, read, make, write, num_readers=num_readers, num_writers=num_writers)
    for number, (task, error) in enumerate(tqdm(outcomes, total=len(todo), unit="case", disable=silent)):
        if isinstance(error, OutOfMemoryError) and len(failures) == number:
            raise error  # the next cases would fare no better
        if error is not None:
            text = str(error)
            failures.append(text if text.startswith("case ") else f"case {task[0].name}: {text}")
    return failures


def _threads(ensemble: Ensemble) -> tuple[int, int]:
    """Return how many threads read and write: one each beside a network that needs the cores, more beside a GPU."""
    if ensemble.first.compute.device.type != "cuda":
        return 1, 1
    return max(1, min(4, default_jobs() // 2)), max(1, min(2, default_jobs() // 4))


command = command_from(predict)
