"""`brats-seg demo`: the whole chain on synthetic cases, by the other verbs' own functions."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import typer

from brats_seg import __version__
from brats_seg.commands.demo_real import predict_real_case, real_case
from brats_seg.commands.options import (
    DeviceOption,
    JobsOption,
    OverwriteOption,
    QuietOption,
    command_from,
    default_jobs,
    is_silent,
)
from brats_seg.commands.process import prepare_process
from brats_seg.config import load_config
from brats_seg.editions import get_edition
from brats_seg.errors import OutputError
from brats_seg.files import atomic_folder, make_output_folder, read_json, write_json
from brats_seg.reporting.tables import format_table

__all__ = ["command", "demo"]

_JOBS = default_jobs()
_RECORD = "demo.json"


@dataclass(frozen=True)
class _Kind:
    """What a demo makes and learns from."""

    recipe: str
    num_cases: int
    shape: tuple[int, int, int]
    """Of a case, (K, J, I)."""
    form: str
    tables: str
    check: str
    """What `check` says of such a set, which would fill the screen."""
    protocol: str
    is_sliced: bool = False

    @property
    def folders(self) -> dict[str, str]:
        """What each folder in OUT holds."""
        return {
            "download": f"synthetic cases in the form of {self.form}",
            "store": "the same, cropped, as a training store",
            "run": "the trained network: model.safetensors, metrics.csv, curves.png, validation/",
            "predictions": "label maps of the held-out cases, as NIfTI",
            "evaluation": f"{self.tables} of the held-out cases",
        }


_VOLUMES = _Kind(
    recipe="demo",
    num_cases=25,
    shape=(78, 120, 120),
    form="a BraTS 2020 download",
    tables="cases.csv, summary.json, portal.csv and report.html",
    check="no errors (each case has one warning: its grid is smaller than that of BraTS)",
    protocol="brats2020",
)
_SLICES = _Kind(
    recipe="demo_slices",
    num_cases=20,
    shape=(16, 96, 96),
    form="LGG MRI Segmentation (kaggle_3m)",
    tables="cases.csv, slices.csv, presence.csv, summary.json and report.html",
    check="no errors (where a modality is missing, a copy of FLAIR stands for it, as in the real set)",
    protocol="plain",
    is_sliced=True,
)
_NOTICE = "The cases are synthetic. These numbers say that the chain works; they say nothing about patients."


def demo(
    out: Annotated[Path, typer.Argument(metavar="OUT", help="Folder to write: new, empty, or an earlier demo's.")],
    overrides: Annotated[
        list[str] | None, typer.Argument(metavar="KEY=VALUE", help="Settings over the demo's recipe.")
    ] = None,
    slices: Annotated[bool, typer.Option("--slices", help="Slices of patients in Kaggle's LGG layout, in 2D.")] = False,
    seed: Annotated[int, typer.Option("--seed", min=0, help="Which cases, weights and patches are drawn.")] = 0,
    jobs: JobsOption = _JOBS,
    device: DeviceOption = "cpu",
    overwrite: OverwriteOption = False,
    quiet: QuietOption = False,
) -> None:
    """Run the whole chain on synthetic cases: check, prepare, train, predict, evaluate, report.

    Twenty cases are learned from and five held out (with --slices sixteen and four); training takes some three minutes
    on two idle CPU cores, with --slices one. Writes OUT/download, store, run, predictions and evaluation. A second call
    continues where an interrupted one stopped. The cases are synthetic: the numbers say nothing about patients. Where
    the environment variable BRATS_SEG_DATA names a folder of real cases, the model `starter` also predicts the first of
    them, into OUT/real (not with --slices).

    \b
    Examples:
      brats-seg demo out
      brats-seg demo out --overwrite train.steps=100
      brats-seg demo out2d --slices
    """
    prepare_process()  # before torch is imported
    kind = _SLICES if slices else _VOLUMES
    _check_settings(kind, overrides or [])
    real = None if slices else real_case()
    settings = {"version": __version__, "seed": seed, "recipe": kind.recipe, "overrides": list(overrides or [])}
    _open_folder(out, settings, overwrite=overwrite)
    say = _silent if quiet else _say
    say(f"brats-seg demo in {out}\n{_NOTICE}")
    download = _make_cases(kind, out, seed, say, silent=is_silent(quiet))
    _check_and_prepare(kind, out, download, jobs, say, quiet=quiet)
    held_out = _train(kind, out, seed, overrides or [], device, say, quiet=quiet)
    _predict_and_evaluate(kind, out, download, held_out, device, jobs, say, quiet=quiet)
    if real is not None:
        predict_real_case(real, out, device, say, overwrite=overwrite, quiet=quiet)
    _write_report(out, jobs, say, quiet=quiet)
    say(_summary(kind, out))


command = command_from(demo)


def _check_settings(kind: _Kind, overrides: list[str]) -> None:
    """Tell a wrong setting before anything is written."""
    config = load_config(kind.recipe, overrides)
    from brats_seg.networks.build import check_patch  # noqa: PLC0415 (torch)

    check_patch(config.network, config.train.patch)


def _say(text: str) -> None:
    print(text, flush=True)


def _silent(text: str) -> None:
    pass


def _heading(number: int, verb: str, what: str) -> str:
    return f"\n== {number} of 7: {verb}\n   {what}\n"


def _open_folder(out: Path, settings: dict[str, Any], *, overwrite: bool) -> None:
    """Make OUT, or check that it holds a demo of the same settings; with `overwrite` remove an earlier demo.

    Raises:
        OutputError: OUT holds something else.
    """
    record = out / _RECORD
    if out.is_dir() and any(out.iterdir()) and not record.is_file():
        raise OutputError(f"{out}: holds files that are no demo's; choose a new or empty folder")
    if record.is_file() and overwrite:
        for name in (*_VOLUMES.folders, "real"):
            shutil.rmtree(out / name, ignore_errors=True)
        record.unlink()
    if record.is_file() and (own := read_json(record)) != settings:
        differing = "; ".join(
            f"{key}: {own.get(key)!r}, asked for {settings[key]!r}" for key in settings if own.get(key) != settings[key]
        )
        raise OutputError(
            f"{out}: holds a demo with other settings ({differing}); replace it with --overwrite, or name another"
        )
    make_output_folder(out)
    write_json(record, settings)


def _make_cases(kind: _Kind, out: Path, seed: int, say: Any, *, silent: bool) -> Path:
    """Write the synthetic download, complete or not at all, and return its folder of cases."""
    from tqdm import tqdm  # noqa: PLC0415 (--help need not wait for these)

    from brats_seg.data.phantom import write_download  # noqa: PLC0415
    from brats_seg.data.phantom_slices import write_slices  # noqa: PLC0415

    num, shape = kind.num_cases, kind.shape
    say(_heading(1, "make synthetic cases", f"{num} cases of {' x '.join(map(str, shape))} voxels"))
    root = out / "download"
    if root.is_dir():
        say(f"{root}: there already")
        return root
    with atomic_folder(root) as folder, tqdm(total=num, unit="case", disable=silent) as bar:
        if kind.is_sliced:
            write_slices(folder, num, seed=seed, size=shape[1], num_slices=shape[0], on_case=bar.update)
        else:
            write_download(folder, num, seed=seed, shape=shape, on_case=bar.update)
    say(f"wrote {root}")
    return root


def _check_and_prepare(kind: _Kind, out: Path, download: Path, jobs: int, say: Any, *, quiet: bool) -> None:
    from brats_seg.commands.check import check  # noqa: PLC0415
    from brats_seg.commands.prepare import prepare  # noqa: PLC0415

    say(_heading(2, "check", f"brats-seg check {download}"))
    check(download, jobs=jobs, quiet=True)  # what it finds would fill the screen
    say(kind.check)
    say(_heading(3, "prepare", f"brats-seg prepare {download} {out / 'store'}"))
    prepare(download, out / "store", jobs=jobs, quiet=quiet)


def _train(kind: _Kind, out: Path, seed: int, overrides: list[str], device: str, say: Any, *, quiet: bool) -> list[str]:
    """Train, or continue to, the demo's recipe and return the names of the held-out cases."""
    from brats_seg.commands.train import train  # noqa: PLC0415 (torch)
    from brats_seg.data.splits import load_split  # noqa: PLC0415

    run = out / "run"
    words = [f"data.store={out / 'store'}", f"output={run}", f"seed={seed}", *overrides]
    say(_heading(4, "train", f"brats-seg train {kind.recipe} {' '.join(words)} --device {device}"))
    train(kind.recipe, words, resume=(run / "config.yaml").is_file(), device=device, quiet=quiet)
    return list(load_split(run / "split.json")[0])


def _predict_and_evaluate(
    kind: _Kind, out: Path, download: Path, held_out: list[str], device: str, jobs: int, say: Any, *, quiet: bool
) -> None:
    from brats_seg.commands.evaluate import evaluate  # noqa: PLC0415
    from brats_seg.commands.predict import predict  # noqa: PLC0415

    predictions, evaluation, cases = out / "predictions", out / "evaluation", ",".join(held_out)
    say(_heading(5, "predict", f"brats-seg predict {out / 'run'} {download} {predictions} --cases {cases}"))
    predict([str(out / "run"), str(download), str(predictions)], cases=cases, device=device, quiet=quiet)
    words = f"{download} {predictions} --protocol {kind.protocol} --out {evaluation} --cases {cases}"
    say(_heading(6, "evaluate", f"brats-seg evaluate {words}"))
    evaluate(download, predictions, evaluation, kind.protocol, cases=cases, jobs=jobs, overwrite=True, quiet=quiet)


def _write_report(out: Path, jobs: int, say: Any, *, quiet: bool) -> None:
    from brats_seg.commands.report import report  # noqa: PLC0415

    say(_heading(7, "report", f"brats-seg report {out / 'evaluation'}"))
    report([out / "evaluation"], jobs=jobs, overwrite=True, quiet=quiet)


def _summary(kind: _Kind, out: Path) -> str:
    """Return the closing table and the list of what was written."""
    summary = read_json(out / "evaluation" / "summary.json")
    regions = get_edition(summary["editions"][0]).region_names
    dice = {region: summary["regions"][region]["metrics"]["dice"] for region in regions}
    rows: list[list[Any]] = [[region, of["mean"], of["median"]] for region, of in dice.items()]
    rows.append(["mean", sum(row[1] for row in rows) / len(rows), ""])
    wrote = [f"  {f'{out / name}/':{len(str(out)) + 15}}{what}" for name, what in kind.folders.items()]
    looks = [
        f"next: open {out / 'evaluation' / 'report.html'} in a browser, or a prediction over its images with",
        f"  brats-seg export itksnap {out / 'download'} --prediction {out / 'predictions'} --out {out / 'itksnap'}",
    ]
    return "\n".join(
        [
            f"\n== Dice of {summary['num_cases']} held-out synthetic cases, protocol {kind.protocol}\n",
            format_table(["region", "mean", "median"], rows),
            "",
            _NOTICE,
            "",
            "wrote",
            *wrote,
            "",
            *([f"next: open {out / 'evaluation' / 'report.html'} in a browser"] if kind.is_sliced else looks),
        ]
    )
