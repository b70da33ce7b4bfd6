"""Several processes that train one network together: torchrun starts them, each with a GPU (or a CPU's share).

Every process takes its part of each step's samples, and all take the same step: gradients are averaged, sums of losses
that run over the batch are added up. So a run has the same losses, up to rounding, on any number of processes. The
first process alone writes and prints. What processes tell each other is numbers and JSON; nothing is pickled.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.parallel import DistributedDataParallel

from brats_seg.errors import ConfigError, DeviceError, UsageError, WorkError

__all__ = ["ALONE", "Processes", "processes_of_environment"]

_PATIENCE = timedelta(hours=2)
"""How long a process waits for the others: they may still be reading, or predicting larger cases. torchrun ends all
processes when one has failed, so nobody waits for the dead."""

_SECONDS_FOR_THE_OTHER = 30.0
"""How long a process that has lost another waits for that one's own word, and for torchrun to end them all."""

_Item = TypeVar("_Item")


class _Total(torch.autograd.Function):
    """The sum of a tensor over all processes; so is its gradient, as every process's loss depends on every part."""

    @staticmethod
    def forward(ctx: Any, part: Tensor) -> Tensor:
        total = part.clone()
        dist.all_reduce(total)
        return total

    @staticmethod
    def backward(ctx: Any, *gradients: Any) -> Tensor:
        total: Tensor = gradients[0].clone()
        dist.all_reduce(total)
        return total


@dataclass(frozen=True)
class Processes:
    """The processes of a run, as one of them sees them."""

    count: int = 1
    rank: int = 0
    """Of this process among all, from 0."""
    local_rank: int = 0
    """Of this process among those of its machine, from 0; it takes the GPU of this number."""

    @property
    def is_first(self) -> bool:
        """Whether this is the process that writes and prints."""
        return self.rank == 0

    def samples(self, batch: int, parts: int) -> list[int]:
        """Return the numbers (0 ... batch - 1) of a step's samples that this process takes, part after part.

        Args:
            batch: samples a step, over all processes.
            parts: in how many parts the batch goes through the network one after another.

        Raises:
            ConfigError: a part cannot be divided among the processes.
        """
        if batch % (parts * self.count):
            least = parts * self.count
            near = sorted({max(batch // least, 1) * least, (batch // least + 1) * least})
            in_parts = f" in {parts} parts (train.accumulate)" if parts > 1 else ""
            raise ConfigError(
                f"train.batch={batch}{in_parts} cannot be divided among {self.count} processes; "
                f"use train.batch={' or '.join(map(str, near))}, or another number of processes"
            )
        size = batch // parts
        share = size // self.count
        first = [part * size + self.rank * share for part in range(parts)]
        return [start + number for start in first for number in range(share)]

    def share(self, items: Sequence[_Item]) -> Sequence[_Item]:
        """Return the items of this process; each item belongs to exactly one."""
        return items[self.rank :: self.count]

    def device(self, asked: str) -> str:
        """Return the device for this process: with several, each takes the GPU of its number on its machine.

        Raises:
            DeviceError: one certain GPU is asked of several processes.
        """
        if self.count == 1 or asked == "cpu":
            return asked
        if asked not in ("auto", "cuda"):
            raise DeviceError(f"device {asked!r} of {self.count} processes: each takes its own GPU; use auto or cuda")
        return f"cuda:{self.local_rank}" if asked == "cuda" or torch.cuda.is_available() else "cpu"

    @contextmanager
    def joined(self, device: torch.device) -> Iterator[None]:
        """Connect the processes: by NCCL between GPUs, by gloo between CPUs.

        Raises:
            WorkError: another process has ended before its time.
        """
        if self.count == 1:
            yield
            return
        if device.type == "cuda":
            torch.cuda.set_device(device)
            dist.init_process_group("nccl", timeout=_PATIENCE, device_id=device)
        else:
            dist.init_process_group("gloo", timeout=_PATIENCE)
        try:
            yield
        except RuntimeError as error:
            if not isinstance(error, dist.DistError) and "gloo" not in str(error):
                raise
            time.sleep(_SECONDS_FOR_THE_OTHER)
            raise WorkError(f"another process has ended ({str(error).splitlines()[0]})") from error
        dist.destroy_process_group()  # not after an error: it would wait for processes that hang in their own work

    def parallel(self, network: nn.Module) -> nn.Module:
        """Return the network as one whose gradients are averaged over processes; batch norms are joined.

        Raises:
            ConfigError: a network with batch norm on CPUs, whose statistics cannot be joined there.
        """
        if self.count == 1:
            return network
        device = next(network.parameters()).device
        if any(isinstance(module, _BatchNorm) for module in network.modules()):
            if device.type == "cpu":
                raise ConfigError(
                    f"network.arguments: batch norm over {self.count} processes needs GPUs; "
                    "use instance norm, or one process"
                )
            nn.SyncBatchNorm.convert_sync_batchnorm(network)  # type: ignore[no-untyped-call]
        return DistributedDataParallel(network, device_ids=[device] if device.type == "cuda" else None)

    def undisturbed(self, network: nn.Module, *, is_last: bool) -> AbstractContextManager[None]:
        """Return the context of a backward pass: gradients are averaged in the last one of a step alone."""
        if isinstance(network, DistributedDataParallel) and not is_last:
            return network.no_sync()
        return nullcontext()

    def total(self, part: Tensor) -> Tensor:
        """Return the sum of a tensor over all processes, with its gradient."""
        if self.count == 1:
            return part
        total: Tensor = _Total.apply(part)  # type: ignore[no-untyped-call]
        return total

    def mean(self, values: Tensor) -> Tensor:
        """Return the mean of a tensor over all processes."""
        return self.total(values) / self.count

    def gathered(self, value: Any, device: torch.device) -> list[Any]:
        """Return what each process has given, by rank: anything that JSON can hold, nan and inf included."""
        if self.count == 1:
            return [value]
        own = torch.frombuffer(bytearray(json.dumps(value).encode()), dtype=torch.uint8).to(device)
        sizes = [torch.zeros(1, dtype=torch.int64, device=device) for _ in range(self.count)]
        dist.all_gather(sizes, torch.tensor([own.numel()], device=device))
        largest = max(int(size) for size in sizes)
        texts = [torch.zeros(largest, dtype=torch.uint8, device=device) for _ in range(self.count)]
        dist.all_gather(texts, torch.nn.functional.pad(own, (0, largest - own.numel())))
        return [json.loads(text[: int(size)].cpu().numpy().tobytes()) for text, size in zip(texts, sizes, strict=True)]

    def wait(self) -> None:
        """Wait until all processes have come here."""
        if self.count > 1:
            dist.barrier()


ALONE = Processes()
"""One process that trains by itself."""


def processes_of_environment() -> Processes:
    """Return the processes that torchrun has started, as its environment variables tell; one without torchrun.

    Raises:
        UsageError: there are to be several, but not all that joins them is told.
    """
    count = int(os.environ.get("WORLD_SIZE", "1") or "1")
    if count == 1:
        return ALONE
    missing = [name for name in ("RANK", "LOCAL_RANK", "MASTER_ADDR", "MASTER_PORT") if not os.environ.get(name)]
    if missing:
        raise UsageError(
            f"WORLD_SIZE={count} processes, but {', '.join(missing)} not set; "
            f"start them with torchrun --standalone --nproc-per-node {count} -m brats_seg train ..."
        )
    return Processes(count, int(os.environ["RANK"]), int(os.environ["LOCAL_RANK"]))
