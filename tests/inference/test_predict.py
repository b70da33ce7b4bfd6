"""The predictor: compiled code sees one shape, and says the same."""

from __future__ import annotations

import functools
from pathlib import Path

import numpy as np
import pytest
import torch
from torch._dynamo.testing import CompileCounter

from brats_seg.errors import ConfigError
from brats_seg.inference import ensemble
from brats_seg.inference.ensemble import find_members, load_ensemble
from brats_seg.inference.predict import load_predictor, read_run_config
from brats_seg.networks import compute

MOMENTS = ([400.0] * 4, [250.0] * 4)
SETTINGS = ["inference.window=[16,24,16]", "inference.batch=5", "inference.tta=[J,I]"]


def image(seed: int, *shape: int) -> np.ndarray:
    return np.random.default_rng(seed).integers(1, 900, (4, *shape)).astype(np.int16)


def test_network_is_compiled_once_for_cases_of_any_size(tiny_run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    counter = CompileCounter()  # runs what was traced as it is, and counts how often something was
    monkeypatch.setattr(compute.torch, "compile", functools.partial(torch.compile, backend=counter))
    cases = [image(1, 20, 30, 17), image(2, 16, 24, 16), image(3, 9, 40, 20)]
    expected = load_ensemble(find_members([str(tiny_run)], SETTINGS), "cpu")
    compiled = load_ensemble(find_members([str(tiny_run)], [*SETTINGS, "inference.compile=true"]), "cpu")
    for number, case in enumerate(cases):
        found = compiled.probabilities(case, *MOMENTS)
        assert torch.allclose(found, expected.probabilities(case, *MOMENTS), atol=1e-6)
        if number == 0:
            first = counter.frame_count
    assert counter.frame_count == first > 0
    torch._dynamo.reset()


@pytest.mark.parametrize(
    ("overrides", "num_cases", "pays"),
    [
        ([], 1, False),
        ([], 2, False),
        ([], 10_000, True),
        (["inference.tta=flips"], 600, True),
        (["inference.tta=flips"], 60, False),
    ],
)
def test_compiling_pays_for_many_passes_alone(tiny_run: Path, overrides: list[str], num_cases: int, pays: bool) -> None:
    member = find_members([str(tiny_run)], ["inference.window=[128,128,128]", *overrides])[0]
    assert ensemble._pays(member.config.inference, member.description, num_cases) == pays


def test_window_that_is_still_to_be_chosen_is_an_error(tiny_run: Path) -> None:
    config = read_run_config(tiny_run, ["inference.window=auto"])
    with pytest.raises(ConfigError, match=r"window=auto is chosen at the end of the training.*--resume, or add"):
        load_predictor(tiny_run, config, compute.choose_compute("cpu", "fp32", 1))
