"""Time from two label maps to scores: ours against MONAI's metrics and MedPy's HD95.

    python scripts/bench/bench_metrics.py --case DIR [--rounds N] [--folder-cases N] [--quick] [--json FILE]

DIR is a folder of one BraTS case with a segmentation. It is scored against a disturbed copy of itself (the label map
moved by a voxel along two axes, two false blobs of oedema); another pair has 32 lesions a side, some without partner.
Label maps lie in memory, each side has one thread and a process of its own, and they take turns:

whole     overlap counts, HD95 by all three definitions and surface Dice of ET, TC, WT
monai     compute_dice, get_confusion_matrix, compute_hausdorff_distance and compute_surface_dice of the same masks
          (environment of `peers.sh monai`; masks are tensors already)
medpy     hd95 of the three masks (environment of `peers.sh medpy`)

Then ours alone: from files to records, each protocol on both pairs, `brats-seg evaluate` on a folder of --folder-cases
copies of the pair with two processes, and the start-up of `brats-seg evaluate --help`.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from functools import lru_cache
from pathlib import Path
from typing import Any

import measure
import numpy as np

PROTOCOLS = ("brats2020", "brats2023", "brats2024", "instance", "plain")
ISO = (1.0, 1.0, 1.0)


def arguments() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--case", type=Path, metavar="DIR", help="a folder of one case, with a segmentation")
    parser.add_argument("--rounds", type=int, default=7, help="measured rounds (default: %(default)s)")
    parser.add_argument("--folder-cases", type=int, default=125, help="cases of the folder (default: %(default)s)")
    parser.add_argument("--quick", action="store_true", help="three rounds, 20 cases")
    parser.add_argument("--json", type=Path, default=Path("bench_metrics.json"), help="result (default: %(default)s)")
    parser.add_argument("--side", choices=sorted(SIDES), help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.case is None and args.side is None:
        parser.error("--case DIR is needed: a folder of one BraTS case, with a segmentation")
    if args.quick:
        args.rounds, args.folder_cases = 3, 20
    return args


# ---- the sides, each in its own process; `folder` holds the label maps of a pair ----


@lru_cache
def maps_of(folder: str) -> tuple[np.ndarray, np.ndarray]:
    """Return the label maps of a pair, from memory after the first call."""
    return np.load(f"{folder}/reference.npy"), np.load(f"{folder}/prediction.npy")


@lru_cache
def masks_of(folder: str, et_label: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the masks (ET, TC, WT) of a pair, each (3, K, J, I) bool."""
    labels = ((et_label,), (1, et_label), (1, 2, et_label))
    reference, prediction = (np.stack([np.isin(label_map, one) for one in labels]) for label_map in maps_of(folder))
    return reference, prediction


def score_ours(what: str, folder: str, edition: str, et_label: int) -> dict[str, Any]:
    """Score a pair: `whole`, `files`, or a protocol's name."""
    if what == "files":
        return {"dice": _from_files(folder, edition)}
    if what == "whole":
        return {"values": _whole(*maps_of(folder), edition)}
    from brats_seg.evaluation import evaluate_case

    rows = evaluate_case("case", *maps_of(folder), edition, what, ISO)
    return {"dice": rows[0].dice}


def _whole(reference: np.ndarray, prediction: np.ndarray, edition_name: str) -> list[list[float]]:
    from brats_seg.editions import get_edition
    from brats_seg.evaluation.masks import MaskPair
    from brats_seg.evaluation.overlap import confusion, dice, mask_of_labels, union_box
    from brats_seg.evaluation.surface import hd95_directed, hd95_pooled, nsd

    edition = get_edition(edition_name)
    counts = confusion(reference, prediction, edition)
    box = union_box(reference, prediction)
    values = []
    for name, labels in edition.regions.items():
        masks = [mask_of_labels(label_map[box], labels) for label_map in (reference, prediction)]
        pair = MaskPair(masks[0], masks[1], counts[name], ISO)
        borders = pair.borders_mm
        distances = [hd95_pooled(borders), pair.hd95_by_area_mm, hd95_directed(borders)]
        values.append([dice(pair.counts), *distances, nsd(borders, 1.0)])
    return values


def _from_files(folder: str, edition: str) -> float:
    from brats_seg.data.nifti import read_label_map
    from brats_seg.evaluation import evaluate_case

    maps = [read_label_map(Path(folder) / f"{name}.nii.gz") for name in ("reference", "prediction")]
    return evaluate_case("case", maps[0][0], maps[1][0], edition, "brats2020", maps[0][1].spacing_mm)[0].dice


def score_monais(what: str, folder: str, edition: str, et_label: int) -> dict[str, Any]:
    """Call MONAI's four functions on the masks of a pair."""
    import torch
    from monai import metrics as mm

    torch.set_num_threads(1)
    reference, prediction = _tensors(folder, et_label)
    own = {"include_background": True}
    dices = mm.compute_dice(prediction, reference, **own)
    mm.get_confusion_matrix(prediction, reference, **own)
    distances = mm.compute_hausdorff_distance(prediction, reference, percentile=95, **own)
    surface = mm.compute_surface_dice(prediction, reference, [1.0] * 3, **own)
    return {"values": torch.stack([dices[0], distances[0], surface[0]], dim=1).tolist()}


@lru_cache
def _tensors(folder: str, et_label: int) -> Any:
    import torch

    return tuple(torch.from_numpy(mask)[None].float() for mask in masks_of(folder, et_label))


def score_medpys(what: str, folder: str, edition: str, et_label: int) -> dict[str, Any]:
    """Call MedPy's hd95 on the masks of a pair."""
    from medpy.metric.binary import hd95

    reference, prediction = masks_of(folder, et_label)
    return {"values": [float(hd95(p, r)) for p, r in zip(prediction, reference, strict=True)]}


SIDES = {"ours": score_ours, "monai": score_monais, "medpy": score_medpys}


# ---- the pairs ----


def disturbed(label_map: np.ndarray) -> np.ndarray:
    """Return a label map moved by a voxel along two axes, with two false blobs of oedema."""
    moved = np.roll(label_map, (1, 1), (1, 2))
    for k, j, i in ((60, 100, 100), (70, 80, 140)):
        moved[k : k + 4, j : j + 5, i : i + 6] = 2
    return moved


def many_lesions(shape: tuple[int, ...], et_label: int) -> tuple[np.ndarray, np.ndarray]:
    """Return a pair of 32 lesions a side, two of each without partner: balls of oedema around ET around necrosis."""
    random = np.random.default_rng(0)
    grids = np.ogrid[tuple(slice(size) for size in shape)]
    pair = np.zeros((2, *shape), np.uint8)
    for number in range(34):
        centre, radius = random.uniform(0.2, 0.8, 3) * shape, random.uniform(3, 9)
        for side in (0, 1):
            if number >= 30 + 2 * side and number < 32 + 2 * side:
                continue  # two lesions of each side are missing on the other
            moved = centre + side * random.uniform(-1.5, 1.5, 3)
            distance = sum((grid - at) ** 2 for grid, at in zip(grids, moved, strict=True))
            for share, label in ((1.0, 2), (0.7, et_label), (0.4, 1)):
                pair[side][distance <= (share * radius) ** 2] = label
    return pair[0], pair[1]


def write_pair(folder: Path, reference: np.ndarray, prediction: np.ndarray, header: Any) -> str:
    """Write a pair's label maps, as arrays and as files."""
    from brats_seg.data.nifti import write_label_map

    folder.mkdir()
    for name, label_map in (("reference", reference), ("prediction", prediction)):
        np.save(folder / f"{name}.npy", label_map)
        write_label_map(folder / f"{name}.nii.gz", label_map, header)
    return str(folder)


def find_case(folder: Path) -> tuple[Path, str]:
    """Return the segmentation and the edition of the case in a folder."""
    from brats_seg.data.cases import find_cases

    cases = [case for case in find_cases(folder, strict=False).cases if case.label is not None]
    if len(cases) != 1 or cases[0].label is None:
        raise SystemExit(f"{folder}: holds {len(cases)} cases with a segmentation, expected one; name its folder")
    return cases[0].label, cases[0].edition


# ---- the benchmark ----


def start_sides() -> list[measure.Side]:
    """Start our side, and the peers' where their environments are."""
    script = Path(__file__).resolve()
    sides = [measure.Side("ours", [sys.executable, script, "--side", "ours"], threads=1)]
    for name in ("monai", "medpy"):
        python = measure.peer_python(name)
        if python is None:
            print(f"{name}: not measured; make its environment with: bash scripts/bench/peers.sh {name}")
        else:
            sides.append(measure.Side(name, [python, script, "--side", name], threads=1))
    return sides


def time_folder(folder: Path, pair: str, edition: str, num: int) -> float:
    """Return the seconds of `brats-seg evaluate` on `num` copies of a pair, with two processes."""
    for side in ("reference", "prediction"):
        (folder / side).mkdir(parents=True)
        for number in range(num):
            os.link(f"{pair}/{side}.nii.gz", folder / side / f"case{number:04}.nii.gz")
    words = [sys.executable, "-m", "brats_seg", "evaluate", folder / "reference", folder / "prediction"]
    options = ["--protocol", "brats2020", "--edition", edition, "--jobs", "2", "--quiet", "--out", folder / "out"]
    begun = time.perf_counter()
    subprocess.run([*words, *options], check=True)
    return time.perf_counter() - begun


def time_help(rounds: int) -> float:
    """Return the median seconds of `brats-seg evaluate --help`."""
    seconds = []
    for _ in range(rounds):
        begun = time.perf_counter()
        words = [sys.executable, "-m", "brats_seg", "evaluate", "--help"]
        subprocess.run(words, check=True, stdout=subprocess.DEVNULL)
        seconds.append(time.perf_counter() - begun)
    return statistics.median(seconds)


def measure_all(
    args: argparse.Namespace, scratch: Path
) -> tuple[list[dict[str, Any]], dict[str, float], dict[str, Any]]:
    """Return the table's rows, the ratios and the figures."""
    from brats_seg.data.nifti import read_label_map
    from brats_seg.editions import get_edition

    label, edition = find_case(args.case)
    et_label = next(iter(get_edition(edition).regions["ET"]))
    reference, header = read_label_map(label)
    pair = write_pair(scratch / "pair", reference, disturbed(reference), header.raw)
    many = write_pair(scratch / "many", *many_lesions(reference.shape, et_label), header.raw)
    sides = start_sides()
    task = {"what": "whole", "folder": pair, "edition": edition, "et_label": et_label}
    turns = measure.in_turns(sides, args.rounds, lambda side, number: task)
    for side in sides[1:]:
        side.close()
    rows = [measure.row(f"whole, {side}", its) for side, its in turns.items()]
    ours = [turn.wall_s for turn in turns["ours"]]
    ratios = {
        name: statistics.median(theirs.wall_s / own for theirs, own in zip(its, ours, strict=True))
        for name, its in turns.items()
        if name != "ours"
    }
    figures: dict[str, Any] = {f"whole_{name}_ms": round(measure.median_ms(its), 1) for name, its in turns.items()}
    alone = [("files", pair, "files to records"), *((name, pair, name) for name in PROTOCOLS)]
    alone += [(name, many, f"{name}, 32 lesions") for name in PROTOCOLS[1:4]]
    for what, folder, title in alone:
        its = measure.in_turns(sides[:1], args.rounds, lambda *_, w=what, f=folder: {**task, "what": w, "folder": f})
        rows.append(measure.row(f"{title}, ours", its["ours"]))
        figures[f"{title.replace(', ', '_').replace(' ', '_')}_ms"] = round(measure.median_ms(its["ours"]), 1)
    sides[0].close()
    figures[f"folder_{args.folder_cases}_s"] = round(
        time_folder(scratch / "folder", pair, edition, args.folder_cases), 1
    )
    figures["help_s"] = round(time_help(args.rounds), 3)
    return rows, ratios, figures


def main() -> None:
    """Measure everything and print the table."""
    args = arguments()
    if args.side is not None:
        measure.serve(SIDES[args.side])
        return
    with tempfile.TemporaryDirectory(prefix="bench-metrics-") as scratch:
        rows, ratios, figures = measure_all(args, Path(scratch))
    print(f"brats-seg evaluate, {args.folder_cases} cases, two processes: {figures[f'folder_{args.folder_cases}_s']} s")
    print(f"brats-seg evaluate --help: {figures['help_s']} s")
    conditions = {"threads": 1, "rounds": args.rounds, "case": args.case.name, "versions": measure.versions()}
    measure.report("metrics", rows, ratios=ratios, figures=figures, conditions=conditions, target=args.json)


if __name__ == "__main__":
    main()
