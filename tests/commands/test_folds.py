"""Folds that train at the same time, each in a process on a device of its own."""

from __future__ import annotations

from pathlib import Path

import pytest

from brats_seg.cli import run
from brats_seg.commands.folds import devices_of_folds
from brats_seg.config import load_config
from brats_seg.errors import ConfigError


def words(recipe: Path, store: Path, output: Path, device: str, *more: str) -> list[str]:
    settings = [f"data.store={store}", f"output={output}", "data.fold=all", "data.num_folds=2", "train.steps=1"]
    return ["train", str(recipe), *settings, "train.threads=1", "--device", device, "--quiet", *more]


def test_folds_at_the_same_time_are_those_one_after_another(
    tiny_recipe: Path, phantom_store: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    assert run(words(tiny_recipe, phantom_store, tmp_path / "turns", "cpu")) == 0
    assert run(words(tiny_recipe, phantom_store, tmp_path / "apart", "cpu,cpu")) == 0
    names = sorted(path.name for path in (tmp_path / "turns" / "validation").iterdir())
    assert sorted(path.name for path in (tmp_path / "apart" / "validation").iterdir()) == names
    for path in [*(f"validation/{name}" for name in names), "fold0/model.safetensors", "fold1/last.safetensors"]:
        assert (tmp_path / "apart" / path).read_bytes() == (tmp_path / "turns" / path).read_bytes(), path
    assert run(words(tiny_recipe, phantom_store, tmp_path / "apart", "cpu,cpu")) == 1  # both hold runs already
    told = capfd.readouterr().err
    assert "2 of 2 folds failed (fold 0: exit code 2" in told
    assert "holds a run already" in told


def test_devices_that_are_not_there_are_refused_before_any_fold_starts(
    tiny_recipe: Path, phantom_store: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(words(tiny_recipe, phantom_store, tmp_path / "run", "cpu,cuda:99")) == 2
    assert "device 'cuda:99' is not there" in capsys.readouterr().err
    assert not (tmp_path / "run").exists()


def test_several_devices_for_one_fold_are_refused(phantom_store: Path) -> None:
    config = load_config("cpu_small", ["train.device=cuda:0,cuda:1", "data.fold=2"])
    with pytest.raises(ConfigError, match=r"several devices train several folds.*torchrun"):
        devices_of_folds(config)


def test_auto_takes_every_gpu_for_folds_and_leaves_one_fold_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("torch.cuda.device_count", lambda: 3)
    assert devices_of_folds(load_config("cpu_small", ["data.fold=all"])) == ["cuda:0", "cuda:1", "cuda:2"]
    assert devices_of_folds(load_config("cpu_small", ["data.fold=0"])) == ["auto"]
