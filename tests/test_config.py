"""Configuration: defaults, recipes, overrides, and what a wrong key is answered with."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from brats_seg.config import (
    PostprocessingConfig,
    RunConfig,
    config_differences,
    load_config,
    parse_config,
    recipe_names,
    to_recipe,
    to_yaml,
)
from brats_seg.errors import ConfigError


def test_default_recipe_says_exactly_the_defaults() -> None:
    assert load_config("default") == RunConfig()


def test_default_recipe_is_the_nnunet_like_one_by_another_name() -> None:
    assert load_config("brats2020_dynunet") == load_config("default")


@pytest.mark.parametrize("name", recipe_names())
def test_every_recipe_survives_being_written_and_read(name: str) -> None:
    config = load_config(name)
    assert parse_config(yaml.safe_load(to_yaml(config))) == config


def test_override_wins_over_the_recipe() -> None:
    config = load_config(
        "cpu_small", ["train.steps=7", "train.patch=[64, 64, 32]", "train.optimizer.learning_rate=1e-4"]
    )
    assert (config.train.steps, config.train.patch, config.train.optimizer.learning_rate) == (7, (64, 64, 32), 1e-4)


def test_flips_along_some_axes_are_a_list() -> None:
    config = load_config("default", ["inference.tta=[J, I]"])
    assert config.inference.tta == ("J", "I")
    assert parse_config(yaml.safe_load(to_yaml(config))) == config


def test_empty_mapping_takes_a_recipes_post_processing_away() -> None:
    assert load_config("starter").inference.postprocessing != PostprocessingConfig()
    assert load_config("starter", ["inference.postprocessing={}"]).inference.postprocessing == PostprocessingConfig()


def test_override_keeps_its_neighbours() -> None:
    assert load_config("cpu_small", ["train.optimizer.weight_decay=0"]).train.optimizer.learning_rate == 0.003


def test_unknown_key_is_answered_with_the_nearest() -> None:
    with pytest.raises(ConfigError, match=r"unknown key train\.step; did you mean train\.steps\?"):
        load_config("default", ["train.step=3"])


def test_all_wrong_keys_are_named_at_once() -> None:
    with pytest.raises(ConfigError, match=r"(?s)2 problems.*train\.step;.*inference\.windows"):
        load_config("default", ["train.step=3", "inference.windows=1"])


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("train.steps=0", r"train\.steps=0.*greater than or equal to 1"),
        ("train.patch=[4, 64, 64]", r"train\.patch.*at least 8"),
        ("train.patch=[1, 64, 1]", r"train\.patch.*at least 8 voxels \(slices: one edge 1\)"),
        ("train.patch=[0, 64, 64]", r"train\.patch.*at least 8"),
        ("network.neighbours=1", r"neighbours=1 needs spatial_dims=2"),
        ("network.spatial_dims=1", r"network\.spatial_dims"),
        ("train.precision=fp8", r"train\.precision"),
        ("train.accumulate=4", r"batch=2 cannot be divided into accumulate=4 equal parts"),
        ("train.augmentation.gamma_range=[1.5, 0.7]", r"gamma_range.*the smaller first"),
        ("train.augmentation.low_resolution_range=[0.5, 2]", r"low_resolution_range.*at most 1"),
        ("inference.tta=flip", r"inference\.tta"),
        ("inference.tta=[I, I]", r"expected none, flips, or different axes"),
        ("inference.tta=[]", r"expected none, flips, or different axes"),
        ("data.fold=-1", r"data\.fold"),
        ("train.steps", r"expected key=value"),
        ("train.steps=[", r"not YAML"),
    ],
)
def test_wrong_value_names_key_and_range(override: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        load_config("default", [override])


def test_unknown_recipe_names_the_known_ones() -> None:
    with pytest.raises(ConfigError, match=r"did you mean cpu_small\?.*default"):
        load_config("cpu_smal")


def test_file_that_is_no_mapping_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "x.yaml"
    path.write_text("- 1\n", encoding="utf-8")
    with pytest.raises(ConfigError, match="holds list, expected keys"):
        load_config(str(path))


def test_yaml_cannot_run_code(tmp_path: Path) -> None:
    path = tmp_path / "x.yaml"
    path.write_text("seed: !!python/object/apply:os.getpid []\n", encoding="utf-8")
    with pytest.raises(ConfigError, match="not YAML"):
        load_config(str(path))


def test_differences_name_key_and_both_values() -> None:
    other = parse_config({"train": {"steps": 5}, "network": {"stem": 2}})
    assert config_differences(RunConfig(), other) == ["network.stem: 1 -> 2", "train.steps: 25000 -> 5"]


def test_every_field_is_described() -> None:
    def undescribed(model: type, prefix: str = "") -> list[str]:
        names = []
        for name, field in model.model_fields.items():  # type: ignore[attr-defined]
            if hasattr(field.annotation, "model_fields"):
                names += undescribed(field.annotation, f"{prefix}{name}.")
            elif not field.description:
                names.append(prefix + name)
        return names

    assert undescribed(RunConfig) == []


@pytest.mark.parametrize("name", recipe_names())
def test_what_differs_from_the_defaults_is_the_whole_configuration(name: str) -> None:
    config = load_config(name, ["train.loss.arguments.smooth_nr=1", "data.store=s"])
    values = yaml.safe_load(to_recipe(config))
    assert parse_config(values) == config
    assert "seed" not in values
