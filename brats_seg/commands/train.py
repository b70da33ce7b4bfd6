"""`brats-seg train`: a store and a recipe become a RUN."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
import yaml

from brats_seg.commands.options import DeviceOption, OverwriteOption, QuietOption, command_from, is_silent
from brats_seg.commands.process import prepare_process
from brats_seg.config import RunConfig, config_differences, load_config, parse_config, to_yaml
from brats_seg.errors import ConfigError, OutputError
from brats_seg.files import hash_of_file, make_output_folder, provenance, require_outside, write_json, write_text

if TYPE_CHECKING:
    from brats_seg.commands.watching import TrainingWatcher
    from brats_seg.networks.compute import Compute
    from brats_seg.preprocessing.store import Store
    from brats_seg.training.loop import Rehearsal, Trainer

__all__ = ["command", "train"]


def train(
    config: Annotated[
        str, typer.Argument(metavar="CONFIG", help="A recipe's file, or the name of one that comes along.")
    ],
    overrides: Annotated[
        list[str] | None, typer.Argument(metavar="KEY=VALUE", help="Settings over the recipe's.")
    ] = None,
    resume: Annotated[
        bool, typer.Option("--resume", help="Continue the run in the output folder, to the bit.")
    ] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Say what would be trained and how long; write nothing.")
    ] = False,
    device: DeviceOption = "",
    overwrite: OverwriteOption = False,
    quiet: QuietOption = False,
) -> None:
    """Train a network on a store made by `brats-seg prepare`; validate it on the held-out fold.

    Writes the folder `output`: config.yaml, run.json, split.json, metrics.csv, curves.png, events/, model.safetensors
    (best validation), last.safetensors, state/ (to resume from) and validation/ (label maps and scores of the
    held-out cases).

    \b
    Examples:
      brats-seg train cpu_small data.store=STORE output=runs/first
      brats-seg train cpu_small data.store=STORE output=runs/first --resume
      brats-seg train default data.store=STORE data.fold=1 train.steps=10000 --device cuda:0
      brats-seg train default data.store=STORE --dry-run
    """
    prepare_process()
    from brats_seg.training.distributed import require_one_process  # noqa: PLC0415 (torch comes with training)

    require_one_process()
    settings = _resolved(load_config(config, [*(overrides or []), *([f"train.device={device}"] if device else [])]))
    if dry_run:
        _rehearse(settings, quiet)
        return
    folds = range(settings.data.num_folds) if settings.data.fold == "all" else None
    if folds is None:
        _train_fold(settings, resume=resume, overwrite=overwrite, quiet=quiet)
        return
    for fold in folds:
        _train_fold(_of_fold(settings, fold), resume=resume, overwrite=overwrite, quiet=quiet)
    _join_validation(Path(settings.output), len(folds))


def _resolved(config: RunConfig) -> RunConfig:
    """Return the configuration with whole paths, so that `config.yaml` means the same from any folder."""
    if config.data.store is None:
        raise ConfigError("data.store is not set: add data.store=STORE, the folder that brats-seg prepare wrote")
    values = config.model_dump(mode="json")
    values["data"]["store"] = str(Path(config.data.store).resolve())
    values["data"]["split"] = None if config.data.split is None else str(Path(config.data.split).resolve())
    values["output"] = str(Path(config.output).resolve())
    values["train"]["init"] = None if config.train.init is None else str(Path(config.train.init).resolve())
    return parse_config(values)


def _of_fold(config: RunConfig, fold: int) -> RunConfig:
    values = config.model_dump(mode="json")
    values["data"]["fold"] = fold
    values["output"] = str(Path(config.output) / f"fold{fold}")
    return parse_config(values)


def _train_fold(config: RunConfig, *, resume: bool, overwrite: bool, quiet: bool) -> None:
    from brats_seg.commands.watching import TrainingWatcher  # noqa: PLC0415
    from brats_seg.evaluation.summary import summarize  # noqa: PLC0415
    from brats_seg.inference.predict import load_predictor  # noqa: PLC0415
    from brats_seg.networks.compute import choose_compute  # noqa: PLC0415
    from brats_seg.preprocessing.store import open_store  # noqa: PLC0415
    from brats_seg.training.checkpoints import has_state  # noqa: PLC0415
    from brats_seg.training.validation import write_validation  # noqa: PLC0415

    run = Path(config.output)
    _check_run_folder(run, config, resume=resume, overwrite=overwrite)
    store = open_store(Path(config.data.store or ""))
    compute = choose_compute(config.train.device, config.train.precision, config.train.threads)
    watcher = TrainingWatcher(run, config.train.steps, is_silent=is_silent(quiet), is_quiet=quiet)
    folds, trainer = _build(config, store, compute, watcher)
    _say_plan(trainer, compute, watcher)
    _say_left_out(store, folds, watcher)
    init = None if resume and has_state(run / "state") else _start_from_init(trainer, watcher)
    _begin_run(run, config, store, compute, folds, init, overwrite=overwrite)
    if resume and not trainer.resume():
        watcher.said("no saved state yet: starting from step 0")
    if trainer.progress.is_finished and (run / "validation" / "cases.csv").is_file():
        watcher.said(f"{run}: finished already at step {trainer.progress.step}; nothing to do")
        watcher.close()
        return
    watcher.begin(trainer.progress.step)
    trainer.run()
    watcher.draw()
    predictor = load_predictor(run, config, compute)
    held_out = trainer.validation_cases
    rows = write_validation(predictor, held_out, run / "validation", watcher.validating(len(held_out)))
    watcher.close()
    if rows:
        watcher.said(_dice_table(summarize(rows), trainer.description.regions))
    for line in [*watcher.left_out(), f"wrote {run}", f"next: brats-seg predict {run} DATA OUT"]:
        watcher.said(line)


def _check_run_folder(run: Path, config: RunConfig, *, resume: bool, overwrite: bool) -> None:
    require_outside(run, Path(config.data.store or ""))
    path = run / "config.yaml"
    if resume:
        if not path.is_file():
            return
        own = parse_config(yaml.safe_load(path.read_text(encoding="utf-8")), source=str(path))
        differing = [line for line in config_differences(own, config) if not line.startswith("output:")]
        if differing:
            raise ConfigError(f"--resume: {path} has other settings than asked for: {'; '.join(differing)}")
    elif path.exists() and not overwrite:
        raise OutputError(
            f"{run}: holds a run already; continue it with --resume, replace it with --overwrite, or set output="
        )
    elif run.is_dir() and any(run.iterdir()) and not path.exists():
        raise OutputError(f"{run}: holds files that are no run; choose an empty or new folder with output=")


def _build(
    config: RunConfig, store: Store, compute: Compute, watcher: TrainingWatcher
) -> tuple[tuple[tuple[str, ...], ...], Trainer]:
    from brats_seg.training.folds import divide, folds_of_store  # noqa: PLC0415
    from brats_seg.training.loop import Trainer  # noqa: PLC0415

    folds = folds_of_store(store, config.data)
    training, validation = divide(store, folds, "none" if config.data.fold == "none" else int(config.data.fold))
    return folds, Trainer(config, store, training, validation, Path(config.output), compute, watcher)


def _say_plan(trainer: Trainer, compute: Compute, watcher: TrainingWatcher) -> None:
    from brats_seg.networks.build import count_weights  # noqa: PLC0415

    config = trainer.config
    watcher.said(
        f"fold {config.data.fold}: {len(trainer.pool.cases)} training cases, {len(trainer.validation_cases)} held out; "
        f"{config.network.name} with {count_weights(trainer.network) / 1e6:.2f} M weights, stem {config.network.stem}; "
        f"{config.train.steps} steps of {config.train.batch} patches {' x '.join(map(str, config.train.patch))}"
    )
    watcher.said(f"device: {compute}")
    watcher.said(f"data: {trainer.volumes.explanation}")
    for line in watcher.left_out():
        watcher.said(line)


def _say_left_out(store: Store, folds: Sequence[Sequence[str]], watcher: TrainingWatcher) -> None:
    """Say which cases of the store are neither learned from nor held out: without segmentation, or in no fold."""
    unlabelled = [case.name for case in store.cases if not case.has_label]
    foldless = sorted(
        {case.name for case in store.cases if case.has_label} - {name for names in folds for name in names}
    )
    for names, why in ((unlabelled, "have no segmentation"), (foldless, "are in no fold of the split")):
        if names:
            shown = ", ".join(names[:5]) + ", ..." * (len(names) > 5)
            watcher.said(f"{len(names)} cases of the store {why} and are left out: {shown}")


def _start_from_init(trainer: Trainer, watcher: TrainingWatcher) -> dict[str, str] | None:
    """Put the weights that `train.init` names into the network; return them for the record, None without."""
    from brats_seg.training.initial import weights_file  # noqa: PLC0415

    place = trainer.config.train.init
    if place is None:
        return None
    path = weights_file(place)
    trainer.start_from(path)
    watcher.said(f"starting from the weights of {path}")
    return {"weights": str(path), "sha256": hash_of_file(path)}


def _begin_run(
    run: Path,
    config: RunConfig,
    store: Store,
    compute: Compute,
    folds: Sequence[Sequence[str]],
    init: dict[str, str] | None,
    *,
    overwrite: bool,
) -> None:
    if overwrite and (run / "config.yaml").is_file():
        shutil.rmtree(run)
    make_output_folder(run)
    is_begun = (run / "config.yaml").is_file()
    if is_begun:
        return
    write_json(run / "split.json", {"folds": [list(names) for names in folds]})
    record = provenance(device=str(compute), precision=compute.precision, store_settings=store.settings_hash, init=init)
    write_json(run / "run.json", record)
    write_text(run / "config.yaml", to_yaml(config))


def _rehearse(config: RunConfig, quiet: bool) -> None:
    from brats_seg.commands.watching import TrainingWatcher  # noqa: PLC0415
    from brats_seg.networks.compute import choose_compute  # noqa: PLC0415
    from brats_seg.preprocessing.store import open_store  # noqa: PLC0415

    if config.data.fold == "all":
        config = _of_fold(config, 0)
    watcher = TrainingWatcher(Path(config.output), config.train.steps, is_silent=True, is_quiet=quiet)
    compute = choose_compute(config.train.device, config.train.precision, config.train.threads)
    _, trainer = _build(config, open_store(Path(config.data.store or "")), compute, watcher)
    _say_plan(trainer, compute, watcher)
    for line in _rehearsed(trainer.rehearse(), config, len(trainer.pool.cases)):
        watcher.said(line)
    watcher.said("dry run: nothing was written")


def _rehearsed(measured: Rehearsal, config: RunConfig, num_cases: int) -> list[str]:
    """Return what a rehearsal found, in words."""
    seconds, train = measured.seconds, config.train
    epoch_steps = -(-num_cases // train.batch)
    total_minutes = seconds * train.steps / 60
    total = f"{total_minutes / 60:.1f} h" if total_minutes >= 90 else f"{total_minutes:.1f} min"
    return [
        f"measured: {seconds:.3g} s a step, {train.batch / seconds:.3g} patches a second, "
        f"{measured.augmentation_seconds / seconds:.0%} of it augmentation; "
        f"{measured.read_bytes / seconds / 1e6:.3g} MB a second from the store",
        f"memory: {measured.peak_bytes / 1e9:.2f} GB at most",
        f"an epoch (every case once, {epoch_steps} steps): {epoch_steps * seconds / 60:.1f} min; "
        f"all {train.steps} steps: {total}, without validations",
    ]


def _dice_table(summary: dict[str, Any], regions: tuple[str, ...]) -> str:
    from brats_seg.reporting.tables import format_table  # noqa: PLC0415

    measured = [(region, summary["regions"][region]["metrics"]) for region in regions]
    rows = [
        [region, of["dice"]["mean"], of["dice"]["median"], of["hd95_mm"]["mean"], of["hd95_mm"]["median"]]
        for region, of in measured
    ]
    header = ["region", "mean Dice", "median", "mean HD95", "median"]
    return f"held-out cases ({summary['num_cases']}), protocol brats2020\n{format_table(header, rows)}"


def _join_validation(output: Path, num_folds: int) -> None:
    """Join the folds' held-out label maps and scores: every case was predicted by the run that never saw it."""
    joined = make_output_folder(output / "validation")
    tables, names = [], []
    for fold in range(num_folds):
        source = output / f"fold{fold}" / "validation"
        names += (source / "cases.txt").read_text(encoding="utf-8").split("\n")[:-1]
        tables.append((source / "cases.csv").read_text(encoding="utf-8").splitlines(keepends=True))
        for path in source.glob("*.nii.gz"):
            shutil.copyfile(path, joined / path.name)
    write_text(joined / "cases.csv", "".join([tables[0][0], *(row for table in tables for row in table[1:])]))
    write_text(joined / "cases.txt", "".join(f"{name}\n" for name in names))
    print(f"wrote {joined} (all {num_folds} folds, {len(names)} cases)")


command = command_from(train)
