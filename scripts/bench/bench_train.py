"""Patches a second of a whole training loop, against the same loop on frozen data; and the cost of one sample.

    python scripts/bench/bench_train.py --data DIR | --store STORE [--recipe NAME] [--steps N] [--rounds N]
                                        [--threads N] [--device D] [--quick] [--json FILE] [KEY=VALUE ...]

DIR is a BraTS download, prepared into a folder for temporary files first; STORE is one that `brats-seg prepare` made.
`loop` is the recipe's own loop: reading, augmentation, network, loss, optimizer. `dummy` is the same with one frozen
batch: its rate is what the loop would reach if data cost nothing. `sample` is one 4 x 128^3 training sample on one
thread: read from the store, normalise, spatial and intensity augmentation at nnU-Net's ranges and probabilities, label
map and regions with it, mean over many. Beside it a chain of MONAI's transforms with the same probabilities
(environment of `peers.sh monai`) and nnU-Net's own (batchgeneratorsv2, `peers.sh nnunet`), both from a patch in memory.
KEY=VALUE changes the recipe. On a GPU the achieved rate of arithmetic is shown beside that of a large bf16 product.
"""

from __future__ import annotations

import argparse
import contextlib
import itertools
import os
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import measure

if TYPE_CHECKING:
    from brats_seg.training.loop import Trainer

Answer = dict[str, Any]


def arguments() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("overrides", nargs="*", metavar="KEY=VALUE", help="settings over the recipe's")
    parser.add_argument("--data", type=Path, metavar="DIR", help="a download")
    parser.add_argument("--store", type=Path, metavar="STORE", help="a prepared store, in place of --data")
    parser.add_argument("--cases", type=int, default=8, help="cases taken from --data (default: %(default)s)")
    parser.add_argument("--recipe", default="cpu_small", help="what is trained (default: %(default)s)")
    parser.add_argument("--steps", type=int, default=5, help="steps a round (default: %(default)s)")
    parser.add_argument("--rounds", type=int, default=7, help="measured rounds (default: %(default)s)")
    parser.add_argument("--samples", type=int, default=64, help="samples of the chain (default: %(default)s)")
    parser.add_argument("--threads", type=int, default=os.cpu_count() or 1, help="of the loop (default: %(default)s)")
    parser.add_argument("--device", default="auto", help="auto, cpu or cuda:N (default: %(default)s)")
    parser.add_argument("--quick", action="store_true", help="two cases, three rounds, 24 samples")
    parser.add_argument("--json", type=Path, default=Path("bench_train.json"), help="result (default: %(default)s)")
    parser.add_argument("--side", choices=sorted(SIDES), help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.side is None and (args.data is None) == (args.store is None):
        parser.error("one of --data DIR and --store STORE is needed")
    if args.quick:
        args.cases, args.rounds, args.samples = 2, 3, 24
    return args


# ---- our side: a process that holds a trainer ----


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


# ---- the peers' chains, each in its own environment ----


class Chain:
    """A peer's chain on a z-scored patch in memory; `build` gives it, called at the first turn."""

    def __init__(self, build: Any) -> None:
        self._build, self._chain = build, None

    def __call__(self, patch: str, samples: int, first: int, **_: Any) -> Answer:
        """Time the chain on one thread."""
        import numpy as np
        import torch

        torch.set_num_threads(1)
        if self._chain is None:
            content = np.load(patch)
            self._chain = self._build(torch.from_numpy(content["image"]), content["label"])
            self._chain()
        torch.manual_seed(first)
        np.random.seed(first)  # noqa: NPY002 (what the peers draw from)
        milliseconds = []
        for _ in range(samples):
            begun = time.perf_counter()
            self._chain()
            milliseconds.append(1e3 * (time.perf_counter() - begun))
        return {"mean_ms": statistics.mean(milliseconds)}


def monais_chain(image: Any, label: Any) -> Any:
    """Return MONAI's transforms with nnU-Net's probabilities (scale and rotation are one transform there)."""
    import numpy as np
    import torch
    from monai import transforms as mt

    regions = np.stack([label == 4, (label == 1) | (label == 4), label > 0]).astype(np.float32)
    masks, keys = torch.from_numpy(regions), ["image", "label"]
    chain = mt.Compose(
        [
            mt.RandAffined(
                keys,
                prob=0.36,
                rotate_range=[np.pi / 6] * 3,
                scale_range=[(-0.3, 0.4)] * 3,
                mode=("bilinear", "nearest"),
                padding_mode="zeros",
            ),
            mt.RandGaussianNoised("image", 0.1, std=0.1),
            mt.RandGaussianSmoothd("image", (0.5, 1), (0.5, 1), (0.5, 1), prob=0.1),
            mt.RandScaleIntensityd("image", 0.25, prob=0.15),
            mt.RandScaleIntensityFixedMeand("image", factors=0.25, prob=0.15),
            mt.RandSimulateLowResolutiond("image", 0.125, zoom_range=(0.5, 1)),
            mt.RandAdjustContrastd("image", 0.1, gamma=(0.7, 1.5), invert_image=True, retain_stats=True),
            mt.RandAdjustContrastd("image", 0.3, gamma=(0.7, 1.5), retain_stats=True),
            *[mt.RandFlipd(keys, 0.5, axis) for axis in range(3)],
        ]
    )
    return lambda: chain({"image": image.clone(), "label": masks.clone()})


def nnunets_chain(image: Any, label: Any) -> Any:
    """Return nnU-Net's own transforms and probabilities for a 3-D configuration."""
    import numpy as np
    import torch
    from batchgeneratorsv2.transforms.intensity.brightness import MultiplicativeBrightnessTransform
    from batchgeneratorsv2.transforms.intensity.contrast import BGContrast, ContrastTransform
    from batchgeneratorsv2.transforms.intensity.gamma import GammaTransform
    from batchgeneratorsv2.transforms.intensity.gaussian_noise import GaussianNoiseTransform
    from batchgeneratorsv2.transforms.noise.gaussian_blur import GaussianBlurTransform
    from batchgeneratorsv2.transforms.spatial.low_resolution import SimulateLowResolutionTransform
    from batchgeneratorsv2.transforms.spatial.mirroring import MirrorTransform
    from batchgeneratorsv2.transforms.spatial.spatial import SpatialTransform
    from batchgeneratorsv2.transforms.utils.random import RandomTransform

    labels = torch.from_numpy(label.astype(np.int16))[None]
    near_one, gamma = BGContrast((0.75, 1.25)), BGContrast((0.7, 1.5))
    spatial = SpatialTransform(
        tuple(image.shape[1:]),
        0,
        False,
        p_rotation=0.2,
        rotation=(-np.pi / 6, np.pi / 6),
        p_scaling=0.2,
        scaling=(0.7, 1.4),
        p_synchronize_scaling_across_axes=1,
        bg_style_seg_sampling=False,
    )
    low_resolution = SimulateLowResolutionTransform((0.5, 1), False, True, (), None, 0.5)
    chain = [
        spatial,
        RandomTransform(GaussianNoiseTransform((0, 0.1), 1, True), 0.1),
        RandomTransform(GaussianBlurTransform((0.5, 1.0), False, False, 0.5), 0.2),
        RandomTransform(MultiplicativeBrightnessTransform(near_one, False, 1), 0.15),
        RandomTransform(ContrastTransform(near_one, True, False, 1), 0.15),
        RandomTransform(low_resolution, 0.25),
        RandomTransform(GammaTransform(gamma, 1, 0, 1, 1), 0.1),
        RandomTransform(GammaTransform(gamma, 0, 0, 1, 1), 0.3),
        MirrorTransform((0, 1, 2)),
    ]

    def run() -> None:
        sample = {"image": image.clone(), "segmentation": labels.clone()}
        for transform in chain:
            sample = transform(**sample)

    return run


SIDES = {"ours": Ours(), "monai": Chain(monais_chain), "nnunet": Chain(nnunets_chain)}


# ---- the benchmark ----


def prepare(data: Path, num: int, target: Path) -> Path:
    """Return a store of `num` labelled cases of a download."""
    from brats_seg.cli import run
    from brats_seg.data.cases import find_cases

    names = [case.name for case in find_cases(data, strict=False).cases if case.label is not None]
    chosen = ",".join(names[:: max(1, len(names) // num)][:num])
    if run(["prepare", str(data), str(target), "--cases", chosen, "--quiet"]):
        raise SystemExit(f"{data}: could not be prepared")
    return target


def save_patch(store: Path, target: Path) -> Path:
    """Write a z-scored 4 x 128^3 patch around the tumour of the first case, and its label map, for the peers."""
    import numpy as np
    import torch

    from brats_seg.preprocessing.store import open_store
    from brats_seg.preprocessing.transforms import normalize_brain

    case = next(case for case in open_store(store).cases if case.has_label)
    label, edge = np.asarray(case.label_map()), 128
    centre = np.argwhere(label).mean(0).astype(int)
    start = [int(np.clip(c - edge // 2, 0, max(0, n - edge))) for c, n in zip(centre, label.shape, strict=True)]
    k, j, i = (slice(s, s + edge) for s in start)
    image = normalize_brain(torch.from_numpy(np.array(case.image()[:, k, j, i])), case.mean, case.sd).numpy()
    missing = [(0, edge - n) for n in image.shape[1:]]
    np.savez(target, image=np.pad(image, [(0, 0), *missing]), label=np.pad(label[k, j, i], missing))
    return target


def start_sides(threads: int) -> dict[str, measure.Side]:
    """Start our side, and those of the peers whose environments are there."""
    words: list[str | Path] = [Path(__file__).resolve(), "--side"]
    sides = {"ours": measure.Side("ours", [sys.executable, *words, "ours"], threads=threads)}
    for name in ("monai", "nnunet"):
        python = measure.peer_python(name)
        if python is None:
            print(f"{name}: not measured; make its environment with: bash scripts/bench/peers.sh {name}")
        else:
            sides[name] = measure.Side(name, [python, *words, name], threads=1)
    return sides


def measure_all(
    sides: dict[str, measure.Side], args: argparse.Namespace, store: Path, patch: Path
) -> tuple[dict[str, list[measure.Turn]], Answer]:
    """Return the turns of `loop`, `dummy` and each side's `sample`, taken one after another, and what was measured."""
    task = {
        "store": str(store),
        "recipe": args.recipe,
        "overrides": args.overrides,
        "device": args.device,
        "threads": args.threads,
        "steps": args.steps,
    }
    chunk = max(1, args.samples // args.rounds)
    about = dict(sides["ours"].turn(what="about", **task).answer)
    turns: dict[str, list[measure.Turn]] = {}
    for number in range(args.rounds + 1):
        drawn = {"samples": chunk, "first": 1 + number * chunk, "patch": str(patch)}
        of_round = {
            "loop": sides["ours"].turn(what="loop", **task),
            "dummy": sides["ours"].turn(what="dummy", **task),
            "ours": sides["ours"].turn(what="sample", **task, **drawn),
            **{name: side.turn(**drawn) for name, side in sides.items() if name != "ours"},
        }
        for name, turn in of_round.items() if number else ():
            turns.setdefault(name, []).append(turn)
    return turns, about


def main() -> None:
    """Measure and print the table."""
    args = arguments()
    if args.side is not None:
        if args.side == "ours":
            from brats_seg.commands.process import prepare_process

            prepare_process()
        measure.serve(SIDES[args.side])
        return
    with contextlib.ExitStack() as stack:
        scratch = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="bench-train-")))
        store = args.store or prepare(args.data, args.cases, scratch / "store")
        patch = save_patch(store, scratch / "patch.npz")
        sides = start_sides(args.threads)
        turns, about = measure_all(sides, args, store, patch)
        for side in sides.values():
            side.close()
    rates = {
        name: statistics.median(turn.answer["patches"] / turn.wall_s for turn in turns[name])
        for name in ("loop", "dummy")
    }
    chains = {
        name: statistics.mean(t.answer["mean_ms"] for t in its) for name, its in turns.items() if name not in rates
    }
    rows = [
        {**measure.row(f"{name} ({args.steps} steps)", turns[name]), "per s": round(rates[name], 3)} for name in rates
    ]
    rows += [
        {**measure.row(f"sample, {name}", turns[name]), "per s": round(1e3 / ms, 2)} for name, ms in chains.items()
    ]
    achieved = about["tflop_a_patch"] * rates["loop"]
    figures = {
        "patches_per_s": round(rates["loop"], 3),
        "dummy_patches_per_s": round(rates["dummy"], 3),
        "share_of_dummy": round(rates["loop"] / rates["dummy"], 3),
        "data_share_of_wall": round(1 - rates["loop"] / rates["dummy"], 3),
        **{f"sample_{name}_ms": round(ms, 1) for name, ms in chains.items()},
        "tflop_s": round(achieved, 3),
        "product_tflop_s": round(about["product_tflop_s"], 3),
        "share_of_product": round(achieved / about["product_tflop_s"], 3),
    }
    print(f"{args.recipe} {' '.join(args.overrides)} on {about['device']}, {about['layout']}; {about['data']}")
    measure.report(
        "train",
        rows,
        ratios={name: ms / chains["ours"] for name, ms in chains.items() if name != "ours"},
        figures=figures,
        conditions={"recipe": args.recipe, "overrides": args.overrides, "threads": args.threads, **about, **versions()},
        target=args.json,
    )


def versions() -> Answer:
    """Return the versions of all sides."""
    from brats_seg.files import provenance

    found: Answer = {"versions": provenance()["versions"]}
    for name in ("monai", "nnunet"):
        python = measure.peer_python(name)
        made_of = python.parent.parent / "made-of.txt" if python else None
        found[f"peer {name}"] = made_of.read_text().strip() if made_of and made_of.is_file() else None
    return found


if __name__ == "__main__":
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    main()
