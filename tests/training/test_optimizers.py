"""Learning rate by hand, and the registry's errors."""

from __future__ import annotations

import itertools
from typing import Any

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


def test_cosine_and_constant_by_hand() -> None:
    def shares(name: str) -> list[float]:
        schedule = ScheduleConfig(name=name, warmup_steps=10, floor=0.02)
        return [learning_rate_share(step, 110, schedule) for step in (5, 11, 36, 61, 110)]

    # progress 0, 1/4, 1/2 and 99/100 after the warm-up
    assert shares("cosine") == pytest.approx([0.5, 1.0, (1 + 0.5**0.5) / 2, 0.5, 0.02])
    assert shares("constant") == [0.5, 1.0, 1.0, 1.0, 1.0]


def follow(name: str, gradients: list[int], **settings: Any) -> float:
    """Return the weight, 1 at the start, after steps with these gradients."""
    weight = torch.nn.Parameter(torch.ones(1))
    optimizer = build_optimizer([weight], OptimizerConfig(name=name, learning_rate=0.1, **settings))
    for gradient in gradients:
        weight.grad = torch.full((1,), float(gradient))
        optimizer.step()
    return weight.item()


def test_sgd_with_nesterov_momentum_by_hand() -> None:
    # Velocity v <- 0.5 v + g; the step is g + 0.5 v. g = 2: v = 2, step 3. g = 4: v = 5, step 6.5.
    assert follow("sgd", [2, 4], momentum=0.5, weight_decay=0) == pytest.approx(1 - 0.1 * (3 + 6.5))
    assert follow("sgd", [2], momentum=0, weight_decay=0.5) == pytest.approx(1 - 0.1 * (2 + 0.5))


@pytest.mark.parametrize("name", ["adam", "adamw", "adamax"])
def test_first_step_of_the_adam_family_is_the_learning_rate_whatever_the_gradient(name: str) -> None:
    assert follow(name, [7], weight_decay=0) == pytest.approx(0.9)


def test_weight_decay_is_decoupled_in_adamw_alone() -> None:
    assert follow("adamw", [7], weight_decay=0.5) == pytest.approx(1 * (1 - 0.1 * 0.5) - 0.1)
    assert follow("adam", [7], weight_decay=0.5) == pytest.approx(0.9)


def test_betas_are_those_of_the_config() -> None:
    # Gradients 2 and 4 with betas 0.5 and 0.5: m = 0.5 (1) + 0.5 (4) = 2.5 over 1 - 0.25; v = 0.5 (2) + 0.5 (16) = 9.
    second = (2.5 / 0.75) / (9 / 0.75) ** 0.5
    assert follow("adam", [2, 4], betas=(0.5, 0.5), weight_decay=0) == pytest.approx(1 - 0.1 - 0.1 * second)


def test_unknown_names_are_errors() -> None:
    with pytest.raises(ConfigError, match=r"did you mean adamw\?"):
        build_optimizer([torch.nn.Parameter(torch.zeros(1))], OptimizerConfig(name="adam_w"))
    with pytest.raises(ConfigError, match=r"did you mean polynomial\?"):
        learning_rate_share(200, 400, ScheduleConfig(name="polynomal"))
