"""States from which a run continues to the bit: weights, average, optimizer, counters. Atomic, verified, no pickle."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import nullcontext, suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Self

import torch
from torch import Tensor, nn

from brats_seg.errors import CheckpointError
from brats_seg.files import TEMPORARY_PREFIX, atomic_folder, hash_of_file, read_json, write_json
from brats_seg.networks.weights import load_tensors, put_tensors, save_tensors, tensors_of

__all__ = ["Progress", "StateWriter", "has_state", "load_latest", "save_state"]

_KEPT = 2
_FILES = ("weights.safetensors", "average.safetensors", "optimizer.safetensors")


@dataclass
class Progress:
    """How far a run is."""

    step: int = 0
    """Steps done."""
    best_dice: float | None = None
    """Best mean Dice of a validation so far; None before the first."""
    best_step: int = 0
    validations_since_best: int = 0
    is_finished: bool = False
    latest: dict[str, float] = field(default_factory=dict)
    """Dice per region of the latest validation."""
    loss_scaling: dict[str, Any] = field(default_factory=dict)
    """State of the scaling of fp16's gradients; empty in other precisions."""


class StateWriter:
    """Writes states in a thread while the training goes on: half a gigabyte takes seconds, a step of a GPU 40 ms.

    What is written is a copy of the moment of `save`. As a context it ends when the last state is written.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="states")
        self._pending: Future[None] | None = None

    def save(
        self, progress: Progress, network: nn.Module, average: nn.Module, optimizer: torch.optim.Optimizer
    ) -> None:
        """Write the state of a step to `folder`/step_<n>, then delete all but the last two; wait for the one before.

        Raises:
            OutputError: the state before could not be written.
        """
        self.wait()
        optimizer_tensors, optimizer_rest = _split(optimizer.state_dict())
        tensors = [_copied(content) for content in (tensors_of(network), tensors_of(average), optimizer_tensors)]
        record = {"progress": asdict(progress), "optimizer": optimizer_rest}
        self._pending = self._thread.submit(_write, self.folder, progress.step, tensors, record)

    def wait(self) -> None:
        """Wait until the last state is written.

        Raises:
            OutputError: it could not be written.
        """
        if self._pending is not None:
            pending, self._pending = self._pending, None
            pending.result()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, error_type: type[BaseException] | None, *_: object) -> None:
        with nullcontext() if error_type is None else suppress(Exception):  # the first error is the one to tell
            self.wait()


def save_state(
    folder: Path, progress: Progress, network: nn.Module, average: nn.Module, optimizer: torch.optim.Optimizer
) -> None:
    """Write the state of a step to `folder`/step_<n>, then delete all but the last two."""
    with StateWriter(folder) as writer:
        writer.save(progress, network, average, optimizer)


def _copied(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {name: tensor.detach().to("cpu", copy=True) for name, tensor in tensors.items()}


def _write(folder: Path, step: int, tensors: Sequence[dict[str, Tensor]], record: dict[str, Any]) -> None:
    folder.mkdir(exist_ok=True)
    with atomic_folder(folder / f"step_{step:08d}") as temporary:
        for name, content in zip(_FILES, tensors, strict=True):
            save_tensors(temporary / name, content)
        hashes = {name: hash_of_file(temporary / name) for name in _FILES}
        write_json(temporary / "state.json", {**record, "sha256": hashes})
    for old in _states(folder)[:-_KEPT]:
        shutil.rmtree(old)


def load_latest(
    folder: Path, network: nn.Module, average: nn.Module, optimizer: torch.optim.Optimizer
) -> tuple[Progress | None, list[str]]:
    """Put the newest whole state into network, average and optimizer.

    Returns:
        The progress (None if there is no state yet), and a line about each damaged state that was passed over.

    Raises:
        CheckpointError: there are states, but every one is damaged.
    """
    damaged = []
    for state in reversed(_states(folder)):
        try:
            record = _verified(state)
        except (OSError, ValueError, KeyError, TypeError) as error:
            damaged.append(f"{state}: damaged ({error}); the previous state is used")
            continue
        put_tensors(network, load_tensors(state / _FILES[0]))
        put_tensors(average, load_tensors(state / _FILES[1]))
        optimizer.load_state_dict(_joined(load_tensors(state / _FILES[2]), record["optimizer"]))
        return Progress(**record["progress"]), damaged
    if damaged:
        raise CheckpointError(
            f"{folder}: every saved state is damaged; start again with --overwrite, or restore the folder"
        )
    return None, []


def has_state(folder: Path) -> bool:
    """Return whether there is a state to continue from, whole or damaged."""
    return bool(_states(folder))


def _states(folder: Path) -> list[Path]:
    return sorted(path for path in folder.glob("step_*") if path.is_dir() and TEMPORARY_PREFIX not in path.name)


def _verified(state: Path) -> dict[str, Any]:
    record: dict[str, Any] = read_json(state / "state.json")
    for name, expected in record["sha256"].items():
        if hash_of_file(state / name) != expected:
            raise ValueError(f"{name} differs from its hash")
    return record


def _split(state: dict[str, Any]) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Return an optimizer's state as named tensors and as what JSON can hold."""
    tensors: dict[str, Tensor] = {}
    values: dict[str, dict[str, Any]] = {}
    for index, entries in state["state"].items():
        for key, value in entries.items():
            if isinstance(value, Tensor):
                tensors[f"{index}.{key}"] = value
            else:
                values.setdefault(str(index), {})[key] = value
    return tensors, {"values": values, "param_groups": json.loads(json.dumps(state["param_groups"]))}


def _joined(tensors: dict[str, Tensor], rest: dict[str, Any]) -> dict[str, Any]:
    state: dict[int, dict[str, Any]] = {int(index): dict(values) for index, values in rest["values"].items()}
    for name, tensor in tensors.items():
        index, _, key = name.partition(".")
        state.setdefault(int(index), {})[key] = tensor
    groups = [{k: tuple(v) if k == "betas" else v for k, v in group.items()} for group in rest["param_groups"]]
    return {"state": state, "param_groups": groups}
