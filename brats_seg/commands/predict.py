"""`brats-seg predict`: cases become label maps that lie exactly on their images."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from tqdm import tqdm

from brats_seg.commands.options import (
    CasesOption,
    DeviceOption,
    OverwriteOption,
    QuietOption,
    command_from,
    is_silent,
    select_cases,
)
from brats_seg.commands.process import prepare_process
from brats_seg.data.cases import Case, case_from_files, find_cases
from brats_seg.editions import get_edition
from brats_seg.errors import BratsSegError, DataError, OutputError, UsageError, WorkError, all_findings
from brats_seg.files import provenance, require_outside

if TYPE_CHECKING:
    from brats_seg.inference.outputs import PredictionFolder
    from brats_seg.inference.predict import Predictor
    from brats_seg.preprocessing.prepare import PreparedCase

__all__ = ["command", "predict"]

_FileOption = Annotated[Path | None, typer.Option(metavar="FILE", help="Explicit image of one case, in place of DATA.")]


def predict(
    model: Annotated[
        str, typer.Argument(metavar="MODEL", help="Folder that brats-seg train wrote, or starter: the bundled model.")
    ],
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
    """
    prepare_process()
    from brats_seg.inference.predict import load_predictor, read_run_config  # noqa: PLC0415 (torch)
    from brats_seg.networks.bundled import find_model  # noqa: PLC0415
    from brats_seg.networks.compute import choose_compute  # noqa: PLC0415

    run = find_model(model)
    files = {key: path for key, path in {"t1": t1, "t1c": t1c, "t2": t2, "flair": flair}.items() if path is not None}
    sources, overrides = _sort_words(words, has_files=bool(files))
    output = Path(sources[-1])
    if files:
        found = [_from_files(files, name, edition)]
        _require_other_files(output / f"{found[0].name}.nii.gz", files)
    else:
        require_outside(output, Path(sources[0]))
        found = _find(Path(sources[0]), edition, cases)
    config = read_run_config(run, overrides)
    predictor = load_predictor(run, config, choose_compute(device, config.train.precision))
    wanted = [(case, edition or case.edition) for case in found]
    _check_editions(predictor, wanted)
    folder = _open_folder(output, predictor, run, save_probabilities)
    folder.require_replaceable([(case.name, labels) for case, labels in wanted], overwrite=overwrite)
    todo = [(case, labels) for case, labels in wanted if not folder.is_made(case.name, labels)]
    if not quiet:
        _say_plan(f"model: {model}, device: {predictor.compute}", len(todo), len(wanted))
    failures = _predict_all(predictor, todo, folder, save_probabilities, is_silent(quiet))
    if failures:
        raise WorkError(all_findings(f"{len(todo) - len(failures)} of {len(todo)} cases predicted", failures))
    if not quiet:
        _say_done(len(todo), output, "DATA" if files else sources[0])


def _say_plan(model: str, num_todo: int, num_cases: int) -> None:
    print(f"{model}\n{num_todo} cases to predict, {num_cases - num_todo} made already by this model")


def _say_done(num_cases: int, output: Path, data: str) -> None:
    print(f"wrote {num_cases} label maps to {output} (for research only, not a medical device)")
    print(
        f"next: brats-seg export itksnap {data} --prediction {output} --out DIR, "
        f"or brats-seg evaluate {data} {output} --protocol brats2020 --out DIR"
    )


def _sort_words(words: Sequence[str], *, has_files: bool) -> tuple[list[str], list[str]]:
    """Return the folders and the `key=value` overrides of the command line's words."""
    overrides = [word for word in words if "=" in word and not Path(word).exists()]
    sources = [word for word in words if word not in overrides]
    expected = 1 if has_files else 2
    if len(sources) != expected:
        what = "OUT alone beside --t1, --t1c, --t2, --flair" if has_files else "DATA and OUT"
        raise UsageError(f"predict: found {sources}, expected {what}; such as: brats-seg predict RUN DATA OUT")
    return sources, overrides


def _find(data: Path, edition: str | None, wanted: str | None) -> list[Case]:
    try:
        download = find_cases(data)
    except DataError:
        if edition is None:
            raise
        download = find_cases(data, edition=edition)  # names that tell nothing: the labels asked for are the input's
    names = set(select_cases([case.name for case in download.cases], wanted))
    return [case for case in download.cases if case.name in names]


def _from_files(files: dict[str, Path], name: str | None, edition: str | None) -> Case:
    return case_from_files(
        files, name=name, edition=edition or ("brats2024-men-rt" if set(files) == {"t1c"} else "brats2021")
    )


def _require_other_files(target: Path, files: dict[str, Path]) -> None:
    if target.resolve() in {path.resolve() for path in files.values()}:
        raise OutputError(f"{target}: is an input image, which is never written to; choose another OUT or --name")


def _check_editions(predictor: Predictor, wanted: Sequence[tuple[Case, str]]) -> None:
    findings = []
    for name in sorted({name for case, labels in wanted for name in (case.edition, labels)}):
        try:
            predictor.check_edition(get_edition(name), f"edition {name}")
        except DataError as error:
            findings.append(str(error))
    if findings:
        raise DataError(all_findings("the model does not fit", findings))


def _open_folder(output: Path, predictor: Predictor, model: Path, save_probabilities: bool) -> PredictionFolder:
    from brats_seg.inference.outputs import PredictionFolder  # noqa: PLC0415

    settings = predictor.inference.model_dump(mode="json")
    made_by = {
        "weights_sha256": [predictor.weights_hash],
        "inference": settings,
        "precision": predictor.compute.precision,
        "has_probabilities": save_probabilities,
    }
    return PredictionFolder(output, made_by, provenance(device=str(predictor.compute), models=[str(model.resolve())]))


def _predict_all(
    predictor: Predictor,
    todo: Sequence[tuple[Case, str]],
    folder: PredictionFolder,
    save_probabilities: bool,
    silent: bool,
) -> list[str]:
    """Predict and write every case, the next one read meanwhile; return a line for each that failed."""
    failures = []
    prepared = _read_ahead([case for case, _ in todo])
    for (_case, labels), outcome in tqdm(
        zip(todo, prepared, strict=True), total=len(todo), unit="case", disable=silent
    ):
        try:
            if isinstance(outcome, BratsSegError):
                raise outcome
            _predict_one(predictor, outcome, labels, folder, save_probabilities)
        except BratsSegError as error:
            failures.append(str(error))
    return failures


def _predict_one(
    predictor: Predictor, case: PreparedCase, labels: str, folder: PredictionFolder, save_probabilities: bool
) -> None:
    from brats_seg.inference.predict import paste  # noqa: PLC0415

    probabilities = predictor.probabilities(case.image, case.mean, case.sd)
    label_map = paste(predictor.label_map(probabilities, get_edition(labels)), case.crop_start, case.shape)
    maps: dict[str, Any] = {}
    if save_probabilities:
        regions = zip(predictor.description.regions, probabilities.cpu().numpy(), strict=True)
        maps = {region: paste(values, case.crop_start, case.shape) for region, values in regions}
    folder.write(case.name, labels, label_map, case.header_bytes, maps)


def _read_ahead(cases: Sequence[Case]) -> Iterator[PreparedCase | BratsSegError]:
    """Yield each case as prepared for the network, or the error that it has; the next is read in a thread."""
    from brats_seg.preprocessing.prepare import prepare_case  # noqa: PLC0415 (MONAI)

    def read(case: Case) -> PreparedCase | BratsSegError:
        try:
            return prepare_case(case, with_label=False)
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
