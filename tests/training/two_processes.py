"""What one of two processes does in `test_distributed.py`: STORE RECIPE OUT; writes OUT/<rank>.json."""

from __future__ import annotations

import contextlib
import json
import math
import sys
from pathlib import Path
from typing import Any

import torch

from brats_seg.config import load_config
from brats_seg.errors import BratsSegError
from brats_seg.networks.compute import choose_compute
from brats_seg.preprocessing.store import open_store
from brats_seg.training.distributed import ALONE, Processes, processes_of_environment
from brats_seg.training.folds import divide, folds_of_store
from brats_seg.training.loop import Trainer

CPU = torch.device("cpu")
VARIANTS = {
    "plain": ["train.validate_every=6"],
    "slices": [
        "network.spatial_dims=2",
        "network.neighbours=1",
        "train.patch=[1,24,16]",
        "inference.window=null",
        "inference.batch=16",
        "train.loss.name=dice",
        "train.steps=3",
        "train.validate_every=3",
    ],
    "heads in parts": [
        "network.arguments.deep_supervision=true",
        "network.arguments.deep_supr_num=1",
        "train.batch=4",
        "train.accumulate=2",
        "train.optimizer.name=sgd",
        "train.loss.name=dice_focal",
        "train.steps=3",
        "train.validate_every=3",
    ],
}


class Remembering:
    """A watcher that keeps losses and scores, and may stop a training."""

    def __init__(self, last_step: int | None = None) -> None:
        self.last_step = last_step
        self.losses: dict[int, float] = {}
        self.scores: dict[int, dict[str, float]] = {}

    def stepped(self, step: int, loss: float | None) -> None:
        if loss is not None:
            self.losses[step] = loss
        if step == self.last_step:
            raise KeyboardInterrupt

    def validated(self, step: int, scores: dict[str, float]) -> None:
        self.scores[step] = scores

    def said(self, line: str) -> None:
        raise AssertionError(line)


def trainer(
    store: Path,
    recipe: Path,
    run: Path,
    overrides: list[str],
    processes: Processes = ALONE,
    last_step: int | None = None,
) -> tuple[Trainer, Remembering]:
    config = load_config(str(recipe), [f"data.store={store}", *overrides])
    opened = open_store(store)
    training, validation = divide(opened, folds_of_store(opened, config.data), 0)
    run.mkdir(parents=True, exist_ok=True)
    watcher = Remembering(last_step)
    compute = choose_compute("cpu", "fp32", 1)
    return Trainer(config, opened, training, validation, run, compute, watcher, processes), watcher


def trained(store: Path, recipe: Path, run: Path, name: str, processes: Processes = ALONE) -> dict[str, Any]:
    built, watcher = trainer(store, recipe, run, VARIANTS[name], processes)
    built.run()
    return {"losses": list(watcher.losses.items()), "scores": list(watcher.scores.items())}


def stopped_and_resumed(store: Path, recipe: Path, run: Path, processes: Processes) -> bool:
    stopped, _ = trainer(store, recipe, run, VARIANTS["plain"], processes, last_step=5)
    with contextlib.suppress(KeyboardInterrupt):
        stopped.run()
    resumed, _ = trainer(store, recipe, run, VARIANTS["plain"], processes)
    has_resumed = resumed.resume()
    resumed.run()
    return has_resumed


def message_of(action: Any) -> str:
    try:
        action()
    except BratsSegError as error:
        return str(error)
    return ""


def main(store: Path, recipe: Path, out: Path) -> None:
    torch.set_num_threads(1)
    processes = processes_of_environment()
    with processes.joined(CPU):
        part = torch.tensor([processes.rank + 1.0], requires_grad=True)
        (processes.total(part) ** 2).sum().backward()
        assert part.grad is not None
        results = {
            "gradient": part.grad.item(),
            "mean": processes.mean(torch.tensor(float(processes.rank))).item(),
            "gathered": processes.gathered({"text": "x" * 10**processes.rank, "none": math.nan}, CPU),
            **{name: trained(store, recipe, out / name, name, processes) for name in VARIANTS},
            "resumed": stopped_and_resumed(store, recipe, out / "resumed", processes),
        }
        built, _ = trainer(store, recipe, out / "never", [], processes)
        results["steps"] = message_of(lambda: built._require_one_step(10 * processes.rank))
        batch_norm = ["network.arguments.norm_name=batch"]
        results["batch norm"] = message_of(lambda: trainer(store, recipe, out / "never", batch_norm, processes))
    (out / f"{processes.rank}.json").write_text(json.dumps(results), encoding="utf-8")


if __name__ == "__main__":
    main(*map(Path, sys.argv[1:]))
