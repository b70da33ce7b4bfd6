"""Fine-tuning: a run starts from the weights of another."""

from __future__ import annotations

import json
import re
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from brats_seg.cli import run
from brats_seg.config import load_config
from brats_seg.errors import CheckpointError
from brats_seg.files import hash_of_file
from brats_seg.networks.build import build_network
from brats_seg.networks.weights import Description, load_tensors, save_weights, tensors_of
from brats_seg.training.initial import load_initial, weights_file
from brats_seg.training.loop import Trainer
from brats_seg.training.patches import Sample


def words(recipe: Path, store: Path, output: Path, *more: str) -> list[str]:
    return ["train", str(recipe), f"data.store={store}", f"output={output}", *more]


@pytest.fixture(scope="module")
def tuned(tmp_path_factory: pytest.TempPathFactory, tiny_recipe: Path, phantom_store: Path, tiny_run: Path) -> Path:
    """A run that started from the tiny run and learned nothing: its learning rate is next to zero."""
    folder = tmp_path_factory.mktemp("tuned") / "run"
    more = [f"train.init={tiny_run}", "train.optimizer.learning_rate=1e-12", "train.steps=2"]
    assert run(words(tiny_recipe, phantom_store, folder, *more, "--quiet")) == 0
    return folder


def test_training_starts_from_the_best_weights_of_the_run(tuned: Path, tiny_run: Path) -> None:
    start = load_tensors(tiny_run / "model.safetensors")
    for name in ("model.safetensors", "last.safetensors"):  # the average starts from them, too
        for key, tensor in load_tensors(tuned / name).items():
            assert torch.allclose(tensor, start[key], atol=1e-6), (name, key)


def test_record_names_the_weights_and_their_hash(tuned: Path, tiny_run: Path) -> None:
    path = tiny_run / "model.safetensors"
    assert json.loads((tuned / "run.json").read_text())["init"] == {"weights": str(path), "sha256": hash_of_file(path)}
    assert json.loads((tiny_run / "run.json").read_text())["init"] is None


def test_resumed_run_goes_on_from_its_own_state_without_the_weights_it_started_from(
    tiny_recipe: Path, phantom_store: Path, tiny_run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = Path(shutil.copytree(tiny_run, tmp_path / "source"))
    more = [f"train.init={source}", "--quiet"]
    assert run(words(tiny_recipe, phantom_store, tmp_path / "straight", *more)) == 0
    take_step = Trainer._step

    def stop_at_step_four(self: Trainer, step: int, samples: list[Sample]) -> None:
        if step == 4:
            raise KeyboardInterrupt
        take_step(self, step, samples)

    monkeypatch.setattr(Trainer, "_step", stop_at_step_four)
    assert run(words(tiny_recipe, phantom_store, tmp_path / "stopped", *more)) == 130
    monkeypatch.undo()
    shutil.rmtree(source)
    assert run(words(tiny_recipe, phantom_store, tmp_path / "stopped", *more, "--resume")) == 0
    for name in ("model.safetensors", "last.safetensors"):
        assert (tmp_path / "stopped" / name).read_bytes() == (tmp_path / "straight" / name).read_bytes()


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("network.arguments.filters=[4, 8, 16]", r"weights of another network: \d+ of \d+ tensors differ \(body\."),
        ("network.stem=1", "tensors differ"),
        ("train.init=/nowhere", "train.init=/nowhere: no such folder or file"),
    ],
)
def test_wrong_start_is_one_error_and_nothing_is_written(
    override: str,
    message: str,
    tiny_recipe: Path,
    phantom_store: Path,
    tiny_run: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    more = [f"train.init={tiny_run}", override, "--quiet"]
    assert run(words(tiny_recipe, phantom_store, tmp_path / "run", *more)) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert re.search(message, error)
    assert not (tmp_path / "run").exists()


def test_weights_may_be_named_as_file_run_or_fold(tiny_run: Path, tmp_path: Path) -> None:
    assert weights_file(str(tiny_run)) == tiny_run / "model.safetensors"
    assert weights_file(str(tiny_run / "last.safetensors")) == tiny_run / "last.safetensors"
    with pytest.raises(
        CheckpointError, match=r"no model\.safetensors in it; give the folder of a run that has validated"
    ):
        weights_file(str(tmp_path))
    shutil.copytree(tiny_run, tmp_path / "fold3")
    with pytest.raises(CheckpointError, match="give one of its folds: fold3"):
        weights_file(str(tmp_path))


def test_other_modalities_regions_and_settings_are_told(tiny_recipe: Path, tmp_path: Path) -> None:
    network = load_config(str(tiny_recipe)).network
    own = Description(network.model_dump(), ("t1", "flair"), ("ET", "TC", "WT"), ("brats2020",), (16, 24, 16))
    source = build_network(network, in_channels=2, out_channels=3, seed=1)
    save_weights(tmp_path / "w", source, own)
    fresh = build_network(network, in_channels=2, out_channels=3)
    with pytest.raises(
        CheckpointError, match=r"trained on modalities \['t1', 'flair'\], .* store has \['flair', 't1'\]"
    ):
        load_initial(tmp_path / "w", fresh, replace(own, modalities=("flair", "t1")))
    with pytest.raises(CheckpointError, match=r"regions \['ET', 'TC', 'WT'\], .* has \['TC', 'ET', 'WT'\]"):
        load_initial(tmp_path / "w", fresh, replace(own, regions=("TC", "ET", "WT")))
    assert load_initial(tmp_path / "w", fresh, own) == []
    assert all(torch.equal(a, tensors_of(fresh)[name]) for name, a in tensors_of(source).items())
    changed = network.model_copy(update={"arguments": {**network.arguments, "dropout": 0.1}})
    assert load_initial(tmp_path / "w", fresh, replace(own, network=changed.model_dump())) == [
        "train.init: network.arguments.dropout was None, now 0.1"
    ]
