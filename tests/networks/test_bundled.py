"""The model that comes with the package."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from brats_seg.cli import run
from brats_seg.config import config_differences, load_config
from brats_seg.errors import CheckpointError
from brats_seg.inference.predict import load_predictor, read_run_config
from brats_seg.networks import bundled
from brats_seg.networks.bundled import BUNDLED, bundled_folder, find_model
from brats_seg.networks.compute import choose_compute
from brats_seg.networks.weights import load_tensors


@pytest.mark.parametrize("name", BUNDLED)
def test_a_bundled_model_is_a_run_that_predicts(name: str) -> None:
    folder = find_model(name)
    predictor = load_predictor(folder, read_run_config(folder), choose_compute("cpu", "auto", 1))
    assert predictor.description.regions == ("ET", "TC", "WT")
    assert predictor.description.modalities == ("t1", "t1c", "t2", "flair")
    assert {tensor.dtype for tensor in load_tensors(folder / "model.safetensors").values()} == {torch.float16}


def test_the_recipe_is_the_one_that_made_the_starter() -> None:
    recipe = load_config("starter", ["data.fold=none", "output=starter"])
    assert config_differences(recipe, read_run_config(bundled_folder("starter"))) == []


def test_a_folder_comes_before_a_bundled_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "starter").mkdir()
    assert find_model("starter") == Path("starter")


def test_an_unknown_model_is_refused_with_the_nearest() -> None:
    with pytest.raises(
        CheckpointError, match=r"startr: no such folder, nor a model of the package; did you mean starter\?"
    ):
        find_model("startr")


@pytest.mark.parametrize("damage", ["cut", "changed", "gone"])
def test_damaged_weights_predict_nothing(
    damage: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    source, target = bundled_folder("starter"), tmp_path / "models" / "starter"
    target.mkdir(parents=True)
    content = bytearray((source / "model.safetensors").read_bytes())
    content[-1] ^= damage == "changed"
    if damage != "gone":
        (target / "model.safetensors").write_bytes(content[:-1] if damage == "cut" else content)
    monkeypatch.setattr(bundled, "_models_folder", lambda: tmp_path / "models")
    assert run(["predict", "starter", str(tmp_path), str(tmp_path / "out")]) == 2
    expected = "is missing from the package" if damage == "gone" else "was cut or changed (sha256 "
    assert expected in capsys.readouterr().err
    assert not (tmp_path / "out").exists()
