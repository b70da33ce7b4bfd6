"""Learning rate by hand, and the registry's errors."""

from __future__ import annotations

import itertools

import pytest
import torch

from brats_seg.config import OptimizerConfig, ScheduleConfig
from brats_seg.errors import ConfigError
from brats_seg.training.optimizers import build_optimizer, learning_rate_share


def test_rate_rises_linearly_then_falls_to_the_floor() -> None:
    schedule = ScheduleConfig(warmup_steps=10, power=1.0, floor=0.02)
    share = [learning_rate_share(step, 110, schedule) for step in range(1, 111)]
    assert share[4] == 0.5
    assert share[9] == share[10] == 1.0  # steps 10 and 11: end of warm-up, progress 0
    assert share[60] == pytest.approx(0.5)  # step 61: half of the 100 steps after warm-up
    assert share[-1] == 0.02
    assert all(a >= b for a, b in itertools.pairwise(share[10:]))


def test_warm_up_takes_at_most_half_of_a_short_run() -> None:
    assert learning_rate_share(2, 4, ScheduleConfig(warmup_steps=100)) == 1.0


def test_run_of_one_step_has_the_peak_rate() -> None:
    assert learning_rate_share(1, 1, ScheduleConfig()) == 1.0


def test_unknown_names_are_errors() -> None:
    with pytest.raises(ConfigError, match=r"did you mean adamw\?"):
        build_optimizer([torch.nn.Parameter(torch.zeros(1))], OptimizerConfig(name="adam_w"))
    with pytest.raises(ConfigError, match=r"did you mean polynomial\?"):
        learning_rate_share(200, 400, ScheduleConfig(name="polynomal"))
