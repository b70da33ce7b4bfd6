"""Optimizers and learning-rate schedules by name. To add one, add a row to `OPTIMIZERS` or `SCHEDULES`."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping

import torch
from torch import nn

from brats_seg.config import OptimizerConfig, ScheduleConfig
from brats_seg.errors import ConfigError, did_you_mean

__all__ = ["OPTIMIZERS", "SCHEDULES", "build_optimizer", "learning_rate_share"]


def _adamw(weights: Iterable[nn.Parameter], config: OptimizerConfig) -> torch.optim.Optimizer:
    return torch.optim.AdamW(weights, lr=config.learning_rate, weight_decay=config.weight_decay, fused=True)


def _polynomial(progress: float, config: ScheduleConfig) -> float:
    return float((1 - progress) ** config.power)


OPTIMIZERS: Mapping[str, Callable[[Iterable[nn.Parameter], OptimizerConfig], torch.optim.Optimizer]] = {"adamw": _adamw}
"""All optimizers by name."""

SCHEDULES: Mapping[str, Callable[[float, ScheduleConfig], float]] = {"polynomial": _polynomial}
"""Share of the peak learning rate as a function of progress (0 after warm-up, 1 at the end), by name."""


def build_optimizer(weights: Iterable[nn.Parameter], config: OptimizerConfig) -> torch.optim.Optimizer:
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
