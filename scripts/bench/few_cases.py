"""What few training cases give: fine-tuning against training from scratch for the same time, or a learning curve.

    python scripts/bench/few_cases.py --data DIR --out DIR [--sizes 2,4,8] [--steps N] [--first-steps N] [--recipe NAME]
                                      [--ways scratch,fine-tuned] [--device D] [--threads N]

DIR is a BraTS download, one time point a patient. Every fourth case, by name, is kept for the test (six of 28).

fine-tuned   Two thirds of the others train a first model (`--first-steps` of the recipe), as others' would have;
             of the rest one's own are the first two, four, eight. On those the recipe runs for `--steps` from the first
             model's weights with a tenth of its learning rate
scratch      and from fresh weights with all of it: the same network, so the same time

`--ways scratch` alone is a learning curve: fresh weights, and one's own cases are all that are not of the test
(`--sizes 4,8,16,22`), best with the recipe's own number of steps. Finished runs that OUT holds are kept, others go on
where they stopped; neither has seconds in the table. It goes to OUT/few_cases.csv as well; Dice by protocol `plain`.
From three sizes on the gain a doubling of the cases is shown: least squares, and its 95 % interval over the test cases.
"""

from __future__ import annotations

import argparse
import csv
import hashlib
import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from bench_train import find_files
from scipy.stats import bootstrap

from brats_seg.config import load_config

Row = dict[str, Any]
REGIONS = ("ET", "TC", "WT")


def arguments() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, metavar="DIR", help="a download")
    parser.add_argument(
        "--out", type=Path, required=True, metavar="DIR", help="a folder that this makes or goes on with"
    )
    parser.add_argument("--ways", default="scratch,fine-tuned", help="which (default: %(default)s)")
    parser.add_argument("--sizes", default="2,4,8", help="numbers of one's own cases (default: %(default)s)")
    parser.add_argument("--steps", type=int, default=200, help="of each run on them (default: %(default)s)")
    parser.add_argument("--first-steps", type=int, help="of the first model (default: the recipe's)")
    parser.add_argument("--recipe", default="starter", help="of all runs (default: %(default)s)")
    parser.add_argument("--device", default="auto", help="auto, cpu or cuda:N (default: %(default)s)")
    parser.add_argument("--threads", type=int, default=os.cpu_count() or 1, help="compute threads (default: all cores)")
    return parser.parse_args()


def brats_seg(*words: str | Path) -> None:
    """Run one of our commands."""
    subprocess.run([sys.executable, "-m", "brats_seg", *map(str, words)], check=True, stdout=subprocess.DEVNULL)


def parted(names: Sequence[str], ways: Sequence[str]) -> tuple[list[str], list[str], list[str]]:
    """Return the cases of the first model, one's own, and those of the test."""
    test = list(names[1::4])[:6]
    rest = sorted(set(names) - set(test), key=lambda name: hashlib.sha256(name.encode()).digest())  # of all sources
    num_first = len(rest) * 7 // 11 if "fine-tuned" in ways else 0
    return rest[:num_first], rest[num_first:], test


def prepared(args: argparse.Namespace, name: str, cases: Sequence[str]) -> Path:
    """Return a store of some of the cases."""
    store: Path = args.out / f"store_{name}"
    if not (store / "store.json").is_file():
        brats_seg("prepare", args.data, store, "--cases", ",".join(cases), "--quiet")
    return store


def trained(args: argparse.Namespace, name: str, store: Path, steps: int, *settings: str) -> tuple[Path, float | None]:
    """Return a run, and the seconds that it took (None where it had begun before: a part is no time to compare)."""
    run = args.out / f"run_{name}"
    begun_before = (run / "config.yaml").is_file()
    words = [args.recipe, f"data.store={store}", "data.fold=none", f"output={run}", f"train.device={args.device}"]
    words += [f"train.threads={args.threads}", f"train.steps={steps}", f"train.validate_every={steps}"]
    words += ["train.checkpoint_every=100", *settings, "--quiet", *["--resume"] * begun_before]
    begun = time.monotonic()
    brats_seg("train", *words)
    return run, None if begun_before else time.monotonic() - begun


def scored(args: argparse.Namespace, run: Path, cases: Sequence[str]) -> dict[str, list[float]]:
    """Return the Dice of each test case, region by region."""
    maps, scores = run / "test", run / "test_scores"
    chosen = ["--cases", ",".join(cases), "--quiet", "--overwrite"]
    brats_seg("predict", run, args.data, maps, *chosen, "--device", args.device)
    brats_seg("evaluate", args.data, maps, "--protocol", "plain", "--out", scores, *chosen)
    with (scores / "cases.csv").open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    return {region: [float(row["dice"]) for row in rows if row["region"] == region] for region in REGIONS}


def means(dice: dict[str, list[float]]) -> dict[str, float]:
    """Return the mean over the cases, region by region."""
    return {region: statistics.mean(values) for region, values in dice.items()}


def show(rows: Sequence[Row], out: Path) -> None:
    """Print the table, and write it."""
    with (out / "few_cases.csv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, ["cases", "weights", "steps", "seconds", *REGIONS])
        writer.writeheader()
        writer.writerows(rows)
    print("cases  weights      steps  seconds     ET     TC     WT")
    for row in rows:
        dice = "  ".join(f"{row[region]:.3f}" for region in REGIONS)
        seconds = "-" if row["seconds"] is None else f"{row['seconds']:.0f}"
        print(f"{row['cases']:>5}  {row['weights']:<11}{row['steps']:>7}{seconds:>9}  {dice}")


def show_gains(way: str, curve: dict[int, dict[str, list[float]]]) -> None:
    """Print what a doubling of the cases gives: the mean of the test cases' own slopes, and its bootstrap interval."""
    doublings = np.log2(list(curve))
    for region in REGIONS:
        slopes = np.polyfit(doublings, np.array([dice[region] for dice in curve.values()]), 1)[0]
        low, high = bootstrap((slopes,), np.mean, method="percentile", rng=np.random.default_rng(0)).confidence_interval
        print(f"{way}, gain a doubling in {region}: {slopes.mean():.3f} ({low:.3f} to {high:.3f})")


def main() -> None:
    """Train the first model where one is needed, then each way on few cases."""
    args = arguments()
    args.out.mkdir(parents=True, exist_ok=True)
    ways = args.ways.split(",")
    others, own, test = parted([case["name"] for case in find_files(args.data, 10**6)], ways)
    recipe = load_config(args.recipe).train
    rate, first_steps = recipe.optimizer.learning_rate, args.first_steps or recipe.steps
    short = [f"train.schedule.warmup_steps={args.steps // 10}", f"train.ema={max(0.9, 1 - 6 / args.steps):.3f}"]
    if args.steps == recipe.steps:  # the recipe's own are meant for these
        short = []
    settings = {"scratch": short}
    rows: list[Row] = []
    if "fine-tuned" in ways:
        first, seconds = trained(args, "first", prepared(args, "first", others), first_steps)
        tuning = [f"train.optimizer.learning_rate={rate / 10}", f"train.init={first}"]
        settings["fine-tuned"] = [*tuning, *short]
        rows.append({"cases": 0, "weights": "first", "steps": first_steps, "seconds": seconds})
        rows[-1] |= means(scored(args, first, test))
    curves: dict[str, dict[int, dict[str, list[float]]]] = {way: {} for way in ways}
    for size in (int(word) for word in args.sizes.split(",")):
        store = prepared(args, f"{ways[-1]}_{size}", own[:size])
        for way in ways:
            run, seconds = trained(args, f"{way}_{size}", store, args.steps, *settings[way])
            rows.append({"cases": size, "weights": way, "steps": args.steps, "seconds": seconds})
            curves[way][size] = scored(args, run, test)
            rows[-1] |= means(curves[way][size])
            show(rows, args.out)
    for way, curve in curves.items():
        if len(curve) > 2:
            show_gains(way, curve)
    last = {f"{row['weights']}_{row['cases']}": [round(row[region], 3) for region in REGIONS] for row in rows}
    print(json.dumps({"bench": "few_cases", "ratios": {}, "figures": last}))


if __name__ == "__main__":
    main()
