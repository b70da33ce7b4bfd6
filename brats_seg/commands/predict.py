"""`brats-seg predict`: cases become label maps that lie exactly on their images."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from tqdm import tqdm

from brats_seg.commands.inputs import Request, read_request
from brats_seg.commands.options import (
    CasesOption,
    DeviceOption,
    OverwriteOption,
    QuietOption,
    command_from,
    is_silent,
)
from brats_seg.commands.process import prepare_process
from brats_seg.data.cases import Case
from brats_seg.editions import get_edition
from brats_seg.errors import BratsSegError, DataError, WorkError, all_findings
from brats_seg.files import provenance
from brats_seg.inference.outputs import PredictionFolder, Wanted

if TYPE_CHECKING:
    from brats_seg.inference.likeness import Reference
    from brats_seg.inference.predict import Predictor
    from brats_seg.preprocessing.prepare import PreparedCase

__all__ = ["command", "predict"]

_Task = tuple[Case, Wanted]
_ModelArgument = Annotated[
    str, typer.Argument(metavar="MODEL", help="Folder that brats-seg train wrote, or starter: the bundled model.")
]
_MissingOption = Annotated[
    bool, typer.Option("--allow-missing", help="Cases may lack modalities, if the model has learned to do without.")
]
_ShardOption = Annotated[
    str | None, typer.Option("--shard", metavar="I/N", help="Only the I-th of N parts of the cases, one a process.")
]
_FileOption = Annotated[Path | None, typer.Option(metavar="FILE", help="Explicit image of one case, in place of DATA.")]


def predict(
    model: _ModelArgument,
    words: Annotated[
        list[str],
        typer.Argument(
            metavar="DATA OUT [KEY=VALUE]",
            help="A download, a folder of cases or one case; where to write; inference settings.",
        ),
    ],
    t1: _FileOption = None,
    t1c: _FileOption = None,
    t2: _FileOption = None,
    flair: _FileOption = None,
    name: Annotated[
        str | None, typer.Option("--name", metavar="CASE", help="Name of the case of explicit files.")
    ] = None,
    edition: Annotated[
        str | None,
        typer.Option("--edition", metavar="NAME", help="Edition of the labels written (default: the input's)."),
    ] = None,
    cases: CasesOption = None,
    shard: _ShardOption = None,
    allow_missing: _MissingOption = False,
    device: DeviceOption = "auto",
    save_probabilities: Annotated[
        bool,
        typer.Option("--save-probabilities", help="Also write the probability of each region, OUT/probabilities/."),
    ] = False,
    overwrite: OverwriteOption = False,
    quiet: QuietOption = False,
) -> None:
    """Write a NIfTI label map for each case, in the geometry of its T1 and the labels of its edition.

    Cases need no segmentation. Cases that the same model has made already are passed over. For research only.

    \b
    Examples:
      brats-seg predict starter DATA predictions
      brats-seg predict runs/first DATA predictions inference.tta=flips --cases BraTS20_Training_001
      brats-seg predict runs/first OUT --t1 a.nii.gz --t1c b.nii.gz --t2 c.nii.gz --flair d.nii.gz
      brats-seg predict runs/first DATA predictions --device cuda:1 --shard 2/4
      brats-seg predict starter OUT --t1c b.nii.gz --flair d.nii.gz --allow-missing
    """
    prepare_process()
    from brats_seg.inference.model import can_miss_modalities, require_dropout  # noqa: PLC0415 (torch)
    from brats_seg.inference.predict import describe_run, load_predictor, read_run_config  # noqa: PLC0415
    from brats_seg.networks.bundled import find_model  # noqa: PLC0415
    from brats_seg.networks.compute import choose_compute  # noqa: PLC0415

    run = find_model(model)
    files = {"t1": t1, "t1c": t1c, "t2": t2, "flair": flair}
    request = read_request(words, files, name=name, edition=edition, cases=cases, shard=shard)
    config = read_run_config(run, request.overrides)
    if allow_missing:
        require_dropout(config, model)
    could_miss = can_miss_modalities(config)
    found = request.find(describe_run(run).modalities, allow_missing=allow_missing, could_miss=could_miss)
    predictor = load_predictor(run, config, choose_compute(device, config.train.precision))
    wanted = {case.name: Wanted(case.name, edition or case.edition, case.missing) for case in found}
    _check_editions(predictor, {e for case in found for e in (case.edition, wanted[case.name].edition)})
    folder = _open_folder(request, predictor, run, save_probabilities)
    folder.require_replaceable(list(wanted.values()), overwrite=overwrite)
    todo = [(case, wanted[case.name]) for case in found if not folder.is_made(wanted[case.name])]
    if not quiet:
        _say_plan(f"model: {model}, device: {predictor.compute}", todo, len(wanted))
    failures = _predict_all(predictor, todo, folder, save_probabilities, is_silent(quiet))
    if failures:
        raise WorkError(all_findings(f"{len(todo) - len(failures)} of {len(todo)} cases predicted", failures))
    if not quiet:
        _say_done(len(todo), request.output, request.data or "DATA")


def _say_plan(model: str, todo: Sequence[_Task], num_cases: int) -> None:
    print(f"{model}\n{len(todo)} cases to predict, {num_cases - len(todo)} made already by this model")
    for _, wanted in todo:
        if wanted.missing:
            print(f"case {wanted.case}: predicted without {', '.join(wanted.missing)}")


def _say_done(num_cases: int, output: Path, data: Path | str) -> None:
    print(f"wrote {num_cases} label maps to {output} (for research only, not a medical device)")
    print(
        f"next: brats-seg export itksnap {data} --prediction {output} --out DIR, "
        f"or brats-seg evaluate {data} {output} --protocol brats2020 --out DIR"
    )


def _check_editions(predictor: Predictor, names: Iterable[str]) -> None:
    findings = []
    for name in sorted(names):
        try:
            predictor.check_edition(get_edition(name), f"edition {name}")
        except DataError as error:
            findings.append(str(error))
    if findings:
        raise DataError(all_findings("the model does not fit", findings))


def _open_folder(request: Request, predictor: Predictor, model: Path, save_probabilities: bool) -> PredictionFolder:
    settings = predictor.inference.model_dump(mode="json")
    made_by = {
        "weights_sha256": [predictor.weights_hash],
        "inference": settings,
        "precision": predictor.compute.precision,
        "has_probabilities": save_probabilities,
    }
    record = provenance(device=str(predictor.compute), models=[str(model.resolve())])
    return PredictionFolder(request.output, made_by, record, is_shared=request.shard is not None)


def _predict_all(
    predictor: Predictor, todo: Sequence[_Task], folder: PredictionFolder, save_probabilities: bool, silent: bool
) -> list[str]:
    """Predict and write every case, the next one read meanwhile; return a line for each that failed."""
    from brats_seg.inference.model import predict_prepared  # noqa: PLC0415

    failures = []
    prepared = _read_ahead([case for case, _ in todo], predictor.reference)
    for (_, wanted), outcome in tqdm(zip(todo, prepared, strict=True), total=len(todo), unit="case", disable=silent):
        try:
            if isinstance(outcome, BratsSegError):
                raise outcome
            made = predict_prepared(predictor, outcome, wanted.edition, with_probabilities=save_probabilities)
            folder.write(wanted, made.label_map, outcome.header_bytes, made.probabilities)
        except BratsSegError as error:
            failures.append(str(error))
    return failures


def _read_ahead(cases: Sequence[Case], reference: Reference | None) -> Iterator[PreparedCase | BratsSegError]:
    """Yield each case as prepared for the network, or the error that it has; the next is read in a thread.

    Which cases may lack modalities has been decided before.
    """
    from brats_seg.inference.reading import read_case  # noqa: PLC0415 (MONAI)

    def read(case: Case) -> PreparedCase | BratsSegError:
        try:
            return read_case(case, reference, allow_missing=True)
        except BratsSegError as error:
            return error

    with ThreadPoolExecutor(1, thread_name_prefix="reader") as reader:
        ahead = [reader.submit(read, case) for case in cases[:1]]
        for following in [*cases[1:], None]:
            if not ahead:
                return
            current = ahead.pop()
            if following is not None:
                ahead.append(reader.submit(read, following))
            yield current.result()


command = command_from(predict)
