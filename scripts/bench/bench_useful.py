"""Dice on held-out cases after some minutes of wall time: ours, nnU-Net's default, MONAI's tutorial, one after another.

    python scripts/bench/bench_useful.py --data DIR --out DIR [--held-out A,B,C,D] [--minutes 5,10,20] [--threads N]
                                         [--recipe NAME] [--sides ours,nnunet,monai] [--nnunet-patch EDGE]

DIR is a BraTS download. All sides learn from the same cases, without those held out, from fresh weights, on the
processor. Time runs from the start of the training process; preparing the data before, and predicting afterwards, do
not count. At each time the weights are kept, and predict the held-out cases later:

ours      `brats-seg train RECIPE`, one run of the longest time, its steps from a rehearsal; `brats-seg predict`
nnunet    nnU-Net's trainer with what it plans for BraTS (31 M weights, 128^3, batch 2), its loader; its sliding window
          without flips, windows side by side (its default, half overlapping, takes eight times as long). With
          --nnunet-patch its patch is smaller, windows overlap by half, and its learning rate falls to 0 over the
          longest time instead of over its thousand epochs: what an expert would set on a processor
monai     MONAI's 3-D tutorial: its transforms with 224 x 224 x 144, SegResNet, batch 1; its window of 240 x 240 x 160

The table goes to OUT/useful.csv and OUT/useful.png as well, with the sides that OUT knows from earlier calls. Peers run
in the environments of `peers.sh monai nnunet`.
"""

from __future__ import annotations

import argparse
import csv
import json
import os
import re
import shutil
import statistics
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import measure
from bench_train import find_files

Row = dict[str, Any]
REGIONS = ("ET", "TC", "WT")
_NAMES = {"ours": "brats_seg", "nnunet": "nnU-Net", "monai": "MONAI's tutorial"}
_COLORS = {"ours": "#0072b2", "nnunet": "#d55e00", "monai": "#777777"}


def arguments() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, metavar="DIR", help="a download")
    parser.add_argument("--out", type=Path, required=True, metavar="DIR", help="a folder that this makes or fills up")
    parser.add_argument("--held-out", metavar="IDS", help="cases that no side learns from (default: every seventh)")
    parser.add_argument("--minutes", default="5,10,20", help="when weights are kept (default: %(default)s)")
    parser.add_argument("--threads", type=int, default=os.cpu_count() or 1, help="of each side (default: %(default)s)")
    parser.add_argument("--recipe", default="cpu_small", help="ours (default: %(default)s)")
    parser.add_argument("--nnunet-patch", type=int, metavar="EDGE", help="64 or 96 voxels (default: its plan, 128)")
    parser.add_argument("--sides", default="ours,nnunet,monai", help="which, in order (default: %(default)s)")
    return parser.parse_args()


def brats_seg(*words: str | Path) -> str:
    """Run one of our commands and return what it printed."""
    call = [sys.executable, "-m", "brats_seg", *map(str, words)]
    return subprocess.run(call, check=True, stdout=subprocess.PIPE, text=True).stdout


def prepare(data: Path, out: Path, held_out: Sequence[str], names: Sequence[str]) -> tuple[Path, Path]:
    """Return a store to learn from, and one of the held-out cases."""
    stores = out / "training", out / "held_out"
    for store, chosen in zip(stores, ([n for n in names if n not in held_out], held_out), strict=True):
        if not (store / "store.json").is_file():
            brats_seg("prepare", data, store, "--cases", ",".join(chosen), "--quiet")
    return stores


def train_ours(args: argparse.Namespace, store: Path, minutes: Sequence[float]) -> list[Path]:
    """Train once for the longest time; return the folder of each time, a RUN that predict takes."""
    run = args.out / "ours"
    shutil.rmtree(run, ignore_errors=True)
    threads = f"train.threads={args.threads}"
    settings = [args.recipe, f"data.store={store}", "data.fold=none", f"output={run}", threads, "train.device=cpu"]
    told = re.search(r"measured: ([0-9.e-]+) s a step", brats_seg("train", *settings, "--dry-run"))
    if told is None:
        raise SystemExit("brats-seg train --dry-run did not tell the time of a step")
    steps = int(0.95 * 60 * max(minutes) / float(told[1]))
    each = max(1, steps // 200)  # the latest weights are written so often
    more = [f"train.steps={steps}", f"train.validate_every={each}", "--quiet"]
    words = [sys.executable, "-m", "brats_seg", "train", *settings, *more]
    begun = time.monotonic()
    process = subprocess.Popen(words)
    kept = []
    for minute in minutes:
        while time.monotonic() - begun < 60 * minute and process.poll() is None:
            time.sleep(0.5)
        folder = args.out / f"ours_{minute:g}"
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir()
        for name in ("config.yaml", "model.safetensors"):
            shutil.copyfile(run / name, folder / name)
        kept.append(folder)
    if process.wait():
        raise SystemExit(f"brats-seg train failed with exit code {process.returncode}")
    return kept


def rows_of_ours(args: argparse.Namespace, minutes: Sequence[float], held_out: Sequence[str]) -> list[Row]:
    """Return the Dice of each time and case, of our command's label maps, by our evaluation without penalties."""
    rows = []
    for minute in minutes:
        predictions, scores = args.out / f"ours_{minute:g}_maps", args.out / f"ours_{minute:g}_scores"
        chosen = ["--cases", ",".join(held_out), "--quiet", "--overwrite"]
        brats_seg("predict", args.out / f"ours_{minute:g}", args.data, predictions, *chosen)
        brats_seg("evaluate", args.data, predictions, "--protocol", "plain", "--out", scores, *chosen)
        with (scores / "cases.csv").open(encoding="utf-8") as file:
            found = [row for row in csv.DictReader(file) if row["region"] in REGIONS]
        rows += [
            {"side": "ours", "minutes": minute, **{key: row[key] for key in ("case", "region")}, "dice": row["dice"]}
            for row in found
        ]
    return rows


def rows_of_peer(
    name: str, args: argparse.Namespace, stores: tuple[Path, Path], minutes: Sequence[float], files: list[Row]
) -> list[Row]:
    """Return the Dice of each time and case of a peer, trained and predicted by its own environment."""
    python = measure.peer_python(name)
    if python is None:
        print(f"{name}: not measured; make its environment with: bash scripts/bench/peers.sh {name}")
        return []
    scratch = args.out / name
    shutil.rmtree(scratch, ignore_errors=True)
    scratch.mkdir()
    task = {
        "training": str(stores[0]),
        "held_out": str(stores[1]),
        "minutes": list(minutes),
        "threads": args.threads,
        "nnunet_patch": args.nnunet_patch,
        "scratch": str(scratch),
        "files": files,
    }
    environment = os.environ | {"OMP_NUM_THREADS": str(args.threads)}
    words = [python, Path(__file__).with_name("useful_peers.py"), name, json.dumps(task)]
    subprocess.run([str(word) for word in words], check=True, env=environment)
    return [{"side": name, **row} for row in json.loads((scratch / "rows.json").read_text(encoding="utf-8"))]


def show(rows: Sequence[Row], out: Path) -> None:
    """Print the means over the held-out cases, and write the table and its curves."""
    with (out / "useful.csv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, ["side", "minutes", "steps", "case", "region", "dice"])
        writer.writeheader()
        writer.writerows(rows)
    points = sorted({(row["side"], float(row["minutes"])) for row in rows})
    means = {
        point: [
            statistics.mean(
                float(row["dice"])
                for row in rows
                if (row["side"], float(row["minutes"]), row["region"]) == (*point, region)
            )
            for region in REGIONS
        ]
        for point in points
    }
    print("side     minutes     " + "     ".join(REGIONS))
    for (side, minute), dice in means.items():
        print(f"{side:8s} {minute:7g}  " + "  ".join(f"{value:.3f}" for value in dice))
    draw(means, out / "useful.png")
    last = {f"{side}_{minute:g}_min": [round(value, 3) for value in dice] for (side, minute), dice in means.items()}
    print(json.dumps({"bench": "useful", "ratios": {}, "figures": last}))


def draw(means: dict[tuple[str, float], list[float]], target: Path) -> None:
    """Draw mean Dice against minutes, a panel a region."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9, 3), layout="constrained")
    panels = figure.subplots(1, len(REGIONS), sharey=True)
    for number, (panel, region) in enumerate(zip(panels, REGIONS, strict=True)):
        for side in (side for side in _NAMES if any(name == side for name, _ in means)):
            its = [(minute, dice[number]) for (name, minute), dice in means.items() if name == side]
            panel.plot(*zip(*its, strict=True), marker="o", color=_COLORS[side], label=_NAMES[side])
        panel.set(title=region, xlabel="minutes of training", ylim=(0, 1), xlim=(0, None))
        panel.spines[["top", "right"]].set_visible(False)
        panel.grid(axis="y", alpha=0.3)
    panels[0].set_ylabel("mean Dice, held-out cases")
    panels[0].legend(frameon=False, loc="upper left")
    figure.savefig(target, dpi=150)


def main() -> None:
    """Train, predict and score all sides."""
    args = arguments()
    args.out.mkdir(parents=True, exist_ok=True)
    files = find_files(args.data, 10**6)
    names = [case["name"] for case in files]
    held_out = args.held_out.split(",") if args.held_out else names[3::7]
    minutes = [float(minute) for minute in args.minutes.split(",")]
    stores = prepare(args.data, args.out, held_out, names)
    for side in args.sides.split(","):
        if side == "ours":
            train_ours(args, stores[0], minutes)
            rows = rows_of_ours(args, minutes, held_out)
        else:
            its = [{**case, "is_held_out": case["name"] in held_out} for case in files]
            rows = rows_of_peer(side, args, stores, minutes, its)
        if rows:  # a peer without its environment keeps what was measured before
            (args.out / f"rows_{side}.json").write_text(json.dumps(rows), encoding="utf-8")
        known = [args.out / f"rows_{name}.json" for name in ("ours", "nnunet", "monai")]
        show([row for path in known if path.is_file() for row in json.loads(path.read_text("utf-8"))], args.out)


if __name__ == "__main__":
    main()
