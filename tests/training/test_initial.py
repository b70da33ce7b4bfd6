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
from brats_seg.config import RunConfig, config_differences, load_config, to_yaml
from brats_seg.errors import CheckpointError
from brats_seg.files import hash_of_file
from brats_seg.inference.predict import read_run_config
from brats_seg.networks.build import build_network
from brats_seg.networks.bundled import bundled_folder
from brats_seg.networks.weights import Description, load_tensors, save_weights, tensors_of
from brats_seg.training.initial import filled, init_place, load_initial, weights_file
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


def finetune(init: Path | str, *more: str) -> RunConfig:
    return filled(load_config("finetune", [f"train.init={init}", *more]))


def test_recipe_without_network_takes_what_it_leaves_open_from_the_run_of_the_weights(tiny_run: Path) -> None:
    source, tuned = read_run_config(tiny_run), finetune(tiny_run, "train.batch=1")
    assert tuned.network == source.network
    assert tuned.train.patch == source.train.patch != RunConfig().train.patch
    assert tuned.train.batch == 1 != source.train.batch
    assert tuned.train.optimizer == source.train.optimizer.model_copy(update={"learning_rate": 1e-4})
    recipe = load_config("finetune").train  # the length is its own
    assert (tuned.train.steps, tuned.train.schedule) == (recipe.steps, recipe.schedule)
    assert (tuned.train.validate_every, tuned.data) == (RunConfig().train.validate_every, RunConfig().data)


def test_recipe_for_fine_tuning_starts_from_the_bundled_model_unless_it_is_told_another() -> None:
    alone = filled(load_config("finetune"))
    assert alone.train.init == "starter"
    assert alone.network == read_run_config(bundled_folder("starter")).network


def test_post_processing_is_taken_too_changed_key_by_key_and_emptied_by_an_empty_group() -> None:
    own = read_run_config(bundled_folder("starter")).inference.postprocessing
    assert finetune("starter").inference.postprocessing == own
    changed = finetune("starter", "inference.postprocessing.min_et_voxels=9").inference.postprocessing
    assert changed == own.model_copy(update={"min_et_voxels": 9})
    assert finetune("starter", "inference.postprocessing={}").inference == RunConfig().inference.model_copy(
        update={"batch": read_run_config(bundled_folder("starter")).inference.batch}
    )


def test_single_weights_file_gives_network_and_patch(tiny_run: Path, tmp_path: Path) -> None:
    weights = shutil.copy(tiny_run / "model.safetensors", tmp_path / "alone.safetensors")
    source, tuned = read_run_config(tiny_run), finetune(weights)
    assert (tuned.network, tuned.train.patch) == (source.network, source.train.patch)
    assert tuned.train.batch == RunConfig().train.batch


def test_recipe_with_a_network_is_left_alone(tiny_run: Path) -> None:
    config = load_config("cpu_small", [f"train.init={tiny_run}"])
    assert filled(config) is config
    assert finetune(tiny_run, "network.stem=2").network.stem == 2


def test_resumed_fine_tuning_has_its_settings_from_its_own_folder(tiny_run: Path, tmp_path: Path) -> None:
    source = Path(shutil.copytree(tiny_run, tmp_path / "source"))
    begun = finetune(source, "train.batch=1")
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "config.yaml").write_text(to_yaml(begun), encoding="utf-8")
    shutil.rmtree(source)
    asked = load_config("finetune", [f"train.init={source}", "train.batch=1"])
    assert config_differences(filled(asked, tmp_path / "run"), begun) == []
    with pytest.raises(CheckpointError, match="no such folder or file"):
        filled(asked, tmp_path / "other")


def test_bundled_model_is_kept_by_name_and_a_folder_by_its_whole_path(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert init_place("starter") == "starter"
    (tmp_path / "starter").mkdir()
    assert init_place("starter") == str(tmp_path / "starter")


def test_bundled_model_is_taken_on_to_other_cases(phantom_store: Path, tmp_path: Path) -> None:
    more = ["train.init=starter", "train.steps=1", "train.batch=1", "train.threads=1"]
    assert run(words(Path("finetune"), phantom_store, tmp_path / "run", *more, "--quiet")) == 0
    record = json.loads((tmp_path / "run" / "run.json").read_text())
    assert record["init"]["sha256"] == hash_of_file(bundled_folder("starter") / "model.safetensors")
    assert read_run_config(tmp_path / "run").train.init == "starter"
