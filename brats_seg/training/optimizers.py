"""Optimizers and learning-rate schedules by name. To add one, add a row to `OPTIMIZERS` or `SCHEDULES`."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping

import torch
from torch import nn

from brats_seg.config import OptimizerConfig, ScheduleConfig
from brats_seg.errors import ConfigError, did_you_mean

__all__ = ["OPTIMIZERS", "SCHEDULES", "build_optimizer", "learning_rate_share"]


Weights = Iterable[nn.Parameter]


def _adamw(weights: Weights, config: OptimizerConfig) -> torch.optim.Optimizer:
    return torch.optim.AdamW(
        weights, config.learning_rate, betas=config.betas, weight_decay=config.weight_decay, fused=True
    )


def _adam(weights: Weights, config: OptimizerConfig) -> torch.optim.Optimizer:
    return torch.optim.Adam(
        weights, config.learning_rate, betas=config.betas, weight_decay=config.weight_decay, fused=True
    )


def _adamax(weights: Weights, config: OptimizerConfig) -> torch.optim.Optimizer:
    """Torch has no fused Adamax; the whole list of weights goes through each operation at once."""
    return torch.optim.Adamax(
        weights, config.learning_rate, betas=config.betas, weight_decay=config.weight_decay, foreach=True
    )


def _sgd(weights: Weights, config: OptimizerConfig) -> torch.optim.Optimizer:
    return torch.optim.SGD(
        weights,
        config.learning_rate,
        momentum=config.momentum,
        nesterov=config.momentum > 0,
        weight_decay=config.weight_decay,
        fused=True,
    )


def _polynomial(progress: float, config: ScheduleConfig) -> float:
    return float((1 - progress) ** config.power)


def _cosine(progress: float, config: ScheduleConfig) -> float:
    return (1 + math.cos(math.pi * progress)) / 2


def _constant(progress: float, config: ScheduleConfig) -> float:
    return 1.0


OPTIMIZERS: Mapping[str, Callable[[Weights, OptimizerConfig], torch.optim.Optimizer]] = {
    "adam": _adam,
    "adamax": _adamax,
    "adamw": _adamw,
    "sgd": _sgd,
}
"""All optimizers by name. `sgd` is with Nesterov momentum, as in nnU-Net."""

SCHEDULES: Mapping[str, Callable[[float, ScheduleConfig], float]] = {
    "constant": _constant,
    "cosine": _cosine,
    "polynomial": _polynomial,
}
"""Share of the peak learning rate as a function of progress (0 after warm-up, 1 at the end), by name."""


def build_optimizer(weights: Weights, config: OptimizerConfig) -> torch.optim.Optimizer:
    """Return the optimizer of the configuration.

    Raises:
        ConfigError: unknown optimizer.
    """
    if config.name not in OPTIMIZERS:
        raise ConfigError(
            f"train.optimizer.name={config.name}: unknown optimizer{did_you_mean(config.name, OPTIMIZERS)}"
        )
    return OPTIMIZERS[config.name](weights, config)


def learning_rate_share(step: int, num_steps: int, config: ScheduleConfig) -> float:
    """Return the share of the peak learning rate at a step (1 ... num_steps): linear rise, then decay to the floor.

    Raises:
        ConfigError: unknown schedule.
    """
    if config.name not in SCHEDULES:
        raise ConfigError(f"train.schedule.name={config.name}: unknown schedule{did_you_mean(config.name, SCHEDULES)}")
    warmup = min(config.warmup_steps, num_steps // 2)
    if step <= warmup:
        return step / warmup
    progress = (step - 1 - warmup) / max(1, num_steps - warmup)
    return max(config.floor, SCHEDULES[config.name](progress, config))
