"""`brats-seg train`: a store and a recipe become a RUN."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
import yaml

from brats_seg.commands.folds import devices_of_folds, join_validation, of_fold, train_folds_apart
from brats_seg.commands.options import DeviceOption, OverwriteOption, QuietOption, command_from, is_silent
from brats_seg.commands.process import prepare_process
from brats_seg.config import RunConfig, config_differences, load_config, parse_config, to_yaml
from brats_seg.errors import ConfigError, DataError, OutputError
from brats_seg.files import (
    hash_of_file,
    make_output_folder,
    provenance,
    read_json,
    require_outside,
    write_json,
    write_text,
)
from brats_seg.reporting.tables import format_table

if TYPE_CHECKING:
    from brats_seg.commands.watching import TrainingWatcher
    from brats_seg.evaluation.records import Row
    from brats_seg.networks.compute import Compute
    from brats_seg.preprocessing.store import Store
    from brats_seg.training.distributed import Processes
    from brats_seg.training.loop import Rehearsal, Trainer

__all__ = ["Session", "command", "resolved", "train", "train_fold"]


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
      brats-seg train default data.store=STORE data.fold=all --device cuda:0,cuda:1
      brats-seg train default data.store=STORE --dry-run
    """
    prepare_process()
    from brats_seg.networks.compute import choose_compute  # noqa: PLC0415 (torch comes with training)
    from brats_seg.training.distributed import processes_of_environment  # noqa: PLC0415

    processes = processes_of_environment()
    given = load_config(config, [*(overrides or []), *([f"train.device={device}"] if device else [])])
    settings = resolved(given, resume=resume)
    devices = devices_of_folds(settings)
    if settings.data.fold == "all" and len(devices) > 1 and processes.count == 1 and not dry_run:
        for name in devices:
            choose_compute(name, settings.train.precision)  # refuses what is not there
        flags = ["--resume"] * resume + ["--overwrite"] * overwrite + ["--quiet"] * quiet
        train_folds_apart(settings, devices, flags, is_silent=is_silent(quiet), is_quiet=quiet)
        join_validation(Path(settings.output), settings.data.num_folds)
        return
    processes.samples(settings.train.batch, settings.train.accumulate)  # refuses a batch that cannot be divided
    own_device = processes.device(settings.train.device)
    compute = choose_compute(own_device, settings.train.precision, settings.train.threads)
    with processes.joined(compute.device):
        session = Session(compute, processes, quiet=quiet, resume=resume, overwrite=overwrite)
        if dry_run:
            _rehearse(settings, session)
        elif settings.data.fold != "all":
            train_fold(settings, session)
        else:
            for fold in range(settings.data.num_folds):
                train_fold(of_fold(settings, fold), session)
            if processes.is_first:
                join_validation(Path(settings.output), settings.data.num_folds)


@dataclass(frozen=True)
class Session:
    """What holds for all runs of one call."""

    compute: Compute
    processes: Processes
    quiet: bool
    resume: bool
    overwrite: bool
    heard: Callable[[int, Mapping[str, Any]], None] | None = None
    """Called with step and row after each row of metrics.csv; may end the run by an exception."""

    def watcher(self, config: RunConfig, *, has_bar: bool = True) -> TrainingWatcher:
        """Return a run's watcher; only the first process's shows and writes anything."""
        from brats_seg.commands.watching import TrainingWatcher  # noqa: PLC0415

        return TrainingWatcher(
            Path(config.output),
            config.train.steps,
            is_silent=not has_bar or is_silent(self.quiet) or not self.processes.is_first,
            is_quiet=self.quiet or not self.processes.is_first,
            is_writing=self.processes.is_first,
            heard=self.heard,
        )


def resolved(config: RunConfig, *, resume: bool = False) -> RunConfig:
    """Return the configuration with nothing left open and whole paths: it means the same from any folder."""
    if config.data.store is None:
        raise ConfigError("data.store is not set: add data.store=STORE, the folder that brats-seg prepare wrote")
    from brats_seg.training.initial import filled, init_place  # noqa: PLC0415 (torch comes with training)

    begun = Path(config.output, "fold0") if config.data.fold == "all" else Path(config.output)
    values = filled(config, begun if resume else None).model_dump(mode="json")
    values["data"]["store"] = str(Path(config.data.store).resolve())
    values["data"]["split"] = None if config.data.split is None else str(Path(config.data.split).resolve())
    values["output"] = str(Path(config.output).resolve())
    init = config.train.init
    values["train"]["init"] = None if init is None else init_place(init)
    return parse_config(values)


def train_fold(config: RunConfig, session: Session) -> list[Row]:
    """Train one fold into its RUN folder; return the scores of the held-out cases (none if it was finished before)."""
    watcher = session.watcher(config)
    try:
        return _train_watched(config, session, watcher)
    finally:
        watcher.close()


def _train_watched(config: RunConfig, session: Session, watcher: TrainingWatcher) -> list[Row]:
    from brats_seg.evaluation.summary import summarize  # noqa: PLC0415
    from brats_seg.inference.likeness import REFERENCE, make_reference, write_reference  # noqa: PLC0415
    from brats_seg.inference.predict import load_predictor  # noqa: PLC0415
    from brats_seg.preprocessing.store import open_store  # noqa: PLC0415
    from brats_seg.training.validation import write_validation  # noqa: PLC0415
    from brats_seg.training.windows import choose_window  # noqa: PLC0415

    run, processes = Path(config.output), session.processes
    if processes.is_first:
        _check_run_folder(run, config, resume=session.resume, overwrite=session.overwrite)
    store = open_store(Path(config.data.store or ""))
    folds, trainer = _build(config, store, session, watcher)
    if session.resume:
        _check_same_cases(run, store, folds)
    _say_plan(trainer, watcher)
    _say_left_out(store, folds, watcher)
    _begin_or_resume(run, trainer, store, folds, session, watcher)
    if trainer.progress.is_finished and (run / "validation" / "cases.csv").is_file():
        watcher.said(f"{run}: finished already at step {trainer.progress.step}; nothing to do")
        return []
    if processes.is_first and not (run / REFERENCE).is_file():
        write_reference(run, make_reference(trainer.pool.cases, trainer.modalities))
    watcher.begin(trainer.progress.step, epoch_steps=-(-trainer.pool.epoch_patches // config.train.batch))
    trainer.run()
    watcher.draw()
    if config.inference.window == "auto":
        config, table = choose_window(run, config, trainer.validation_cases, session.compute, processes)
        watcher.said(table)
    predictor = load_predictor(run, config, session.compute)
    num_own = len(processes.share(trainer.validation_cases))
    tick = watcher.validating(num_own)
    rows = write_validation(predictor, trainer.validation_cases, run / "validation", tick, processes)
    watcher.close()
    if rows:
        watcher.said(_dice_table(summarize(rows), trainer.description.regions))
    for line in [*watcher.left_out(), f"wrote {run}", f"next: brats-seg predict {run} DATA OUT"]:
        watcher.said(line)
    return rows


def _begin_or_resume(
    run: Path,
    trainer: Trainer,
    store: Store,
    folds: Sequence[Sequence[str]],
    session: Session,
    watcher: TrainingWatcher,
) -> None:
    """Write what a run begins with, unless it has begun, and bring the trainer to where the run is."""
    from brats_seg.training.checkpoints import has_state  # noqa: PLC0415

    is_continued = session.resume and has_state(run / "state")
    init = None if is_continued else _start_from_init(trainer, watcher)
    session.processes.wait()  # until all have looked
    if session.processes.is_first:
        record = provenance(
            device=str(session.compute),
            precision=session.compute.precision,
            processes=session.processes.count,
            store_settings=store.settings_hash,
            init=init,
        )
        _begin_run(run, trainer.config, record, folds, overwrite=session.overwrite)
    session.processes.wait()  # until the folder is there
    if session.resume and not trainer.resume():
        watcher.said("no saved state yet: starting from step 0")


def _check_run_folder(run: Path, config: RunConfig, *, resume: bool, overwrite: bool) -> None:
    from brats_seg.training.windows import has_chosen_window  # noqa: PLC0415

    require_outside(run, Path(config.data.store or ""))
    path = run / "config.yaml"
    if resume:
        if not path.is_file():
            return
        own = parse_config(yaml.safe_load(path.read_text(encoding="utf-8")), source=str(path))
        accepted = ["output:", *["inference.window:"] * has_chosen_window(run, config)]
        differing = [line for line in config_differences(own, config) if not line.startswith(tuple(accepted))]
        if differing:
            raise ConfigError(f"--resume: {path} has other settings than asked for: {'; '.join(differing)}")
    elif path.exists() and not overwrite:
        raise OutputError(
            f"{run}: holds a run already; continue it with --resume, replace it with --overwrite, or set output="
        )
    elif run.is_dir() and any(run.iterdir()) and not path.exists():
        raise OutputError(f"{run}: holds files that are no run; choose an empty or new folder with output=")


def _check_same_cases(run: Path, store: Store, folds: Sequence[Sequence[str]]) -> None:
    """Refuse to continue a run on other cases than it was begun with.

    Raises:
        DataError: the store's settings (modalities, regions), or the folds, are no longer those of the run.
    """
    record, split = run / "run.json", run / "split.json"
    if not (record.is_file() and split.is_file()):
        return
    remedy = "restore the store, or start another run with output="
    begun_with = read_json(record).get("store_settings")
    if begun_with != store.settings_hash:
        raise DataError(
            f"--resume: {run} was begun on a store of other settings ({str(begun_with)[:12]}); {store.folder} now has "
            f"modalities {list(store.modalities)}, regions {list(store.regions)} ({store.settings_hash[:12]}); {remedy}"
        )
    begun_folds = read_json(split)["folds"]
    if begun_folds != [list(names) for names in folds]:
        before, now = ({name for names in division for name in names} for division in (begun_folds, folds))
        changed = sorted(before ^ now) or ["the same cases, divided differently"]
        raise DataError(
            f"--resume: {split} has {len(before)} cases in its folds, {store.folder} now gives {len(now)} "
            f"({', '.join(changed[:5])}{', ...' * (len(changed) > 5)}); {remedy}"
        )


def _build(
    config: RunConfig, store: Store, session: Session, watcher: TrainingWatcher
) -> tuple[tuple[tuple[str, ...], ...], Trainer]:
    from brats_seg.training.folds import divide, folds_of_store, require_neighbours  # noqa: PLC0415
    from brats_seg.training.loop import Trainer  # noqa: PLC0415

    folds = folds_of_store(store, config.data)
    training, validation = divide(store, folds, "none" if config.data.fold == "none" else int(config.data.fold))
    require_neighbours((*training, *validation), config)
    trainer = Trainer(
        config,
        store,
        training,
        validation,
        Path(config.output),
        session.compute,
        watcher,
        session.processes,
        records=watcher,
    )
    return folds, trainer


def _say_plan(trainer: Trainer, watcher: TrainingWatcher) -> None:
    from brats_seg.networks.build import count_weights  # noqa: PLC0415

    config = trainer.config
    watcher.said(
        f"fold {config.data.fold}: {len(trainer.pool.cases)} training cases, {len(trainer.validation_cases)} held out; "
        f"{config.network.name} with {count_weights(trainer.network) / 1e6:.2f} M weights, stem {config.network.stem}; "
        f"{config.train.steps} steps of {config.train.batch} patches {' x '.join(map(str, config.train.patch))}"
    )
    count = trainer.processes.count
    watcher.said(f"device: {trainer.compute}" + f"; {count} processes train together" * (count > 1))
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
    run: Path, config: RunConfig, record: dict[str, Any], folds: Sequence[Sequence[str]], *, overwrite: bool
) -> None:
    if overwrite and (run / "config.yaml").is_file():
        shutil.rmtree(run)
    make_output_folder(run)
    is_begun = (run / "config.yaml").is_file()
    if is_begun:
        return
    write_json(run / "split.json", {"folds": [list(names) for names in folds]})
    write_json(run / "run.json", record)
    write_text(run / "config.yaml", to_yaml(config))


def _rehearse(config: RunConfig, session: Session) -> None:
    from brats_seg.preprocessing.store import open_store  # noqa: PLC0415

    if config.data.fold == "all":
        config = of_fold(config, 0)
    watcher = session.watcher(config, has_bar=False)
    _, trainer = _build(config, open_store(Path(config.data.store or "")), session, watcher)
    _say_plan(trainer, watcher)
    for line in _rehearsed(trainer.rehearse(), config, trainer.pool.epoch_patches):
        watcher.said(line)
    watcher.said("dry run: nothing was written")


def _rehearsed(measured: Rehearsal, config: RunConfig, epoch_patches: int) -> list[str]:
    """Return what a rehearsal found, in words."""
    from brats_seg.networks.slices import slice_axis  # noqa: PLC0415

    seconds, train = measured.seconds, config.train
    epoch_steps = -(-epoch_patches // train.batch)
    unit = "case" if slice_axis(train.patch) is None else "slice"
    total_minutes = seconds * train.steps / 60
    total = f"{total_minutes / 60:.1f} h" if total_minutes >= 90 else f"{total_minutes:.1f} min"
    return [
        f"measured: {seconds:.3g} s a step, {train.batch / seconds:.3g} patches a second, "
        f"{measured.augmentation_seconds / seconds:.0%} of it augmentation; "
        f"{measured.read_bytes / seconds / 1e6:.3g} MB a second from the store",
        f"memory: {measured.peak_bytes / 1e9:.2f} GB at most",
        f"an epoch (every {unit} once, {epoch_steps} steps): {epoch_steps * seconds / 60:.1f} min; "
        f"all {train.steps} steps: {total}, without validations",
    ]


def _dice_table(summary: dict[str, Any], regions: tuple[str, ...]) -> str:
    measured = [(region, summary["regions"][region]["metrics"]) for region in regions]
    rows = [
        [region, of["dice"]["mean"], of["dice"]["median"], of["hd95_mm"]["mean"], of["hd95_mm"]["median"]]
        for region, of in measured
    ]
    header = ["region", "mean Dice", "median", "mean HD95", "median"]
    return f"held-out cases ({summary['num_cases']}), protocol brats2020\n{format_table(header, rows)}"


command = command_from(train)
