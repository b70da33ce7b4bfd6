"""The training loop: patches in, weights out; continues to the bit after a stop."""

from __future__ import annotations

import copy
import itertools
import math
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from brats_seg.config import RunConfig
from brats_seg.editions import get_edition
from brats_seg.errors import CheckpointError, WorkError
from brats_seg.inference.predict import WEIGHTS, Predictor
from brats_seg.networks.build import build_network, check_patch
from brats_seg.networks.compute import Compute, compiled, is_compiled, placed
from brats_seg.networks.losses import build_loss
from brats_seg.networks.recomputing import recompute_blocks
from brats_seg.networks.weights import Description, put_tensors, save_weights, tensors_of
from brats_seg.preprocessing.store import Store, StoredCase
from brats_seg.reporting.pictures.slices import outlined_slice
from brats_seg.training.augmentation import training_input
from brats_seg.training.checkpoints import Progress, StateWriter, load_latest
from brats_seg.training.distributed import ALONE, Processes
from brats_seg.training.initial import load_initial
from brats_seg.training.memory import explained_out_of_memory, peak_bytes
from brats_seg.training.metrics import METRICS, NO_RECORDS, Records, append_row, columns_of, cut_rows, score_columns
from brats_seg.training.optimizers import build_optimizer, learning_rate_share
from brats_seg.training.patches import PatchReader, Sample
from brats_seg.training.sampling import CasePool, generator
from brats_seg.training.validation import Scores, mean_scores
from brats_seg.training.volumes import hold_cases

__all__ = ["LAST_WEIGHTS", "METRICS", "Rehearsal", "Trainer", "Watcher"]

LAST_WEIGHTS = "last.safetensors"
_DROPOUT = 64
"""Stream of random numbers of the network itself, so that dropout, too, depends on seed and step alone."""
_STEPS_PER_ROW = 25
"""Steps between rows of metrics.csv, and between looks at the losses: each look waits for the device."""
_PICTURED_CASES = 2
"""Held-out cases of which a slice is shown at each validation."""


class Watcher(Protocol):
    """Whoever watches a training: a progress bar, curves."""

    def stepped(self, step: int, loss: float | None) -> None:
        """A step is done; `loss` where it was looked at."""

    def validated(self, step: int, scores: dict[str, float]) -> None:
        """A validation gave these mean Dice scores."""

    def said(self, line: str) -> None:
        """Something the user should read."""


@dataclass
class _Interval:
    """Losses of the steps since the last row of metrics.csv, still on the device."""

    losses: list[Tensor] = field(default_factory=list)
    begun: float = field(default_factory=time.perf_counter)


@dataclass(frozen=True)
class Rehearsal:
    """What a step takes."""

    seconds: float
    """Of a whole step, augmentation included."""
    augmentation_seconds: float
    """Of that, from raw voxels to the network's input."""
    peak_bytes: int
    """Most memory held, of the GPU or of the machine."""
    read_bytes: int
    """Voxels that a step reads from the store."""


class Trainer:
    """Trains one fold.

    Args:
        config: the run's settings.
        store: where the cases come from; gives channels and regions.
        training: cases to learn from.
        validation: cases held out; may be none.
        run: the RUN folder, present and writable.
        compute: device and precision.
        watcher: told of steps and validations.
        processes: that train together; the first writes.
        records: given each row of metrics.csv and pictures of held-out cases; the first process's alone.

    Raises:
        ConfigError: settings that fit neither each other nor the store.
    """

    def __init__(
        self,
        config: RunConfig,
        store: Store,
        training: Sequence[StoredCase],
        validation: Sequence[StoredCase],
        run: Path,
        compute: Compute,
        watcher: Watcher,
        processes: Processes = ALONE,
        records: Records = NO_RECORDS,
    ) -> None:
        train = config.train
        torch.backends.cudnn.benchmark = True  # patches are all of one size; without effect on a CPU
        check_patch(config.network, train.patch)
        self.processes, self.records = processes, records
        self._samples = processes.samples(train.batch, train.accumulate)
        self.config, self.run_folder, self.compute, self.watcher = config, run, compute, watcher
        self.validation_cases = list(validation)
        self.modalities = store.modalities
        self.description = Description(
            network=config.network.model_dump(mode="json"),
            modalities=tuple(store.modalities),
            regions=tuple(store.regions),
            editions=tuple(sorted({case.edition for case in training})),
            patch=train.patch,
        )
        network = build_network(
            config.network, in_channels=len(store.modalities), out_channels=len(store.regions), seed=config.seed
        )
        self.layout = compute.layout_of(network, train.layout, is_compiled=is_compiled(compute, train.compile))
        self.network = placed(network, compute.device, self.layout)
        self.average = copy.deepcopy(self.network).requires_grad_(False)
        self._parallel = processes.parallel(self.network)
        self._compiled = compiled(self._parallel, compute, train.compile)
        if train.checkpoint_activations:
            recompute_blocks(self.network)
        self.loss = build_loss(train.loss, processes.total)
        self.optimizer = build_optimizer(self.network.parameters(), train.optimizer)
        self.predictor = Predictor(self.average, self.description, config.inference, compute)
        self.scaler = torch.amp.GradScaler(compute.device.type, enabled=compute.precision == "fp16")
        self.pool = CasePool(training, store.regions, train.patch, train.sampling)
        self.volumes = hold_cases(training, train.store_device, compute.device)
        is_pinned = compute.device.type == "cuda" and self.volumes.where != "device"
        self.reader = PatchReader(
            self.pool,
            self.volumes,
            train.augmentation,
            config.seed,
            neighbours=config.network.neighbours,
            is_pinned=is_pinned,
        )
        self.progress = Progress()
        self._states = StateWriter(run / "state")
        self._interval = _Interval()

    def resume(self) -> bool:
        """Continue from the newest state of the run; False if there is none yet."""
        progress, damaged = load_latest(self.run_folder / "state", self.network, self.average, self.optimizer)
        for line in damaged:
            self.watcher.said(line)
        self._require_one_step(progress.step if progress else 0)
        if progress is None:
            return False
        self.progress = progress
        self.scaler.load_state_dict(progress.loss_scaling)
        if self.processes.is_first:
            cut_rows(self.run_folder / METRICS, progress.step, columns_of(self.description.regions))
        return True

    def _require_one_step(self, step: int) -> None:
        """Refuse to go on where processes have found different states: the RUN has to lie where all of them see it."""
        steps = self.processes.gathered(step, self.compute.device)
        if len(set(steps)) > 1:
            raise CheckpointError(
                f"{self.run_folder}: process {self.processes.rank} found the state of step {step}, others found "
                f"{sorted(set(steps) - {step})}; put the run's folder on a disk that every machine sees"
            )

    def start_from(self, weights: Path) -> None:
        """Start from trained weights instead of fresh ones (`train.init`).

        Raises:
            CheckpointError: weights of another network, or of other modalities or regions.
        """
        for line in load_initial(weights, self.network, self.description):
            self.watcher.said(line)
        put_tensors(self.average, tensors_of(self.network))

    def run(self) -> Progress:
        """Train to the last step, or until early stopping; return how far it came.

        Raises:
            WorkError: the loss is not finite (names the step and its cases), or out of memory (says what to try).
        """
        self._interval = _Interval()
        with self._states, explained_out_of_memory(self.config, self.compute):
            self._train()
        if self.processes.is_first:
            save_weights(self.run_folder / LAST_WEIGHTS, self.network, self.description)
        self.processes.wait()
        return self.progress

    def _train(self) -> None:
        train = self.config.train
        for step, samples in self._batches(self.progress.step + 1):
            self._step(step, samples)
            is_last = step == train.steps
            is_validated = step == 1 or is_last or step % train.validate_every == 0
            is_saved = is_last or step % train.checkpoint_every == 0
            if is_validated or is_saved or step % _STEPS_PER_ROW == 0:
                loss = self._look_at_losses()
                self._write_row(loss, self._validate() if is_validated else None)
                self.watcher.stepped(step, loss)
            else:
                self.watcher.stepped(step, None)
            stops = is_validated and self._has_stalled()
            self.progress.is_finished = is_last or stops
            if is_saved or stops:
                self._save()
            if stops:
                break

    def rehearse(self, num_steps: int = 3) -> Rehearsal:
        """Return what a step takes, the fastest of a few after one warm-up; the trainer is used up by it.

        Raises:
            WorkError: out of memory; says what to try.
        """
        seconds, data_seconds = [], []
        with explained_out_of_memory(self.config, self.compute):
            for step, samples in itertools.islice(self._batches(1), num_steps + 1):
                begun = time.perf_counter()
                training_input(samples, self.compute.device)[1].sum().item()  # waits for the device
                data_seconds.append(time.perf_counter() - begun)
                begun = time.perf_counter()
                self._step(step, samples)
                self._interval.losses[-1].item()
                seconds.append(time.perf_counter() - begun)
        read = sum(part.nbytes for sample in samples for part in (sample.image, sample.label_map))
        return Rehearsal(
            seconds=min(seconds[1:] or seconds),
            augmentation_seconds=min(data_seconds[1:] or data_seconds),
            peak_bytes=peak_bytes(self.compute.device),
            read_bytes=read,
        )

    def _batches(self, first: int) -> Iterator[tuple[int, list[Sample]]]:
        """Yield the samples of all remaining steps, two steps read ahead in a thread."""
        train = self.config.train

        def read(step: int) -> list[Sample]:
            return [self.reader.sample(step, number, train.batch) for number in self._samples]

        with ThreadPoolExecutor(1, thread_name_prefix="patches") as executor:
            ahead = [executor.submit(read, step) for step in range(first, min(first + 2, train.steps + 1))]
            for step in range(first, train.steps + 1):
                if step + 2 <= train.steps:
                    ahead.append(executor.submit(read, step + 2))
                yield step, ahead.pop(0).result()

    def _step(self, step: int, samples: list[Sample]) -> None:
        """Move the weights by the gradient of a step's samples; nothing here waits for the device."""
        train = self.config.train
        rate = train.optimizer.learning_rate * learning_rate_share(step, train.steps, train.schedule)
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        self.optimizer.zero_grad(set_to_none=True)
        torch.manual_seed(int(generator(self.config.seed, _DROPOUT, step, self.processes.rank).integers(2**62)))
        size = len(samples) // train.accumulate
        parts = []
        for first in range(0, len(samples), size):
            with self.processes.undisturbed(self._parallel, is_last=first + size == len(samples)):
                parts.append(self._backward(samples[first : first + size]))
        self.scaler.unscale_(self.optimizer)
        nn.utils.clip_grad_norm_(self.network.parameters(), train.optimizer.gradient_clip)
        self.scaler.step(self.optimizer)
        self.scaler.update()
        self._interval.losses.append(torch.stack(parts).mean() if len(parts) > 1 else parts[0])
        self.progress.step = step
        self._follow_average()

    def _backward(self, samples: list[Sample]) -> Tensor:
        """Add the gradient of some of a step's samples, and return their mean loss."""
        image, masks = training_input(samples, self.compute.device)
        loss = self.loss(self._logits(image), masks)
        self.scaler.scale(loss / self.config.train.accumulate).backward()
        detached: Tensor = loss.detach()
        return detached

    def _logits(self, image: Tensor) -> Any:
        """Return what the network gives: logits, or those of several heads."""
        with self.compute.autocast():
            return self._compiled(image.contiguous(memory_format=self.layout))

    @torch.no_grad()
    def _follow_average(self) -> None:
        """Move the average towards the weights; in the first steps faster, so that it forgets the start."""
        step, decay = self.progress.step, self.config.train.ema
        share = 1 - min(decay, (1 + step) / (10 + step))
        own, average = (list(tensors_of(net).values()) for net in (self.network, self.average))
        if decay == 0:
            torch._foreach_copy_(average, own)
            return
        reals = [[tensor for tensor in tensors if tensor.is_floating_point()] for tensors in (own, average)]
        torch._foreach_lerp_(reals[1], reals[0], share)
        for target, source in zip(average, own, strict=True):
            if not target.is_floating_point():  # batch norm counts its steps
                target.copy_(source)

    def _look_at_losses(self) -> float:
        """Return the mean loss since the last row, over all processes.

        Raises:
            WorkError: one of them is not finite.
        """
        losses: list[float] = self.processes.mean(torch.stack(self._interval.losses)).tolist()
        first = self.progress.step - len(losses) + 1
        for step, loss in enumerate(losses, first):
            if not math.isfinite(loss):
                train = self.config.train
                places = (self.pool.place(self.config.seed, step, n, train.batch) for n in range(train.batch))
                cases = ", ".join(self.pool.cases[place.case].name for place in places)
                raise WorkError(
                    f"step {step}: the loss is {loss} (cases {cases}); expected a finite number; try a smaller "
                    f"train.optimizer.learning_rate (now {train.optimizer.learning_rate}) or train.precision=fp32, "
                    "and brats-seg check on the data"
                )
        return sum(losses) / len(losses)

    def _write_row(self, loss: float, scores: Scores | None) -> None:
        """Append a row to metrics.csv: loss and speed since the last row, scores where there was a validation."""
        train, step = self.config.train, self.progress.step
        num_patches = len(self._interval.losses) * train.batch
        rate = train.optimizer.learning_rate * learning_rate_share(step, train.steps, train.schedule)
        row = {
            "step": step,
            "loss": loss,
            "learning_rate": rate,
            "patches_per_second": round(num_patches / max(time.perf_counter() - self._interval.begun, 1e-9), 3),
            **score_columns(scores, self.description.regions),
        }
        self._interval = _Interval()
        if self.processes.is_first:
            append_row(self.run_folder / METRICS, row)
            self.records.measured(step, row)

    def _validate(self) -> Scores | None:
        """Return the mean scores per region and over regions; keep the average's weights if they are the best so far.

        With no case held out the latest weights are kept, and there are no scores.
        """
        begun = time.perf_counter()
        progress, train = self.progress, self.config.train
        if not self.validation_cases:
            save_weights(self.run_folder / WEIGHTS, self.average, self.description)
            return None
        limit = None if progress.step == train.steps else train.validation_cases
        scores = mean_scores(self.predictor, self.validation_cases[:limit], self.processes, self._picture)
        mean = scores.dice["mean"]
        if progress.best_dice is None or mean > progress.best_dice:
            progress.best_dice, progress.best_step, progress.validations_since_best = mean, progress.step, 0
            if self.processes.is_first:
                save_weights(self.run_folder / WEIGHTS, self.average, self.description)
        else:
            progress.validations_since_best += 1
        progress.latest = scores.dice
        self.watcher.validated(progress.step, scores.dice)
        self._interval.begun += time.perf_counter() - begun
        return scores

    def _picture(self, number: int, case: StoredCase, prediction: NDArray[np.uint8]) -> None:
        """Show a slice of the case of this number among those that the first process has predicted."""
        if number < _PICTURED_CASES and self.processes.is_first and self.records.wants_pictures:
            edition = get_edition(case.edition)
            picture = outlined_slice(case.image(), self.modalities, case.label_map(), prediction, edition)
            self.records.pictured(self.progress.step, case.name, picture)

    def _has_stalled(self) -> bool:
        patience = self.config.train.early_stopping
        return patience is not None and self.progress.validations_since_best >= patience

    def _save(self) -> None:
        self.progress.loss_scaling = self.scaler.state_dict()
        if self.processes.is_first:
            self._states.save(self.progress, self.network, self.average, self.optimizer)
