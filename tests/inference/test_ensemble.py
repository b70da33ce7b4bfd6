"""Ensembles: the mean of the members' own probabilities, whatever their order, from runs that fit together."""

from __future__ import annotations

import shutil
import weakref
from pathlib import Path

import numpy as np
import pytest
import torch

from brats_seg.config import load_config, parse_config, to_yaml
from brats_seg.errors import CheckpointError, DataError, UsageError
from brats_seg.inference.ensemble import Ensemble, find_members, load_ensemble
from brats_seg.inference.predict import Predictor, load_predictor, read_run_config
from brats_seg.networks.build import build_network
from brats_seg.networks.compute import choose_compute
from brats_seg.networks.weights import Description, read_description, save_weights

IMAGE = np.random.default_rng(0).integers(1, 900, (4, 30, 40, 36)).astype(np.int16)
MOMENTS = ([400.0] * 4, [250.0] * 4)


def copy_of(run: Path, folder: Path, seed: int, *changes: str, **description: object) -> Path:
    """Return a run with fresh weights and other settings."""
    folder.mkdir(parents=True)
    config = load_config(str(run / "config.yaml"), changes)
    (folder / "config.yaml").write_text(to_yaml(config))
    own = read_description(run / "model.safetensors")
    described = Description(**{**vars(own), **description})
    network = build_network(
        config.network,
        in_channels=len(described.modalities),
        out_channels=len(described.regions),
        seed=seed,
    )
    save_weights(folder / "model.safetensors", network, described)
    return folder


@pytest.fixture(scope="module")
def runs(tiny_run: Path, tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Three runs of different weights; the second has its own windows and flips. Tests only read them."""
    root = tmp_path_factory.mktemp("ensemble")
    return [
        copy_of(tiny_run, root / "a", 1, "inference.threshold=0.4"),
        copy_of(tiny_run, root / "b", 2, "inference.window=[16,24,16]", "inference.tta=[I]", "inference.overlap=0.5"),
        copy_of(tiny_run, root / "c", 3),
    ]


def alone(run: Path) -> torch.Tensor:
    predictor = load_predictor(run, read_run_config(run), choose_compute("cpu", "fp32", 1))
    return predictor.probabilities(IMAGE, *MOMENTS)


def together(*runs: Path) -> Ensemble:
    return load_ensemble(find_members([str(run) for run in runs]), "cpu")


def test_probabilities_are_the_mean_of_what_each_gives_with_its_own_windows(runs: list[Path]) -> None:
    mean = torch.stack([alone(run) for run in runs]).mean(0)
    found = together(*runs).probabilities(IMAGE, *MOMENTS)
    assert found.dtype == torch.float32
    assert torch.allclose(found, mean, atol=1e-6)
    assert not torch.allclose(found, alone(runs[0]), atol=1e-3)


def test_one_model_is_an_ensemble_of_one(runs: list[Path]) -> None:
    assert torch.equal(together(runs[1]).probabilities(IMAGE, *MOMENTS), alone(runs[1]))


def test_order_decides_post_processing_and_nothing_else(runs: list[Path]) -> None:
    one, other = together(*runs), together(*reversed(runs))
    assert torch.equal(one.probabilities(IMAGE, *MOMENTS), other.probabilities(IMAGE, *MOMENTS))
    assert (one.first.inference.threshold, other.first.inference.threshold) == (0.4, 0.5)
    records = [ensemble.made_by() for ensemble in (one, other)]
    assert [record.pop("inference")["threshold"] for record in records] == [0.4, 0.5]
    assert records[0] == records[1]
    assert len(set(records[0]["weights_sha256"])) == 3
    assert sorted(member["window"] for member in records[0]["members"]) == [[16, 24, 16], [32, 48, 32], [32, 48, 32]]


def test_settings_that_change_no_voxel_are_not_in_the_record(runs: list[Path]) -> None:
    members = find_members([str(runs[0])], ["inference.batch=4", "inference.compile=false"])
    assert load_ensemble(members, "cpu").made_by() == together(runs[0]).made_by()


def test_folder_of_all_folds_means_its_folds(runs: list[Path], tmp_path: Path) -> None:
    for fold, run in enumerate(runs):
        shutil.copytree(run, tmp_path / "cv" / f"fold{fold}")
    members = find_members([str(tmp_path / "cv")])
    assert [member.run.name for member in members] == ["fold0", "fold1", "fold2"]
    shutil.rmtree(tmp_path / "cv" / "fold1")
    with pytest.raises(CheckpointError, match=r"3 folds, but no model.safetensors in fold1; finish them"):
        find_members([str(tmp_path / "cv")])


def test_models_of_other_modalities_or_regions_are_refused_by_name(
    tiny_run: Path, runs: list[Path], tmp_path: Path
) -> None:
    other = copy_of(tiny_run, tmp_path / "other", 1, modalities=("t1c", "t1", "t2", "flair"))
    with pytest.raises(DataError, match=rf"{runs[0]} and {other} cannot predict together: modalities .* expected the"):
        find_members([str(runs[0]), str(other)])
    fewer = copy_of(tiny_run, tmp_path / "fewer", 1, regions=("TC", "WT"))
    with pytest.raises(DataError, match=r"regions \['ET', 'TC', 'WT'\] and \['TC', 'WT'\]"):
        find_members([str(runs[0]), str(fewer)])


def test_same_weights_twice_and_no_model_are_refused(runs: list[Path]) -> None:
    with pytest.raises(UsageError, match="models 1 and 3 have the same weights"):
        together(runs[0], runs[1], runs[0])
    with pytest.raises(UsageError, match="no model"):
        find_members([])


def test_one_sum_is_kept_whatever_the_number_of_members(runs: list[Path], monkeypatch: pytest.MonkeyPatch) -> None:
    ensemble = together(*runs)
    alive: list[weakref.ref[torch.Tensor]] = []
    most = 0

    def watched(self: Predictor, *_: object) -> torch.Tensor:
        nonlocal most
        made = torch.full((3, 2, 2, 2), 0.5)
        alive.append(weakref.ref(made))
        most = max(most, sum(ref() is not None for ref in alive))
        return made

    monkeypatch.setattr(Predictor, "probabilities", watched)
    assert ensemble.probabilities(IMAGE, *MOMENTS).unique().tolist() == [0.5]
    assert most == 2


def test_precision_is_each_members_own(runs: list[Path], tmp_path: Path) -> None:
    bf16 = shutil.copytree(runs[1], tmp_path / "bf16")
    values = read_run_config(bf16).model_dump(mode="json")
    values["train"]["precision"] = "bf16"
    (bf16 / "config.yaml").write_text(to_yaml(parse_config(values)))
    ensemble = together(runs[0], bf16)
    assert [member.compute.precision for member in ensemble.members] == ["fp32", "bf16"]
    assert "fp32; cpu" in str(ensemble)
