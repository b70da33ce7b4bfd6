"""A case on its way into the network and back: members of an ensemble share a space; sizes keep their volume."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from brats_seg.config import InferenceConfig, PostprocessingConfig
from brats_seg.data.cases import find_cases
from brats_seg.errors import DataError
from brats_seg.inference.ensemble import Ensemble
from brats_seg.inference.likeness import Reference
from brats_seg.inference.postprocessing import scaled_to_voxels
from brats_seg.inference.reading import on_image_grid, read_case
from brats_seg.preprocessing.geometry import Space


def member(name: str, space: Space | None) -> Any:
    return SimpleNamespace(weights_hash=name, reference=Reference(space, 0, (), {}))


def test_models_of_different_spaces_cannot_predict_together() -> None:
    one, other = Space("LPS", (1.0, 1.0, 1.0)), Space("LPS", (1.0, 2.0, 2.0))
    with pytest.raises(DataError, match="lie in LPS, 1x1x1 mm and LPS, 2x2x1 mm"):
        Ensemble([member("a", one), member("b", other)])
    unknown = SimpleNamespace(weights_hash="c", reference=None)
    ensemble = Ensemble([member("a", one), member("b", one), unknown])  # type: ignore[list-item]
    assert ensemble.reference is not None
    assert ensemble.reference.space == one


def test_a_case_of_unknown_reference_is_taken_as_it_lies_without_warnings(phantom_download: Path) -> None:
    case = read_case(find_cases(phantom_download).cases[0], None)
    assert case.placement is None
    assert case.warnings == ()


def test_probabilities_of_a_case_in_the_model_space_are_returned_as_they_are(phantom_download: Path) -> None:
    case = read_case(find_cases(phantom_download).cases[0], None)
    probabilities = np.zeros((3, *case.image.shape[1:]), np.float32)
    found, start, shape = on_image_grid(case, probabilities)
    assert found is probabilities
    assert (start, shape) == (case.crop_start, case.shape)


def test_probabilities_of_another_grid_lie_in_the_box_of_the_image(phantom_download: Path) -> None:
    own = find_cases(phantom_download).cases[0]
    exact = read_case(own, None)
    reference = Reference(Space("LPS", (2.0, 2.0, 2.0)), 0, (), {})
    case = read_case(own, reference)
    assert case.placement is not None
    assert case.header_bytes == exact.header_bytes
    probabilities = np.ones((3, *case.image.shape[1:]), np.float32)
    found, start, shape = on_image_grid(case, probabilities)
    assert tuple(start) == exact.crop_start
    assert tuple(shape) == exact.shape
    assert found.shape[1:] == exact.image.shape[1:]
    inner = tuple(slice(2, -2) for _ in range(3))
    assert np.allclose(found[(slice(None), *inner)], 1)


def test_sizes_are_counted_in_voxels_of_the_same_volume() -> None:
    steps = PostprocessingConfig(min_component_voxels={"WT": 500, "TC": 3}, min_et_voxels=200)
    inference = InferenceConfig(postprocessing=steps)
    coarse = scaled_to_voxels(inference, 1 / 3).postprocessing  # voxels of 1 x 1 x 3 mm
    assert coarse.min_component_voxels == {"WT": 167, "TC": 1}
    assert coarse.min_et_voxels == 67
    assert scaled_to_voxels(inference, 8.0).postprocessing.min_component_voxels["WT"] == 4000
    assert scaled_to_voxels(inference, 1.0) is inference
    assert inference.postprocessing == steps


def test_a_prepared_case_keeps_its_warnings(phantom_download: Path) -> None:
    own = find_cases(phantom_download).cases[0]
    reference = Reference(None, 0, ("MEN",), {})
    case = read_case(own, reference)
    assert case.warnings == ("edition brats2020 (GLI), but the model was trained on MEN",)
    assert replace(case, name="x").warnings == case.warnings
