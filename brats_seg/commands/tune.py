"""`brats-seg tune`: search for the settings of a recipe that give the best held-out Dice; each trial is a RUN."""

from __future__ import annotations

import gc
from collections.abc import Mapping
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from brats_seg.commands.options import DeviceOption, QuietOption, command_from
from brats_seg.commands.process import prepare_process
from brats_seg.commands.train import Session, resolved, train_fold
from brats_seg.config import RunConfig, load_config, parse_config, to_recipe
from brats_seg.errors import ConfigError, OutputError, UsageError, WorkError
from brats_seg.files import make_output_folder, require_outside, write_text
from brats_seg.reporting.tables import format_table

if TYPE_CHECKING:
    from optuna.trial import FrozenTrial, Trial

    from brats_seg.commands.study import Study
    from brats_seg.evaluation.records import Row
    from brats_seg.training.tuning import Choice

__all__ = ["command", "tune"]

_STUDY, _BEST = "study.db", "best.yaml"
_SHOWN = 10
"""Trials in the table at the end."""


def tune(
    config: Annotated[
        str, typer.Argument(metavar="CONFIG", help="A recipe's file, or the name of one that comes along.")
    ],
    overrides: Annotated[
        list[str] | None, typer.Argument(metavar="KEY=VALUE", help="Settings over the recipe's.")
    ] = None,
    trials: Annotated[
        int, typer.Option("--trials", min=1, metavar="N", help="Trials of the study, those of earlier calls included.")
    ] = 20,
    study: Annotated[
        Path | None, typer.Option("--study", metavar="FILE", help="SQLite file of the study (OUT/study.db).")
    ] = None,
    device: DeviceOption = "",
    quiet: QuietOption = False,
) -> None:
    """Search for a recipe's best learning rate, patch, augmentation strength and network width.

    The first trial is the recipe itself. A trial whose held-out Dice is below the median of those before it at the same
    step is stopped. Each trial is a run, OUT/trial<N>, where OUT is the setting `output`. At the end OUT/best.yaml is
    the recipe with the best trial's settings. The same command continues a study that was stopped. Needs optuna.

    \b
    Examples:
      brats-seg tune cpu_small data.store=STORE output=runs/tuned --trials 20
      brats-seg tune default data.store=STORE output=runs/tuned train.steps=5000 --device cuda:0
      brats-seg train runs/tuned/best.yaml
    """
    if find_spec("optuna") is None:
        raise UsageError(
            "tune needs the package optuna, which is not installed; pip install optuna (it comes with brats_seg[tune])"
        )
    prepare_process()
    from brats_seg.commands.study import opened_study  # noqa: PLC0415 (torch and optuna come with tuning)
    from brats_seg.training.tuning import search_space  # noqa: PLC0415

    recipe = resolved(load_config(config, [*(overrides or []), *([f"train.device={device}"] if device else [])]))
    session = _session(recipe)
    out = Path(recipe.output)
    file = study or out / _STUDY
    _check(recipe, out, file)
    make_output_folder(out)
    make_output_folder(file.parent)
    with opened_study(file, recipe, search_space(recipe)) as opened:
        tuner = _Tuner(recipe, opened, session, is_quiet=quiet)
        tuner.run(trials)
        tuner.conclude()


def _session(recipe: RunConfig) -> Session:
    from brats_seg.networks.compute import choose_compute  # noqa: PLC0415
    from brats_seg.training.distributed import processes_of_environment  # noqa: PLC0415

    processes = processes_of_environment()
    if processes.count > 1:
        raise UsageError(
            f"tune works in one process, and {processes.count} were started; start it without torchrun, and use the "
            "other GPUs for studies of other folds"
        )
    compute = choose_compute(recipe.train.device, recipe.train.precision, recipe.train.threads)
    return Session(compute, processes, quiet=True, resume=False, overwrite=False)


def _check(recipe: RunConfig, out: Path, file: Path) -> None:
    """Refuse what no trial could work with, before anything is written."""
    from brats_seg.networks.build import build_network, check_patch  # noqa: PLC0415
    from brats_seg.preprocessing.store import open_store  # noqa: PLC0415
    from brats_seg.training.folds import divide, folds_of_store  # noqa: PLC0415

    fold = recipe.data.fold
    if not isinstance(fold, int):
        raise ConfigError(f"data.fold={fold}: tune compares trials on one held-out fold; use a number, such as 0")
    store = open_store(Path(recipe.data.store or ""))
    divide(store, folds_of_store(store, recipe.data), fold)
    check_patch(recipe.network, recipe.train.patch)
    build_network(recipe.network, in_channels=len(store.modalities), out_channels=len(store.regions))
    require_outside(out, store.folder)
    if (out / "config.yaml").exists():
        raise OutputError(f"{out}: holds a run; choose another folder for the trials with output=")
    if not file.exists() and any(out.glob("trial*")):
        raise OutputError(f"{out}: holds trials whose study is not {file}; name it with --study, or set output=")


class _Tuner:
    """Runs the trials of a study one after another."""

    def __init__(self, recipe: RunConfig, study: Study, session: Session, *, is_quiet: bool) -> None:
        self.recipe, self.study, self.session, self.is_quiet = recipe, study, session, is_quiet
        self.out = Path(recipe.output)

    def said(self, line: str) -> None:
        if not self.is_quiet:
            print(line, flush=True)

    def run(self, num_trials: int) -> None:
        """Run trials until the study has so many that came to an end."""
        for number in self.study.repeat_killed():
            self.said(f"trial {number}: was killed; marked as failed, and repeated")
        if len(self.study.done()) >= num_trials:
            self.said(f"the study has {len(self.study.done())} trials already; --trials asks for {num_trials}")
        while len(self.study.done()) < num_trials:
            trial, choice = self.study.begin()
            self.said(f"trial {trial.number} ({len(self.study.done()) + 1} of {num_trials}): {_in_words(choice)}")
            self.said(f"trial {trial.number}: {self._outcome(trial, choice)}")
            gc.collect()  # the network and its gradients, before the next ones

    def _outcome(self, trial: Trial, choice: Choice) -> str:
        """Run a trial, keep its outcome in the study, and return it in words."""
        from optuna import TrialPruned  # noqa: PLC0415

        def heard(step: int, row: Mapping[str, Any]) -> None:
            if row["dice_mean"] == "" or step >= self.recipe.train.steps:
                return
            self.said(f"trial {trial.number}: step {step} of {self.recipe.train.steps}, Dice {row['dice_mean']:.3f}")
            trial.report(row["dice_mean"], step)
            if trial.should_prune():
                raise TrialPruned

        try:
            rows = train_fold(self._of(trial.number, choice), replace(self.session, heard=heard))
        except TrialPruned:
            self.study.prune(trial)
            return "stopped: others were better at this step"
        except (WorkError, ConfigError) as error:
            self.study.fail(trial, str(error))
            return f"failed: {error}"
        dice = _mean_dice(rows)
        self.study.finish(trial, dice)
        return f"held-out Dice {dice:.4f}"

    def _of(self, number: int, choice: Choice) -> RunConfig:
        return _placed(self.recipe, choice, self.out / f"trial{number}")

    def conclude(self) -> None:
        """Show the best trials and write the best recipe.

        Raises:
            WorkError: no trial came to its end.
        """
        complete, done = self.study.complete(), self.study.done()
        if not complete:
            reasons = [str(trial.user_attrs["reason"]) for trial in done if "reason" in trial.user_attrs]
            raise WorkError(f"{self.out}: none of {len(done)} trials came to its end; {(reasons or ['all pruned'])[0]}")
        self.said(_table(complete[:_SHOWN]))
        num_pruned = sum(trial.state.name == "PRUNED" for trial in done)
        num_failed = len(done) - len(complete) - num_pruned
        self.said(f"{len(complete)} trials to the end, {num_pruned} stopped early, {num_failed} failed")
        best = self.out / _BEST
        write_text(best, self._best_recipe(complete[0], len(done)))
        self.said(f"wrote {best} (trial {complete[0].number}) and the trials beside it; next: brats-seg train {best}")

    def _best_recipe(self, trial: FrozenTrial, num_trials: int) -> str:
        from brats_seg.commands.study import choice_of  # noqa: PLC0415

        choice = choice_of(trial)
        config = _placed(self.recipe, choice, self.out / "best")
        head = [
            f"Trial {trial.number}, the best of {num_trials}: {_in_words(choice)}.",
            f"Mean Dice {trial.value:.4f} on fold {config.data.fold}, which chose it; another fold tells its worth.",
        ]
        return "".join(f"# {line}\n" for line in head) + to_recipe(config)


def _placed(recipe: RunConfig, choice: Choice, run: Path) -> RunConfig:
    from brats_seg.training.tuning import chosen  # noqa: PLC0415

    values = chosen(recipe, choice).model_dump(mode="json")
    return parse_config(values | {"output": str(run)}, source="tune")


def _mean_dice(rows: list[Row]) -> float:
    """Return the mean over regions of the mean Dice of the held-out cases."""
    from brats_seg.evaluation.summary import summarize  # noqa: PLC0415

    regions = summarize(rows)["regions"].values()
    dice = [float(region["metrics"]["dice"]["mean"]) for region in regions]
    return sum(dice) / len(dice)


def _in_words(choice: Choice) -> str:
    patch = " x ".join(map(str, choice.patch))
    return (
        f"learning rate {choice.learning_rate:.3g}, patch {patch}, augmentation x {choice.augmentation:.2f}, "
        f"width x {choice.width:g}"
    )


def _table(trials: list[FrozenTrial]) -> str:
    from brats_seg.commands.study import choice_of  # noqa: PLC0415

    header = ["trial", "mean Dice", "learning rate", "patch", "augmentation", "width"]
    rows = []
    for trial in trials:
        choice = choice_of(trial)
        patch = "x".join(map(str, choice.patch))
        rows.append([trial.number, trial.value, choice.learning_rate, patch, choice.augmentation, choice.width])
    return format_table(header, rows, digits=[0, 4, 5, 0, 2, 2])


command = command_from(tune)
