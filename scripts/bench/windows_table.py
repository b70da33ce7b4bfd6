"""What the choice of windows and precision costs and gives: Dice and seconds of held-out cases, way by way.

    python scripts/bench/windows_table.py --store STORE --runs RUN [RUN ...] [--cases N] [--device D] [--threads N]
                                          [--json FILE] [--set KEY=VALUE ...]

STORE is what `brats-seg prepare` wrote, RUN what `train` wrote with it; each run predicts the cases that it has not
seen (RUN/validation/cases.txt), so the folds of a cross-validation together predict every case. KEY=VALUE are settings
of inference for all ways. Each way is compared with the first, windows of the training patch, half overlapping, fp32:

patch .5, patch .25    windows of the training patch
1.5 x patch            larger windows
one pass               one window over the whole brain crop (a network of slices: over each slice of it)
tutorial               one window of 240 x 240 x 160 over the whole volume with its background, as in MONAI's tutorial
patch .5, bf16         the first way with bf16 autocast

Seconds are those of the network and its windows, a case; Dice is 1 where a region is absent on both sides (brats2020).
"""

from __future__ import annotations

import argparse
import math
import os
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import measure

Shape = tuple[int, int, int]
_TUTORIAL = (160, 240, 240)


@dataclass(frozen=True)
class Way:
    """How a case goes through the network."""

    name: str
    window: Callable[[Shape, Shape, Shape], Shape]
    """(patch, crop, stride) -> window."""
    overlap: float = 0.5
    precision: str = "fp32"
    is_whole: bool = False
    """Whether the volume's background goes through the network, too."""


def multiple_of(shape: Sequence[float], stride: Shape) -> Shape:
    """Return the next multiple of the stride, axis by axis."""
    k, j, i = (math.ceil(size / step) * step for size, step in zip(shape, stride, strict=True))
    return k, j, i


WAYS = (
    Way("patch .5", lambda patch, crop, stride: patch),
    Way("patch .25", lambda patch, crop, stride: patch, overlap=0.25),
    Way("1.5 x patch", lambda patch, crop, stride: multiple_of([1.5 * edge for edge in patch], stride)),
    Way("one pass", lambda patch, crop, stride: multiple_of(crop, stride)),
    Way("tutorial", lambda patch, crop, stride: multiple_of(_TUTORIAL, stride), is_whole=True),
    Way("patch .5, bf16", lambda patch, crop, stride: patch, precision="bf16"),
)


def arguments() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--store", type=Path, required=True, metavar="STORE", help="a prepared store")
    parser.add_argument("--runs", type=Path, required=True, nargs="+", metavar="RUN", help="runs with held-out cases")
    parser.add_argument("--cases", type=int, help="so many cases of each run (default: all)")
    parser.add_argument("--device", default="cpu", help="cpu or cuda:N (default: %(default)s)")
    parser.add_argument("--threads", type=int, default=os.cpu_count() or 1, help="compute threads (default: all cores)")
    parser.add_argument("--set", dest="overrides", nargs="+", default=[], metavar="KEY=VALUE", help="of inference")
    parser.add_argument("--json", type=Path, default=Path("windows_table.json"), help="result (default: %(default)s)")
    return parser.parse_args()


def measure_run(run: Path, cases: Sequence[Any], args: argparse.Namespace) -> list[dict[str, Any]]:
    """Return a record for each case and way: Dice per region, seconds, number of windows."""
    from brats_seg.inference.predict import load_predictor, read_run_config
    from brats_seg.networks.build import stride_of
    from brats_seg.networks.compute import choose_compute

    config = read_run_config(run, [*args.overrides, "inference.window=null"])
    loaded = load_predictor(run, config, choose_compute(args.device, "fp32", args.threads))
    stride = stride_of(config.network)
    records = []
    for case in cases:
        for way in WAYS:
            records.append(measure_case(case, way, loaded, stride, args.device))
            print(
                f"{case.name}  {way.name:16}" + "  ".join(f"{k} {v}" for k, v in list(records[-1].items())[2:]),
                flush=True,
            )
    return records


def measure_case(case: Any, way: Way, loaded: Any, stride: Shape, device: str) -> dict[str, Any]:
    """Return Dice per region, seconds and windows of a case, predicted in one way."""
    import numpy as np

    from brats_seg.editions import get_edition
    from brats_seg.evaluation.overlap import confusion, dice
    from brats_seg.inference.predict import Predictor, paste
    from brats_seg.inference.windows import num_passes
    from brats_seg.networks.compute import choose_compute

    edition, crop = get_edition(case.edition), case.image()
    image, reference = np.asarray(crop), np.asarray(case.label_map())
    if way.is_whole:
        image = np.stack([paste(volume, case.crop_start, case.shape) for volume in image])
        reference = paste(reference, case.crop_start, case.shape)
    patch = loaded.description.patch
    own = way.window(patch, crop.shape[1:], stride)
    window = tuple(edge if of_patch > 1 else 1 for edge, of_patch in zip(own, patch, strict=True))  # slices stay slices
    inference = loaded.inference.model_copy(update={"window": window, "overlap": way.overlap})
    compute = choose_compute(device, way.precision)
    predictor = Predictor(loaded.network, loaded.description, inference, compute)
    begun = time.perf_counter()
    probabilities = predictor.probabilities(image, case.mean, case.sd).cpu()
    seconds = time.perf_counter() - begun
    counts = confusion(reference, predictor.label_map(probabilities, edition), edition)
    scores = {region: float(dice(counts[region])) for region in loaded.description.regions}
    return {
        "case": case.name,
        "way": way.name,
        **{region: 1.0 if math.isnan(score) else round(score, 5) for region, score in scores.items()},
        "seconds": round(seconds, 2),
        "windows": num_passes(image.shape[1:], window, way.overlap, inference.tta),
    }


def summarize(records: Sequence[dict[str, Any]], regions: Sequence[str]) -> list[dict[str, Any]]:
    """Return a row a way: mean Dice, the difference of their mean to the first way's, seconds."""
    rows: list[dict[str, Any]] = []
    first: float | None = None
    for way in WAYS:
        own = [record for record in records if record["way"] == way.name]
        means = {region: statistics.mean(record[region] for record in own) for region in regions}
        mean = statistics.mean(means.values())
        first = mean if first is None else first
        rows.append(
            {
                "what": way.name,
                **{region: round(value, 4) for region, value in means.items()},
                "mean": round(mean, 4),
                "to first": round(mean - first, 4) + 0.0,
                "s a case": round(statistics.median(record["seconds"] for record in own), 2),
                "windows": statistics.median(record["windows"] for record in own),
            }
        )
    return rows


def main() -> None:
    """Measure all runs and print the table."""
    args = arguments()
    from brats_seg.commands.process import prepare_process

    prepare_process()
    from brats_seg.inference.predict import describe_run
    from brats_seg.preprocessing.store import open_store

    stored = {case.name: case for case in open_store(args.store).cases}
    records: list[dict[str, Any]] = []
    for run in args.runs:
        names = (run / "validation" / "cases.txt").read_text(encoding="utf-8").split()[: args.cases]
        records += measure_run(run, [stored[name] for name in names], args)
    regions = describe_run(args.runs[0]).regions
    rows = summarize(records, regions)
    measure.report(
        "windows",
        rows,
        ratios={},
        figures={row["what"]: row["to first"] for row in rows[1:]},
        conditions={
            "runs": [run.name for run in args.runs],
            "cases": len(records) // len(WAYS),
            "threads": args.threads,
            "device": args.device,
            "overrides": args.overrides,
            "records": records,
            "versions": measure.versions(),
        },
        target=args.json,
    )


if __name__ == "__main__":
    main()
