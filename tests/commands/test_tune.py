"""Tuning: which trials run, when they stop, and what comes of them."""

from __future__ import annotations

import csv
from collections.abc import Callable
from pathlib import Path
from typing import Any

import optuna
import pytest

from brats_seg.cli import run
from brats_seg.commands import tune as module
from brats_seg.commands.study import opened_study
from brats_seg.config import RunConfig, load_config
from brats_seg.errors import WorkError
from brats_seg.training.tuning import search_space

Dice = Callable[[int, int], float]


class Played:
    """Trainings that are not run: their Dice is a function of trial and step; what was asked for is kept."""

    def __init__(self, dice: Dice) -> None:
        self.dice = dice
        self.configs: dict[int, RunConfig] = {}

    def __call__(self, config: RunConfig, session: Any) -> list[float]:
        number = int(Path(config.output).name.removeprefix("trial"))
        self.configs[number] = config
        for step in (1, 2, 3, 6):
            session.heard(step, {"dice_mean": "" if step == 2 else self.dice(number, step)})
        return [self.dice(number, 6)]


@pytest.fixture
def play(monkeypatch: pytest.MonkeyPatch) -> Callable[[Dice], Played]:
    def played(dice: Dice) -> Played:
        trainings = Played(dice)
        monkeypatch.setattr(module, "train_fold", trainings)
        monkeypatch.setattr(module, "_mean_dice", lambda rows: rows[0])
        return trainings

    return played


@pytest.fixture
def words(tiny_recipe: Path, phantom_store: Path, tmp_path: Path) -> list[str]:
    return ["tune", str(tiny_recipe), f"data.store={phantom_store}", f"output={tmp_path / 'out'}"]


def states(file: Path) -> list[str]:
    storage = optuna.storages.RDBStorage(f"sqlite:///{file}")
    found = [t.state.name for t in optuna.load_study(study_name=None, storage=storage).trials]
    storage.remove_session()
    storage.engine.dispose()
    return found


def test_trials_are_runs_and_the_best_becomes_a_recipe(
    words: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run([*words, "train.steps=2", "train.validate_every=1", "--trials", "2"]) == 0
    lines, out = capsys.readouterr().out.splitlines(), tmp_path / "out"
    dice = []
    for number in (0, 1):
        folder = out / f"trial{number}"
        assert {"config.yaml", "model.safetensors", "metrics.csv", "curves.png"} <= {p.name for p in folder.iterdir()}
        with (folder / "validation" / "cases.csv").open() as file:
            rows = list(csv.DictReader(file))
        dice.append(sum(float(row["dice"]) for row in rows) / len(rows))
        assert f"trial {number}: held-out Dice {dice[-1]:.4f}" in lines
    best = dice.index(max(dice))
    assert lines[-1].startswith(f"wrote {out / 'best.yaml'} (trial {best})")
    assert lines[-1].endswith(f"next: brats-seg train {out / 'best.yaml'}")
    own, tuned = (load_config(str(p)).model_dump() for p in (out / f"trial{best}" / "config.yaml", out / "best.yaml"))
    assert tuned == own | {"output": str(out / "best")}
    assert run(["train", str(out / "best.yaml"), "--dry-run", "--quiet"]) == 0


def test_first_trial_is_the_recipe_and_best_yaml_holds_differences_alone(
    words: list[str], tmp_path: Path, play: Callable[[Dice], Played]
) -> None:
    trainings = play(lambda number, step: 0.5 - 0.1 * number)
    assert run([*words, "--trials", "2"]) == 0
    recipe = load_config(words[1]).model_dump(exclude={"output", "data"})
    assert trainings.configs[0].model_dump(exclude={"output", "data"}) == recipe
    assert trainings.configs[1].model_dump(exclude={"output", "data"}) != recipe
    text = (tmp_path / "out" / "best.yaml").read_text()
    assert text.startswith("# Trial 0, the best of 2: learning rate 0.001, patch 16 x 24 x 16, augmentation x 1.00")
    assert "momentum" not in text  # a default


def test_stopped_study_tries_what_it_would_have_tried_without_the_stop(
    words: list[str], tmp_path: Path, play: Callable[[Dice], Played], capsys: pytest.CaptureFixture[str]
) -> None:
    def chosen(trainings: Played, numbers: list[int]) -> list[dict[str, Any]]:
        return [trainings.configs[n].model_dump(exclude={"output"}) for n in numbers]

    whole = play(lambda number, step: 0.1 * step)
    assert run([*words[:-1], f"output={tmp_path / 'whole'}", "--trials", "5"]) == 0

    def killed_in_the_third(number: int, step: int) -> float:
        if (number, step) == (2, 3):
            raise KeyboardInterrupt
        return 0.1 * step

    before = play(killed_in_the_third)
    assert run([*words, "--trials", "5"]) == 130
    after = play(lambda number, step: 0.1 * step)
    capsys.readouterr()
    assert run([*words, "--trials", "5"]) == 0
    assert "trial 2: was killed; marked as failed, and repeated" in capsys.readouterr().out
    assert chosen(whole, [0, 1, 2, 3, 4]) == chosen(before, [0, 1]) + chosen(after, [3, 4, 5])
    assert len({str(one) for one in chosen(whole, [0, 1, 2, 3, 4])}) == 5
    expected = ["COMPLETE", "COMPLETE", "FAIL", "COMPLETE", "COMPLETE", "COMPLETE"]
    assert states(tmp_path / "out" / "study.db") == expected


def test_recipe_s_own_trial_is_repeated_after_a_kill(words: list[str], play: Callable[[Dice], Played]) -> None:
    def killed(number: int, step: int) -> float:
        raise KeyboardInterrupt

    play(killed)
    assert run([*words, "--trials", "1"]) == 130
    again = play(lambda number, step: 0.5)
    assert run([*words, "--trials", "1"]) == 0
    recipe = load_config(words[1]).model_dump(exclude={"output", "data"})
    assert again.configs[1].model_dump(exclude={"output", "data"}) == recipe


def test_trial_below_the_median_at_its_step_is_stopped(
    words: list[str], tmp_path: Path, play: Callable[[Dice], Played], capsys: pytest.CaptureFixture[str]
) -> None:
    play(lambda number, step: 0.5 if number < 4 else 0.4 if number == 4 else 0.6)
    assert run([*words, "--trials", "6"]) == 0
    out = capsys.readouterr().out
    assert "trial 4: stopped: others were better at this step" in out
    assert "trial 4: step 3 of 6, Dice 0.400" in out
    assert "trial 4: step 6" not in out
    assert "5 trials to the end, 1 stopped early, 0 failed" in out
    assert states(tmp_path / "out" / "study.db") == ["COMPLETE"] * 4 + ["PRUNED", "COMPLETE"]
    assert (tmp_path / "out" / "best.yaml").read_text().startswith("# Trial 5")


def test_trial_that_fails_is_noted_and_the_next_one_begins(
    words: list[str], play: Callable[[Dice], Played], capsys: pytest.CaptureFixture[str]
) -> None:
    def dice(number: int, step: int) -> float:
        if number == 0:
            raise WorkError("step 3: the loss is nan")
        return 0.5

    play(dice)
    assert run([*words, "--trials", "2"]) == 0
    out = capsys.readouterr().out
    assert "trial 0: failed: step 3: the loss is nan" in out
    assert "1 trials to the end, 0 stopped early, 1 failed" in out
    assert run([*words, "--trials", "2"]) == 0
    assert "the study has 2 trials already; --trials asks for 2" in capsys.readouterr().out


def test_study_without_any_result_is_one_line(
    words: list[str], play: Callable[[Dice], Played], capsys: pytest.CaptureFixture[str]
) -> None:
    def dice(number: int, step: int) -> float:
        raise WorkError("out of memory: try train.batch=1")

    play(dice)
    assert run([*words, "--trials", "2"]) == 1
    error = capsys.readouterr().err
    assert "none of 2 trials came to its end; out of memory: try train.batch=1" in error
    assert error.count("\n") == 1


def test_study_of_other_settings_shows_the_keys(
    words: list[str], play: Callable[[Dice], Played], capsys: pytest.CaptureFixture[str]
) -> None:
    play(lambda number, step: 0.5)
    assert run([*words, "--trials", "1"]) == 0
    assert run([*words, "--trials", "2", "train.steps=7"]) == 2
    assert "the study was begun with other settings: train.steps: 6 -> 7; use those, or" in capsys.readouterr().err


def test_study_can_lie_elsewhere_and_its_trials_are_not_taken_for_those_of_another(
    words: list[str], tmp_path: Path, play: Callable[[Dice], Played], capsys: pytest.CaptureFixture[str]
) -> None:
    play(lambda number, step: 0.5)
    (tmp_path / "out" / "trial0").mkdir(parents=True)
    assert run([*words, "--trials", "1"]) == 2
    assert "holds trials whose study is not" in capsys.readouterr().err
    (tmp_path / "out" / "trial0").rmdir()
    assert run([*words, "--trials", "1", "--study", str(tmp_path / "studies" / "one.db")]) == 0
    assert states(tmp_path / "studies" / "one.db") == ["COMPLETE"]
    assert not (tmp_path / "out" / "study.db").exists()


def test_second_process_on_a_study_is_refused(
    words: list[str], tmp_path: Path, play: Callable[[Dice], Played], capsys: pytest.CaptureFixture[str]
) -> None:
    play(lambda number, step: 0.5)
    config = load_config(words[1])
    (tmp_path / "out").mkdir()
    with opened_study(tmp_path / "out" / "study.db", config, search_space(config)):
        assert run([*words, "--trials", "1"]) == 2
    assert "another process works on this study; wait for it" in capsys.readouterr().err


def test_missing_optuna_is_one_line_with_the_remedy(
    words: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(module, "find_spec", lambda name: None)
    assert run(words) == 2
    assert "pip install optuna (it comes with brats_seg[tune])" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (["data.fold=all"], "data.fold=all: tune compares trials on one held-out fold; use a number, such as 0"),
        (["data.fold=9"], "fold 9: there are 3 folds, 0 to 2"),
        (["train.patch=[16,16,17]"], "each edge must be a multiple of"),
        (["network.arguments.filters=[4]"], "MONAI's dynunet refuses them"),
        (["data.store=null"], "data.store is not set"),
    ],
)
def test_settings_that_no_trial_could_use_are_refused_and_nothing_is_written(
    more: list[str], message: str, words: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run([*words, *more]) == 2
    assert message in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_file_that_is_no_study_is_refused_and_left_alone(
    words: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "study.db"
    file.write_bytes(b"no database " * 200)
    assert run([*words, "--trials", "1", "--study", str(file)]) == 2
    assert "no study that can be read (file is not a database)" in capsys.readouterr().err
    assert file.read_bytes() == b"no database " * 200


def test_folder_of_a_run_is_no_place_for_trials(
    words: list[str], tiny_run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = sorted(path.name for path in tiny_run.iterdir())
    assert run([*words[:-1], f"output={tiny_run}"]) == 2
    assert "holds a run; choose another folder" in capsys.readouterr().err
    assert sorted(path.name for path in tiny_run.iterdir()) == before


def test_several_processes_are_refused(
    words: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    import brats_seg.training.distributed as distributed

    monkeypatch.setattr(distributed, "processes_of_environment", lambda: distributed.Processes(count=2, rank=0))
    assert run(words) == 2
    assert "tune works in one process, and 2 were started" in capsys.readouterr().err
