"""A tuning study: Optuna's trials in an SQLite file, which continues where it was stopped."""

from __future__ import annotations

import fcntl
import json
import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import optuna
from optuna.trial import FrozenTrial, Trial, TrialState

from brats_seg.config import RunConfig, config_differences, parse_config
from brats_seg.errors import ConfigError, OutputError
from brats_seg.training.tuning import Choice, SearchSpace

__all__ = ["Study", "choice_of", "opened_study"]

_NAME = "brats-seg tune"
_CONFIG, _REASON = "config", "reason"
_TRIALS_BEFORE_PRUNING = 4
"""Trials that come to their end before the median of their Dice stops others."""


class Study:
    """The trials of a recipe so far, and the next one.

    The draw of a trial depends on the seed and on the results of those before it alone, so that a study that was
    stopped and continued tries what it would have tried without the stop.
    """

    def __init__(self, study: optuna.Study, space: SearchSpace, seed: int) -> None:
        self._study, self._space, self._seed = study, space, seed

    def repeat_killed(self) -> list[int]:
        """Mark trials that were running when their process ended as failed, queue each again; return their numbers."""
        killed = self._study.get_trials(deepcopy=False, states=(TrialState.RUNNING,))
        for trial in killed:
            self._study.enqueue_trial(trial.params)
            self._study.tell(trial.number, state=TrialState.FAIL)
        return [trial.number for trial in killed]

    def done(self) -> list[FrozenTrial]:
        """Return the trials that came to an end: finished, pruned, or failed for a reason of their own."""
        trials = self._study.get_trials(deepcopy=False)
        own_end = (TrialState.COMPLETE, TrialState.PRUNED)
        return [trial for trial in trials if trial.state in own_end or _REASON in trial.user_attrs]

    def complete(self) -> list[FrozenTrial]:
        """Return the finished trials, the best first."""
        trials = self._study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))
        return sorted(trials, key=lambda trial: (-(trial.value or 0.0), trial.number))

    def begin(self) -> tuple[Trial, Choice]:
        """Return the next trial and its settings; the first is the recipe itself."""
        num_done = len(self.done())
        seed = int(np.random.SeedSequence((self._seed, num_done)).generate_state(1)[0])
        self._study.sampler = optuna.samplers.TPESampler(seed=seed)
        if not self._study.get_trials(deepcopy=False):
            self._study.enqueue_trial(_parameters(self._space.start))
        trial, space = self._study.ask(), self._space
        trial.suggest_float("learning_rate", *space.learning_rates, log=True)
        trial.suggest_categorical("patch", [_in_words(patch) for patch in space.patches])
        trial.suggest_float("augmentation", *space.augmentations)
        trial.suggest_categorical("width", list(space.widths))
        return trial, choice_of(trial)

    def finish(self, trial: Trial, dice: float) -> None:
        """Keep the Dice of a trial that came to its end."""
        self._study.tell(trial, dice)

    def prune(self, trial: Trial) -> None:
        """Keep that a trial was stopped because others were better at its step."""
        self._study.tell(trial, state=TrialState.PRUNED)

    def fail(self, trial: Trial, reason: str) -> None:
        """Keep that a trial failed for a reason of its own; it is not repeated."""
        trial.set_user_attr(_REASON, reason)
        self._study.tell(trial, state=TrialState.FAIL)


def choice_of(trial: Trial | FrozenTrial) -> Choice:
    """Return the settings of a trial."""
    k, j, i = map(int, trial.params["patch"].split("x"))
    values = trial.params
    return Choice(values["learning_rate"], (k, j, i), values["augmentation"], values["width"])


def _parameters(choice: Choice) -> dict[str, float | str]:
    return {
        "learning_rate": choice.learning_rate,
        "patch": _in_words(choice.patch),
        "augmentation": choice.augmentation,
        "width": choice.width,
    }


def _in_words(patch: Sequence[int]) -> str:
    return "x".join(map(str, patch))


@contextmanager
def opened_study(file: Path, config: RunConfig, space: SearchSpace) -> Iterator[Study]:
    """Yield the study of a file, made where it is not there; nobody else can open it meanwhile.

    Raises:
        ConfigError: it was begun with another recipe (shows the differing keys).
        OutputError: another process has it open, it is no study, or cannot be written.
    """
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    with _locked(file):
        _require_database(file)
        storage = optuna.storages.RDBStorage(f"sqlite:///{file.resolve()}")
        try:
            pruner = optuna.pruners.MedianPruner(_TRIALS_BEFORE_PRUNING, n_warmup_steps=config.train.validate_every)
            study = optuna.create_study(
                storage=storage, study_name=_NAME, direction="maximize", pruner=pruner, load_if_exists=True
            )
            begun = study.user_attrs.get(_CONFIG)
            if begun is None:
                study.set_user_attr(_CONFIG, config.model_dump_json())
            else:
                _require_same(file, parse_config(json.loads(begun), source=str(file)), config)
            yield Study(study, space, config.seed)
        finally:
            storage.remove_session()
            storage.engine.dispose()


def _require_same(file: Path, begun: RunConfig, config: RunConfig) -> None:
    differing = config_differences(begun, config)
    if differing:
        raise ConfigError(
            f"{file}: the study was begun with other settings: {'; '.join(differing)}; use those, or begin another "
            "with output="
        )


def _require_database(file: Path) -> None:
    """Refuse a file that is no SQLite database."""
    if not file.exists():
        return
    try:
        connection = sqlite3.connect(file)
        try:
            connection.execute("PRAGMA schema_version").fetchone()
        finally:
            connection.close()
    except sqlite3.Error as error:
        raise OutputError(f"{file}: no study that can be read ({error}); name another with --study") from error


@contextmanager
def _locked(file: Path) -> Iterator[None]:
    """Hold the study: a second process would take the running trial of the first for a killed one."""
    path = file.with_name(f"{file.name}.lock")
    try:
        lock = path.open("w")
    except OSError as error:
        raise OutputError(f"{path}: cannot be written ({error.strerror or error}); name another --study") from error
    with lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise OutputError(f"{file}: another process works on this study; wait for it, or set output=") from error
        yield
