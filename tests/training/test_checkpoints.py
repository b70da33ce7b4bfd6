"""Saved states: complete, verified, continued to the bit."""

from __future__ import annotations

import errno
import threading
from pathlib import Path

import pytest
import torch
from torch import nn

from brats_seg.config import OptimizerConfig
from brats_seg.errors import CheckpointError, OutputError
from brats_seg.training import checkpoints
from brats_seg.training.checkpoints import Progress, StateWriter, load_latest, save_state
from brats_seg.training.optimizers import OPTIMIZERS, build_optimizer


class Trained:
    """A small network, its average and its optimizer after some steps."""

    def __init__(self, num_steps: int = 0, optimizer: str = "adamw") -> None:
        torch.manual_seed(0)
        self.network, self.average = nn.Linear(3, 2), nn.Linear(3, 2)
        config = OptimizerConfig(name=optimizer, learning_rate=0.1)
        self.optimizer = build_optimizer(self.network.parameters(), config)
        self.step(num_steps)

    def step(self, count: int) -> None:
        for _ in range(count):
            self.optimizer.zero_grad()
            self.network(torch.ones(1, 3)).square().sum().backward()
            self.optimizer.step()

    def parts(self) -> tuple[nn.Module, nn.Module, torch.optim.Optimizer]:
        return self.network, self.average, self.optimizer


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_continued_state_takes_the_same_next_steps(tmp_path: Path, optimizer: str) -> None:
    straight, stopped, fresh = (Trained(steps, optimizer) for steps in (7, 4, 0))
    save_state(tmp_path, Progress(step=4, best_dice=0.5, latest={"ET": 0.1}), *stopped.parts())
    progress, damaged = load_latest(tmp_path, *fresh.parts())
    assert progress == Progress(step=4, best_dice=0.5, latest={"ET": 0.1})
    assert damaged == []
    fresh.step(3)
    assert torch.equal(fresh.network.weight, straight.network.weight)


def test_no_state_yet_is_no_error(tmp_path: Path) -> None:
    assert load_latest(tmp_path / "state", *Trained().parts()) == (None, [])


def test_only_the_last_two_states_are_kept(tmp_path: Path) -> None:
    for step in (5, 10, 15):
        save_state(tmp_path, Progress(step=step), *Trained(1).parts())
    assert sorted(path.name for path in tmp_path.iterdir()) == ["step_00000010", "step_00000015"]


@pytest.mark.parametrize("name", ["weights.safetensors", "optimizer.safetensors", "state.json"])
def test_damaged_state_falls_back_to_the_previous_and_says_so(tmp_path: Path, name: str) -> None:
    for step in (5, 10):
        save_state(tmp_path, Progress(step=step), *Trained(1).parts())
    path = tmp_path / "step_00000010" / name
    path.write_bytes(path.read_bytes()[:-3])
    progress, damaged = load_latest(tmp_path, *Trained().parts())
    assert progress is not None
    assert progress.step == 5
    assert len(damaged) == 1
    assert "step_00000010: damaged" in damaged[0]


def test_all_states_damaged_is_an_error(tmp_path: Path) -> None:
    save_state(tmp_path, Progress(step=5), *Trained(1).parts())
    (tmp_path / "step_00000005" / "state.json").unlink()
    with pytest.raises(CheckpointError, match="every saved state is damaged"):
        load_latest(tmp_path, *Trained().parts())


def test_state_that_was_being_written_when_the_process_died_is_not_seen(tmp_path: Path) -> None:
    save_state(tmp_path, Progress(step=5), *Trained(1).parts())
    (tmp_path / ".incomplete-99-step_00000010").mkdir()
    progress, _ = load_latest(tmp_path, *Trained().parts())
    assert progress is not None
    assert progress.step == 5


def test_disk_that_fills_up_leaves_the_previous_state_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    save_state(tmp_path, Progress(step=5), *Trained(1).parts())
    write_bytes = Path.write_bytes

    def fill_up(path: Path, data: bytes) -> int:
        if "optimizer" in path.name:
            raise OSError(errno.ENOSPC, "No space left on device")
        return write_bytes(path, data)

    monkeypatch.setattr(Path, "write_bytes", fill_up)
    with pytest.raises(OutputError, match="No space left on device"):
        save_state(tmp_path, Progress(step=10), *Trained(2).parts())
    assert [path.name for path in tmp_path.iterdir()] == ["step_00000005"]
    progress, damaged = load_latest(tmp_path, *Trained().parts())
    assert progress == Progress(step=5)
    assert damaged == []


def test_state_written_while_training_goes_on_is_that_of_its_step(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    may_write = threading.Event()
    written = checkpoints.save_tensors

    def write_late(path: Path, tensors: dict[str, torch.Tensor]) -> None:
        assert may_write.wait(timeout=60)
        written(path, tensors)

    monkeypatch.setattr(checkpoints, "save_tensors", write_late)
    straight, trained, fresh = Trained(7), Trained(4), Trained()
    with StateWriter(tmp_path) as writer:
        writer.save(Progress(step=4), *trained.parts())
        trained.step(9)  # in place, before a byte is written
        may_write.set()
    load_latest(tmp_path, *fresh.parts())
    fresh.step(3)
    assert torch.equal(fresh.network.weight, straight.network.weight)


def test_state_that_could_not_be_written_is_told_at_the_next_or_at_the_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(path: Path, tensors: dict[str, torch.Tensor]) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(checkpoints, "save_tensors", fail)
    writer = StateWriter(tmp_path)
    writer.save(Progress(step=1), *Trained(1).parts())
    with pytest.raises(OutputError, match="No space left"):
        writer.save(Progress(step=2), *Trained(1).parts())
    with pytest.raises(OutputError, match="No space left"), writer:
        writer.save(Progress(step=3), *Trained(1).parts())
    writer.save(Progress(step=4), *Trained(1).parts())
    with pytest.raises(KeyError, match="the first error"), writer:
        raise KeyError("the first error")
