"""Training on synthetic cases: what a run writes, that it learns, repeats and continues to the bit."""

from __future__ import annotations

import csv
import errno
import json
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from brats_seg.cli import run
from brats_seg.config import load_config
from brats_seg.data.nifti import read_label_map
from brats_seg.errors import WorkError
from brats_seg.networks.compute import choose_compute
from brats_seg.networks.fusing import make_norms_fusible
from brats_seg.networks.weights import load_tensors
from brats_seg.preprocessing.store import open_store
from brats_seg.training.folds import divide, folds_of_store
from brats_seg.training.loop import Trainer
from brats_seg.training.validation import Scores

WEIGHTS = ("model.safetensors", "last.safetensors")


class Silent:
    """A watcher that remembers what it was told."""

    def __init__(self) -> None:
        self.scores: dict[int, dict[str, float]] = {}
        self.losses: dict[int, float] = {}

    def stepped(self, step: int, loss: float | None) -> None:
        if loss is not None:
            self.losses[step] = loss

    def validated(self, step: int, scores: dict[str, float]) -> None:
        self.scores[step] = scores

    def said(self, line: str) -> None:
        raise AssertionError(line)


def words(recipe: Path, store: Path, output: Path, *more: str) -> list[str]:
    return ["train", str(recipe), f"data.store={store}", f"output={output}", "--quiet", *more]


def metrics_of(folder: Path) -> list[dict[str, str]]:
    return list(csv.DictReader((folder / "metrics.csv").read_text(encoding="utf-8").splitlines()))


def trainer(
    recipe: Path, store: Path, folder: Path, *overrides: str, device: str = "cpu", precision: str = "fp32"
) -> tuple[Trainer, Silent]:
    config = load_config(str(recipe), [f"data.store={store}", *overrides])
    opened = open_store(store)
    training, validation = divide(opened, folds_of_store(opened, config.data), 0)
    watcher = Silent()
    compute = choose_compute(device, precision, 1)
    return Trainer(config, opened, training, validation, folder, compute, watcher), watcher


def test_run_folder_holds_everything_that_prediction_and_a_repeat_need(tiny_run: Path) -> None:
    names = {path.name for path in tiny_run.iterdir()}
    assert names >= {
        "config.yaml",
        "run.json",
        "split.json",
        "metrics.csv",
        "curves.png",
        "state",
        "validation",
        *WEIGHTS,
    }
    held_out = json.loads((tiny_run / "split.json").read_text())["folds"][0]
    validation = tiny_run / "validation"
    assert (validation / "cases.txt").read_text().split() == held_out
    assert {path.name for path in validation.glob("*.nii.gz")} == {f"{name}.nii.gz" for name in held_out}


def test_first_last_and_every_nth_step_are_validated(tiny_run: Path) -> None:
    rows = metrics_of(tiny_run)
    assert [row["step"] for row in rows if row["dice_mean"]] == ["1", "3", "6"]
    assert [row["step"] for row in rows] == ["1", "2", "3", "4", "6"]


def test_equal_runs_give_equal_bytes_and_config_yaml_alone_repeats_one(
    tiny_run: Path, phantom_store: Path, tmp_path: Path
) -> None:
    again = tmp_path / "again"
    assert run(["train", str(tiny_run / "config.yaml"), f"output={again}", "--quiet"]) == 0
    for name in WEIGHTS:
        assert (again / name).read_bytes() == (tiny_run / name).read_bytes()


def test_another_seed_gives_other_weights(tiny_run: Path, tmp_path: Path) -> None:
    assert run(["train", str(tiny_run / "config.yaml"), f"output={tmp_path / 'x'}", "seed=1", "--quiet"]) == 0
    assert (tmp_path / "x" / WEIGHTS[1]).read_bytes() != (tiny_run / WEIGHTS[1]).read_bytes()


def test_run_that_stopped_between_checkpoints_continues_to_the_bit(
    tiny_recipe: Path, tiny_run: Path, phantom_store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    step = Trainer._step

    def stop_at_step_four(self: Trainer, number: int, samples: Any) -> None:
        if number == 4:
            raise KeyboardInterrupt
        step(self, number, samples)

    monkeypatch.setattr(Trainer, "_step", stop_at_step_four)
    assert run(words(tiny_recipe, phantom_store, tmp_path / "run")) == 130
    monkeypatch.undo()
    assert run(words(tiny_recipe, phantom_store, tmp_path / "run", "--resume")) == 0
    for name in WEIGHTS:
        assert (tmp_path / "run" / name).read_bytes() == (tiny_run / name).read_bytes()
    columns = ("step", "loss", "dice_mean")
    tables = [metrics_of(folder) for folder in (tmp_path / "run", tiny_run)]
    assert [[row[c] for c in columns] for row in tables[0]] == [[row[c] for c in columns] for row in tables[1]]


SUPERVISED_WITH_DROPOUT = [
    "network.arguments.deep_supervision=true",
    "network.arguments.deep_supr_num=1",
    "network.arguments.dropout=0.2",
    "train.optimizer.name=sgd",
    "train.loss.name=dice_focal",
]
SLICES_WITH_BATCH_NORM = [
    "network.spatial_dims=2",
    "network.neighbours=1",
    "network.arguments.norm_name=batch",
    "network.arguments.dropout=0.2",
    "train.patch=[24,1,16]",
    "train.optimizer.name=adamax",
    "train.augmentation.elastic=0.5",
    "inference.window=null",
    "inference.batch=32",
]


@pytest.mark.parametrize("overrides", [SUPERVISED_WITH_DROPOUT, SLICES_WITH_BATCH_NORM], ids=["heads", "slices"])
def test_dropout_heads_and_slices_continue_to_the_bit(
    tiny_recipe: Path, phantom_store: Path, tmp_path: Path, overrides: list[str]
) -> None:
    straight, _ = trainer(tiny_recipe, phantom_store, tmp_path / "straight", *overrides)
    stopped, watcher = trainer(tiny_recipe, phantom_store, tmp_path / "stopped", *overrides)
    for one in (straight, stopped):
        one.run_folder.mkdir()
    straight.run()

    def stop_at_step_four(step: int, loss: float | None) -> None:
        if step == 4:
            raise KeyboardInterrupt

    watcher.stepped = stop_at_step_four  # type: ignore[method-assign]
    with pytest.raises(KeyboardInterrupt):
        stopped.run()
    torch.manual_seed(99)
    resumed, _ = trainer(tiny_recipe, phantom_store, tmp_path / "stopped", *overrides)
    assert resumed.resume()
    resumed.run()
    assert resumed.network.training
    for name in WEIGHTS:
        assert (tmp_path / "stopped" / name).read_bytes() == (tmp_path / "straight" / name).read_bytes()


@pytest.mark.slow
def test_killed_process_continues_to_the_bit(tiny_recipe: Path, phantom_store: Path, tmp_path: Path) -> None:
    def command(output: Path, *more: str) -> list[str]:
        return [sys.executable, "-m", "brats_seg", *words(tiny_recipe, phantom_store, output, "train.steps=60", *more)]

    subprocess.run(command(tmp_path / "straight"), check=True)
    for attempt, seconds in enumerate((0.3, 0.9)):
        process = subprocess.Popen(command(tmp_path / "killed", "--resume"))
        while not list((tmp_path / "killed").glob("state/step_*")) and process.poll() is None:
            time.sleep(0.05)
        time.sleep(seconds)
        process.send_signal(signal.SIGKILL)
        process.wait()
        assert attempt or list((tmp_path / "killed").glob("state/step_*"))
    subprocess.run(command(tmp_path / "killed", "--resume"), check=True)
    for name in WEIGHTS:
        assert (tmp_path / "killed" / name).read_bytes() == (tmp_path / "straight" / name).read_bytes()


def test_finished_run_says_so_and_is_left_alone(
    tiny_run: Path, tiny_recipe: Path, phantom_store: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = (tiny_run / "metrics.csv").read_bytes()
    loud = [word for word in words(tiny_recipe, phantom_store, tiny_run, "--resume") if word != "--quiet"]
    assert run(loud) == 0
    assert "finished already at step 6" in capsys.readouterr().out
    assert (tiny_run / "metrics.csv").read_bytes() == before


def test_resume_without_a_state_starts_from_step_zero_and_says_so(
    tiny_recipe: Path, tiny_run: Path, phantom_store: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    loud = [w for w in words(tiny_recipe, phantom_store, tmp_path / "run", "--resume") if w != "--quiet"]
    assert run(loud) == 0
    assert "starting from step 0" in capsys.readouterr().out
    assert (tmp_path / "run" / WEIGHTS[1]).read_bytes() == (tiny_run / WEIGHTS[1]).read_bytes()


def test_run_whose_disk_was_full_continues_to_the_bit_once_there_is_room(
    tiny_recipe: Path,
    tiny_run: Path,
    phantom_store: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    write_bytes = Path.write_bytes

    def fill_up_at_step_four(path: Path, data: bytes) -> int:
        if "step_00000004" in str(path):
            raise OSError(errno.ENOSPC, "No space left on device")
        return write_bytes(path, data)

    monkeypatch.setattr(Path, "write_bytes", fill_up_at_step_four)
    assert run(words(tiny_recipe, phantom_store, tmp_path / "run")) == 2
    error = capsys.readouterr().err
    assert "No space left on device" in error
    assert error.count("\n") == 1
    monkeypatch.undo()
    with (tmp_path / "run" / "metrics.csv").open("a") as metrics:
        metrics.write("4")  # a row that was cut off
    assert run(words(tiny_recipe, phantom_store, tmp_path / "run", "--resume")) == 0
    for name in WEIGHTS:
        assert (tmp_path / "run" / name).read_bytes() == (tiny_run / name).read_bytes()
    assert [row["step"] for row in metrics_of(tmp_path / "run")] == [row["step"] for row in metrics_of(tiny_run)]


def test_damaged_state_is_passed_over_aloud_and_the_one_before_continues_to_the_bit(
    tiny_recipe: Path, tiny_run: Path, phantom_store: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = Path(shutil.copytree(tiny_run, tmp_path / "run"))
    (folder / "last.safetensors").unlink()
    state = folder / "state" / "step_00000006" / "weights.safetensors"
    state.write_bytes(state.read_bytes()[:-1] + b"x")
    loud = [word for word in words(tiny_recipe, phantom_store, folder, "--resume") if word != "--quiet"]
    assert run(loud) == 0
    assert "step_00000006: damaged (weights.safetensors differs from its hash); the previous" in capsys.readouterr().out
    for name in WEIGHTS:
        assert (folder / name).read_bytes() == (tiny_run / name).read_bytes()


def test_resume_on_another_store_is_refused(
    tiny_recipe: Path, tiny_run: Path, phantom_store: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = Path(shutil.copytree(tiny_run, tmp_path / "run"))
    record = json.loads((folder / "run.json").read_text())
    split = json.loads((folder / "split.json").read_text())
    (folder / "run.json").write_text(json.dumps({**record, "store_settings": "0123456789abcdef"}))
    assert run(words(tiny_recipe, phantom_store, folder, "--resume")) == 2
    assert "store of other settings (0123456789ab)" in capsys.readouterr().err
    (folder / "run.json").write_text(json.dumps(record))
    for change, message in (
        ([["gone"], *split["folds"]], "7 cases in its folds, .* now gives 6 .gone"),
        (split["folds"][::-1], "the same cases, divided differently"),
    ):
        (folder / "split.json").write_text(json.dumps({"folds": change}))
        assert run(words(tiny_recipe, phantom_store, folder, "--resume")) == 2
        assert re.search(message, capsys.readouterr().err)


def test_resume_with_other_settings_shows_the_keys(
    tiny_recipe: Path, tiny_run: Path, phantom_store: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(words(tiny_recipe, phantom_store, tiny_run, "--resume", "train.batch=1", "seed=3")) == 2
    message = capsys.readouterr().err
    assert "seed: 0 -> 3" in message
    assert "train.batch: 2 -> 1" in message


def test_present_run_is_not_replaced_unasked(
    tiny_recipe: Path, tiny_run: Path, phantom_store: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(words(tiny_recipe, phantom_store, tiny_run)) == 2
    assert "--resume" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["train.step=3"], "did you mean train.steps?"),
        (["train.patch=[20, 24, 16]"], "the nearest is [16, 24, 16]"),
        (["data.fold=7"], "fold"),
        (["data.num_folds=9"], "fold"),
        (["data.store=/nowhere"], "nowhere"),
        (["data.split=/nowhere.json"], "nowhere.json"),
        (["train.device=cuda:7"], "'cuda:7' is not there"),
        (["train.loss.name=focall"], "unknown loss"),
        (
            ["train.sampling.region_weights={EX: 2}"],
            "region_weights.EX: the store has no such region; did you mean ET?",
        ),
        (["train.sampling.region_weights={ET: -2}"], "region_weights.ET=-2.0: expected at least 0"),
        (["network.name=unet"], "unet has no such argument"),
    ],
)
def test_wrong_settings_are_one_error_and_nothing_is_written(
    overrides: list[str],
    message: str,
    tiny_recipe: Path,
    phantom_store: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert run([*words(tiny_recipe, phantom_store, tmp_path / "run"), *overrides]) == 2
    error = capsys.readouterr().err
    assert message in error
    assert error.startswith("error: ")
    assert not (tmp_path / "run").exists()


def test_run_inside_the_store_is_refused(
    tiny_recipe: Path, phantom_store: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(words(tiny_recipe, phantom_store, phantom_store / "run")) == 2
    assert "inside the input" in capsys.readouterr().err
    assert not (phantom_store / "run").exists()


def test_store_must_be_named(tiny_recipe: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["train", str(tiny_recipe), "--quiet"]) == 2
    assert "data.store is not set" in capsys.readouterr().err


def test_several_processes_without_torchrun_are_refused_in_one_line(
    tiny_recipe: Path,
    phantom_store: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv("WORLD_SIZE", "2")
    assert run(words(tiny_recipe, phantom_store, tmp_path / "run")) == 2
    error = capsys.readouterr().err
    assert "start them with torchrun" in error
    assert error.count("\n") == 1


def test_dry_run_measures_and_writes_nothing(
    tiny_recipe: Path, phantom_store: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    loud = [w for w in words(tiny_recipe, phantom_store, tmp_path / "run", "--dry-run") if w != "--quiet"]
    assert run(loud) == 0
    out = capsys.readouterr().out
    assert "s a step" in out
    assert "of it augmentation" in out
    assert "MB a second from the store" in out
    assert "memory: " in out
    assert "an epoch (every case once, 2 steps)" in out
    assert "of cases on disk, memory-mapped" in out
    assert "nothing was written" in out
    assert not (tmp_path / "run").exists()


def test_dry_run_of_slices_counts_every_slice_in_an_epoch(
    tiny_recipe: Path, phantom_store: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    overrides = ["network.spatial_dims=2", "train.patch=[1,24,16]", "inference.window=null", "train.batch=50"]
    loud = [w for w in words(tiny_recipe, phantom_store, tmp_path, "--dry-run", *overrides) if w != "--quiet"]
    assert run(loud) == 0
    store = open_store(phantom_store)
    training, _ = divide(store, folds_of_store(store, load_config(str(tiny_recipe)).data), 0)
    num_slices = sum(case.image().shape[1] for case in training)
    assert f"an epoch (every slice once, {-(-num_slices // 50)} steps)" in capsys.readouterr().out


def test_recomputed_activations_give_the_same_weights_under_the_same_names(
    tiny_recipe: Path, tiny_run: Path, phantom_store: Path, tmp_path: Path
) -> None:
    more = ["train.checkpoint_activations=true", "train.validate_every=6"]
    assert run(words(tiny_recipe, phantom_store, tmp_path / "x", *more)) == 0
    first, second = (load_tensors(folder / "last.safetensors") for folder in (tiny_run, tmp_path / "x"))
    assert list(first) == list(second)
    for name, weight in first.items():
        torch.testing.assert_close(second[name], weight, rtol=1e-4, atol=1e-6)


def test_parts_of_a_batch_give_the_gradient_of_their_mean_loss(
    tiny_recipe: Path, phantom_store: Path, tmp_path: Path
) -> None:
    gradients = []
    for parts in (1, 2):
        learner, _ = trainer(tiny_recipe, phantom_store, tmp_path, f"train.accumulate={parts}")
        learner.loss = torch.nn.BCEWithLogitsLoss()  # a mean over voxels: equal parts give the whole's gradient
        learner._step(1, learner.reader.read(1, 2))
        gradients.append([p.grad.clone() for p in learner.network.parameters() if p.grad is not None])
    assert len(gradients[0]) > 5
    for whole, in_parts in zip(*gradients, strict=True):
        assert torch.allclose(whole, in_parts, atol=1e-6)


def test_compiled_network_keeps_the_names_of_its_weights(
    tiny_recipe: Path, phantom_store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = []

    class Compiled(torch.nn.Module):
        def __init__(self, network: torch.nn.Module, **_: Any) -> None:
            super().__init__()
            self._orig_mod = network  # what torch.compile does: every name would gain this prefix

        def forward(self, image: torch.Tensor) -> torch.Tensor:
            calls.append(image.shape)
            result: torch.Tensor = self._orig_mod(image)
            return result

    plain, _ = trainer(tiny_recipe, phantom_store, tmp_path, "train.steps=1")
    make_norms_fusible(plain.network)  # as in whatever is compiled: the same bits
    monkeypatch.setattr(torch, "compile", Compiled)
    learner, _ = trainer(tiny_recipe, phantom_store, tmp_path, "train.steps=1", "train.compile=true")
    plain.run()
    bytes_of_plain = (tmp_path / WEIGHTS[1]).read_bytes()
    learner.run()
    assert len(calls) == 1
    assert (tmp_path / WEIGHTS[1]).read_bytes() == bytes_of_plain


def test_out_of_memory_is_one_line_that_says_what_to_try(
    tiny_recipe: Path, phantom_store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    learner, _ = trainer(tiny_recipe, phantom_store, tmp_path)

    def fail(*_: object) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 GiB")

    monkeypatch.setattr(learner, "_logits", fail)
    expected = (
        r"out of memory: 2 patches of 16 x 24 x 16, fp32, on cpu \(.*\); try train\.accumulate=2 .*, "
        r"or train\.batch=1, or train\.patch=\[16, 16, 16\] \(CUDA out of memory. Tried to allocate 20.00 GiB\)"
    )
    with pytest.raises(WorkError, match=expected):
        learner.run()
    with pytest.raises(WorkError, match="out of memory"):
        learner.rehearse()


def test_other_errors_of_the_device_are_not_called_out_of_memory(
    tiny_recipe: Path, phantom_store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    learner, _ = trainer(tiny_recipe, phantom_store, tmp_path)

    def fail(*_: object) -> None:
        raise RuntimeError("an illegal instruction was encountered")

    monkeypatch.setattr(learner, "_logits", fail)
    with pytest.raises(RuntimeError, match="illegal instruction"):
        learner.run()


@pytest.mark.parametrize("where", ["disk", "ram"])
def test_place_of_the_cases_does_not_change_the_weights(
    where: str, tiny_run: Path, tiny_recipe: Path, phantom_store: Path, tmp_path: Path
) -> None:
    learner, _ = trainer(tiny_recipe, phantom_store, tmp_path, f"train.store_device={where}")
    learner.run()
    assert (tmp_path / WEIGHTS[1]).read_bytes() == (tiny_run / WEIGHTS[1]).read_bytes()


def test_loss_that_is_not_finite_names_step_cases_and_what_to_try(
    tiny_recipe: Path, phantom_store: Path, tmp_path: Path
) -> None:
    broken, _ = trainer(tiny_recipe, phantom_store, tmp_path)
    with torch.no_grad():
        next(broken.network.parameters()).fill_(float("nan"))
    with pytest.raises(WorkError, match=r"step 1: the loss is nan \(cases BraTS20_Training_\d+, .*learning_rate"):
        broken.run()
    assert not (tmp_path / "state").exists()


def test_training_learns_where_the_tumour_is(tiny_recipe: Path, phantom_store: Path, tmp_path: Path) -> None:
    overrides = ["train.steps=60", "train.validate_every=60", "train.optimizer.learning_rate=0.02", "train.ema=0"]
    overrides += ["train.patch=[32, 48, 32]", "network.arguments.filters=[8, 16, 32]", "train.schedule.warmup_steps=5"]
    learner, _ = trainer(tiny_recipe, phantom_store, tmp_path, *overrides)
    case = max(learner.pool.cases, key=lambda case: np.count_nonzero(case.label_map()))
    tumour = torch.from_numpy(np.asarray(case.label_map()) > 0)

    def contrast() -> float:
        whole_tumour = learner.predictor.probabilities(case.image(), case.mean, case.sd)[2]
        return (whole_tumour[tumour].mean() - whole_tumour[~tumour].mean()).item()

    assert abs(contrast()) < 0.05
    learner.run()
    assert contrast() > 0.2


def test_early_stopping_ends_a_run_that_no_longer_improves(
    tiny_recipe: Path, phantom_store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stuck = Scores(dice={"mean": 0.5}, iou={"mean": 0.3})
    monkeypatch.setattr("brats_seg.training.loop.mean_scores", lambda *_: stuck)
    overrides = ["train.steps=40", "train.validate_every=1", "train.early_stopping=3"]
    stopped, watcher = trainer(tiny_recipe, phantom_store, tmp_path, *overrides)
    progress = stopped.run()
    assert (progress.step, progress.best_step, progress.is_finished) == (4, 1, True)
    assert list(watcher.scores) == [1, 2, 3, 4]


def test_cases_in_no_fold_are_named(
    tiny_recipe: Path, phantom_store: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    names = [case.name for case in open_store(phantom_store).cases]
    (tmp_path / "folds.json").write_text(json.dumps({"folds": [names[:2], names[2:5]]}), encoding="utf-8")
    overrides = [f"data.split={tmp_path / 'folds.json'}", "train.steps=1"]
    loud = [w for w in words(tiny_recipe, phantom_store, tmp_path / "run", *overrides) if w != "--quiet"]
    assert run(loud) == 0
    assert f"1 cases of the store are in no fold of the split and are left out: {names[5]}" in capsys.readouterr().out


def test_all_folds_give_one_prediction_of_every_case(tiny_recipe: Path, phantom_store: Path, tmp_path: Path) -> None:
    overrides = ["data.fold=all", "train.steps=1"]
    assert run(words(tiny_recipe, phantom_store, tmp_path / "cv", *overrides)) == 0
    joined = tmp_path / "cv" / "validation"
    assert sorted((joined / "cases.txt").read_text().split()) == [case.name for case in open_store(phantom_store).cases]
    assert len(list(joined.glob("*.nii.gz"))) == 6
    assert len((joined / "cases.csv").read_text().splitlines()) == 1 + sum(
        len((tmp_path / "cv" / f"fold{n}" / "validation" / "cases.csv").read_text().splitlines()) - 1 for n in range(3)
    )


def test_no_fold_learns_from_every_case_and_holds_out_none(
    tiny_recipe: Path, phantom_store: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    overrides = ["data.fold=none", "train.steps=2", "data.num_folds=9"]  # more folds than patients: none is made
    loud = [w for w in words(tiny_recipe, phantom_store, tmp_path / "run", *overrides) if w != "--quiet"]
    assert run(loud) == 0
    assert "fold none: 6 training cases, 0 held out" in capsys.readouterr().out
    assert (tmp_path / "run" / "model.safetensors").is_file()
    assert len((tmp_path / "run" / "validation" / "cases.csv").read_text().splitlines()) == 1
    assert run([*loud, "--resume"]) == 0
    assert "finished already at step 2" in capsys.readouterr().out


def test_early_stopping_needs_held_out_cases(
    tiny_recipe: Path, phantom_store: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    overrides = ["data.fold=none", "train.early_stopping=2"]
    assert run(words(tiny_recipe, phantom_store, tmp_path / "run", *overrides)) == 2
    assert "early_stopping needs held-out cases, and data.fold=none holds out none" in capsys.readouterr().err


def test_validation_label_maps_lie_on_the_original_grid(tiny_run: Path, phantom_store: Path) -> None:
    case = next(c for c in open_store(phantom_store).cases if (tiny_run / "validation" / f"{c.name}.nii.gz").exists())
    label_map, header = read_label_map(tiny_run / "validation" / f"{case.name}.nii.gz")
    assert label_map.shape == case.shape
    assert set(np.unique(label_map)) <= {0, 1, 2, 4}
    assert header.raw[252:328] == case.header_bytes[252:328]  # qform, sform and their codes


@pytest.mark.gpu
@pytest.mark.filterwarnings("ignore:Synchronization debug mode is a prototype")
@pytest.mark.parametrize("precision", ["bf16", "fp16"])
@pytest.mark.parametrize("where", ["disk", "device"])
def test_step_on_a_gpu_never_waits_for_it(
    precision: str, where: str, tiny_recipe: Path, phantom_store: Path, tmp_path: Path
) -> None:
    settings = ["train.compile=false", f"train.store_device={where}", "train.augmentation.rotation=0.5"]
    learner, _ = trainer(tiny_recipe, phantom_store, tmp_path, *settings, device="cuda", precision=precision)
    for step, samples in learner._batches(1):
        torch.cuda.set_sync_debug_mode("default" if step == 1 else "error")  # the first step builds what others use
        try:
            learner._step(step, samples)
        finally:
            torch.cuda.set_sync_debug_mode("default")
    assert torch.isfinite(torch.stack(learner._interval.losses)).all()


@pytest.mark.gpu
@pytest.mark.parametrize("precision", ["bf16", "fp16"])
def test_gpu_run_trains_validates_and_resumes(
    precision: str, tiny_recipe: Path, phantom_store: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    settings = [
        "train.device=cuda",
        f"train.precision={precision}",
        "train.compile=false",
        "train.augmentation.blur=0.5",
    ]
    assert run([*words(tiny_recipe, phantom_store, tmp_path / "run"), *settings]) == 0
    assert (tmp_path / "run" / "validation" / "cases.csv").is_file()
    loud = [word for word in words(tiny_recipe, phantom_store, tmp_path / "run", "--resume") if word != "--quiet"]
    assert run([*loud, *settings]) == 0
    assert "finished already at step 6" in capsys.readouterr().out


@pytest.mark.gpu
def test_gpu_that_is_too_small_is_one_line(tiny_recipe: Path, phantom_store: Path, tmp_path: Path) -> None:
    settings = ["train.patch=[96, 96, 96]", "train.compile=false"]
    learner, _ = trainer(tiny_recipe, phantom_store, tmp_path, *settings, device="cuda")
    torch.cuda.empty_cache()
    torch.cuda.set_per_process_memory_fraction(1e-4)
    try:
        with pytest.raises(WorkError, match=r"out of memory: 2 patches of 96 x 96 x 96, .* GiB free\); try "):
            learner.run()
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0)
