"""Our side of bench_train: a process that holds a trainer, whose loop goes on from turn to turn."""

from __future__ import annotations

import itertools
import statistics
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import measure

if TYPE_CHECKING:
    from brats_seg.training.loop import Trainer

Answer = dict[str, Any]


class Ours:
    """A trainer whose loop goes on from turn to turn."""

    def __init__(self) -> None:
        self.trainer: Trainer | None = None

    def __call__(self, what: str, **task: Any) -> Answer:
        """Do what a turn asks for."""
        if self.trainer is None:
            self._start(**task)
        return {"loop": self._loop, "dummy": self._dummy, "sample": self._samples, "about": self._about}[what](**task)

    def _start(self, store: str, recipe: str, overrides: list[str], device: str, threads: int, **_: Any) -> None:
        import torch

        from brats_seg.config import load_config
        from brats_seg.networks.compute import choose_compute
        from brats_seg.preprocessing.store import open_store
        from brats_seg.training import loop

        class Silent:
            def stepped(self, step: int, loss: float | None) -> None: ...
            def validated(self, step: int, scores: dict[str, float]) -> None: ...
            def said(self, line: str) -> None: ...

        settings = [f"data.store={store}", "train.steps=1000000", f"train.device={device}", *overrides]
        config, opened = load_config(recipe, settings), open_store(Path(store))
        cases = [case for case in opened.cases if case.has_label]
        compute = choose_compute(config.train.device, config.train.precision, threads)
        self.trainer = loop.Trainer(config, opened, cases, cases[:1], Path(), compute, Silent())
        self._batches = self.trainer._batches(1)
        self._real = loop.training_input
        self._frozen: tuple[int, list[Any]] | None = None
        self._inputs: Any = None
        self._torch, self._module = torch, loop

    def _run(self, batches: Any, steps: int) -> Answer:
        trainer = self._of()
        for step, samples in itertools.islice(batches, steps):
            trainer._step(step, samples)
        trainer._interval.losses[-1].item()  # waits for the device
        trainer._interval.losses.clear()
        return {"patches": steps * trainer.config.train.batch}

    def _loop(self, steps: int, **_: Any) -> Answer:
        self._module.training_input = self._real
        return self._run(self._batches, steps)

    def _dummy(self, steps: int, **_: Any) -> Answer:
        if self._frozen is None:
            trainer = self._of()
            size = trainer.config.train.batch // trainer.config.train.accumulate
            self._frozen = next(self._batches)
            self._inputs = self._real(self._frozen[1][:size], trainer.compute.device)
        self._module.training_input = lambda *_: self._inputs
        return self._run(itertools.repeat(self._frozen), steps)

    def _samples(self, samples: int, first: int, **_: Any) -> Answer:
        """Time the chain at nnU-Net's probabilities on one thread of the processor."""
        from brats_seg.config import AugmentationConfig
        from brats_seg.training.augmentation import augment
        from brats_seg.training.patches import PatchReader
        from brats_seg.training.sampling import CasePool
        from brats_seg.training.volumes import hold_cases

        torch, trainer = self._torch, self._of()
        threads, cpu = torch.get_num_threads(), torch.device("cpu")
        torch.set_num_threads(1)
        cases = trainer.pool.cases
        pool = CasePool(cases, trainer.description.regions, (128, 128, 128), trainer.pool.config)
        reader = PatchReader(pool, hold_cases(cases, "disk", cpu), AugmentationConfig(), 0, is_pinned=False)
        augment(reader.sample(first, 0, 1), cpu)
        milliseconds = []
        for step in range(first, first + samples):
            begun = time.perf_counter()
            augment(reader.sample(step, 0, 1), cpu)
            milliseconds.append(1e3 * (time.perf_counter() - begun))
        torch.set_num_threads(threads)
        return {"mean_ms": statistics.mean(milliseconds), "milliseconds": [round(ms, 1) for ms in milliseconds]}

    def _about(self, **_: Any) -> Answer:
        """Return what was measured: device, layout, arithmetic of a patch, and the rate of a large product."""
        torch, trainer = self._torch, self._of()
        from torch.utils.flop_counter import FlopCounterMode

        device = trainer.compute.device
        image = torch.randn(1, len(trainer.modalities), *trainer.config.train.patch, device=device)
        masks = torch.zeros(1, len(trainer.description.regions), *trainer.config.train.patch, device=device)
        with FlopCounterMode(display=False) as counter:
            with trainer.compute.autocast():
                logits = trainer.network(image)
            trainer.loss(logits, masks).backward()
        dtype = torch.float32 if trainer.compute.precision == "fp32" else torch.bfloat16
        return {
            "device": str(trainer.compute),
            "data": trainer.volumes.explanation,
            "layout": str(trainer.layout),
            "tflop_a_patch": counter.get_total_flops() / 1e12,
            "product_tflop_s": self._product_rate(dtype, 8192 if device.type == "cuda" else 2048),
        }

    def _product_rate(self, dtype: Any, edge: int) -> float:
        torch, device = self._torch, self._of().compute.device
        a, b = (torch.randn(edge, edge, device=device).to(dtype) for _ in range(2))
        seconds = []
        for _ in range(10):
            begun = time.perf_counter()
            (a @ b)[0, 0].item()
            seconds.append(time.perf_counter() - begun)
        return float(2 * edge**3 / min(seconds) / 1e12)

    def _of(self) -> Trainer:
        if self.trainer is None:
            raise SystemExit("not started")
        return self.trainer


if __name__ == "__main__":
    from brats_seg.commands.process import prepare_process

    prepare_process()
    measure.serve(Ours())
