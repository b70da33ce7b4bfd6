"""Time from a case's files to a saved case: `brats-seg prepare` against MONAI's own chain and its PersistentDataset.

    python scripts/bench/bench_prepare.py --data DIR [--cases N] [--rounds N] [--threads N] [--quick] [--json FILE]

DIR is a BraTS download, or a folder of one case (four modalities and a segmentation). Ours: hash the files, read,
check, crop, measure, write image, label map, foreground and case.json. MONAI (environment of `peers.sh monai`): the
transforms of its BraTS tutorial (LoadImaged, EnsureChannelFirstd, EnsureTyped, Orientationd, Spacingd,
ConvertToMultiChannelBasedOnBratsClassesd, NormalizeIntensityd) and CropForegroundd, saved by PersistentDataset. Both
write below --scratch, in processes of one thread that take turns; starting them is not counted, nor is the first round.
"""

from __future__ import annotations

import argparse
import os
import shutil
import statistics
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import measure

Task = dict[str, Any]


def arguments() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, metavar="DIR", help="a download, or one case")
    parser.add_argument("--cases", type=int, default=3, help="number of cases, evenly chosen (default: %(default)s)")
    parser.add_argument("--rounds", type=int, default=5, help="measured rounds a case (default: %(default)s)")
    parser.add_argument("--threads", type=int, default=1, help="threads of each side (default: %(default)s)")
    parser.add_argument("--quick", action="store_true", help="one case, three rounds")
    parser.add_argument("--scratch", type=Path, help="folder to write into (default: the system's for temporary files)")
    parser.add_argument("--json", type=Path, default=Path("bench_prepare.json"), help="result (default: %(default)s)")
    parser.add_argument("--side", choices=sorted(SIDES), help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.data is None and args.side is None:
        parser.error("--data DIR is needed: a BraTS download, or a folder of one case")
    if args.quick:
        args.cases, args.rounds = 1, 3
    return args


# ---- the two sides, each in its own process ----


def prepare_ours(name: str, edition: str, images: Mapping[str, str], label: str, et_label: int, out: str) -> Task:
    """Make a stored case, exactly as `brats-seg prepare` does."""
    from brats_seg.data.cases import Case, ImageFile
    from brats_seg.preprocessing.filling import fill_case

    folder, files = Path(out), {modality: ImageFile(Path(path)) for modality, path in images.items()}
    folder.mkdir(parents=True)
    case = Case(name, name, None, edition, Path(label).parent, files, Path(label))
    outcome = fill_case(case, folder=folder, settings_hash="bench")
    if outcome.error is not None:
        raise SystemExit(outcome.error)
    return {"bytes": _size(folder)}


def prepare_monais(name: str, edition: str, images: Mapping[str, str], label: str, et_label: int, out: str) -> Task:
    """Run MONAI's chain and have its PersistentDataset save the result (all of the volume behind the cropped view)."""
    from monai import transforms as mt
    from monai.data import PersistentDataset

    keys = ["image", "label"]
    chain = [
        mt.LoadImaged(keys),
        mt.EnsureChannelFirstd("image"),
        mt.EnsureTyped(keys),
        mt.ConvertToMultiChannelBasedOnBratsClassesd("label", et_label=et_label),
        mt.Orientationd(keys, axcodes="RAS", labels=None),
        mt.Spacingd(keys, pixdim=(1.0, 1.0, 1.0), mode=("bilinear", "nearest")),
        mt.NormalizeIntensityd("image", nonzero=True, channel_wise=True),
        mt.CropForegroundd(keys, source_key="image", allow_smaller=True),
    ]
    dataset = PersistentDataset([{"image": list(images.values()), "label": label}], chain, cache_dir=out)
    dataset[0]
    return {"bytes": _size(Path(out))}


SIDES = {"ours": prepare_ours, "monai": prepare_monais}


def _size(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


# ---- the benchmark ----


def find_tasks(data: Path, num: int) -> list[Task]:
    """Return what both sides are to prepare: `num` labelled cases of four modalities and an ET label."""
    from brats_seg.data.cases import find_cases
    from brats_seg.editions import get_edition

    tasks = []
    for case in find_cases(data, strict=False).cases:
        edition = get_edition(case.edition)
        if case.label is None or set(case.images) != set(edition.modalities) or "ET" not in edition.regions:
            continue
        if edition.is_four_dimensional:
            raise SystemExit(f"{data}: {edition.name} has 4-D files, which MONAI's tutorial chain does not take")
        tasks.append(
            {
                "name": case.name,
                "edition": case.edition,
                "images": {modality: str(file.path) for modality, file in case.images.items()},
                "label": str(case.label),
                "et_label": next(iter(edition.regions["ET"])),
            }
        )
    if not tasks:
        raise SystemExit(f"{data}: no case with all modalities and a segmentation")
    return tasks[:: max(1, len(tasks) // num)][:num]


def start_sides(threads: int) -> list[measure.Side]:
    """Start our side, and MONAI's where its environment is."""
    words: list[str | Path] = [Path(__file__).resolve(), "--threads", str(threads), "--side"]
    sides = [measure.Side("ours", [sys.executable, *words, "ours"], threads=threads)]
    python = measure.peer_python("monai")
    if python is None:
        print("monai: not measured; make its environment with: bash scripts/bench/peers.sh monai")
    else:
        sides.append(measure.Side("monai", [python, *words, "monai"], threads=threads))
    return sides


def measure_case(
    sides: Sequence[measure.Side], task: Task, rounds: int, scratch: Path
) -> dict[str, list[measure.Turn]]:
    """Return the turns of all sides on one case; what a round wrote is removed before the next, untimed."""

    def of_turn(side: str, number: int) -> Task:
        for old in scratch.iterdir():
            shutil.rmtree(old)
        return {**task, "out": str(scratch / f"{side}-{number}")}

    turns = measure.in_turns(sides, rounds, of_turn)
    for old in scratch.iterdir():
        shutil.rmtree(old)
    return turns


def main() -> None:
    """Measure all cases and print the table."""
    args = arguments()
    if args.side is not None:
        import torch

        torch.set_num_threads(args.threads)
        measure.serve(SIDES[args.side])
        return
    tasks = find_tasks(args.data, args.cases)
    sides = start_sides(args.threads)
    with tempfile.TemporaryDirectory(dir=args.scratch, prefix="bench-prepare-") as scratch:
        turns = {task["name"]: measure_case(sides, task, args.rounds, Path(scratch)) for task in tasks}
    for side in sides:
        side.close()
    rows = [
        {**measure.row(f"{case}, {side}", its), "MB": round(its[0].answer["bytes"] / 1e6, 1)}
        for case, of_case in turns.items()
        for side, its in of_case.items()
    ]
    totals = {side.name: sum(measure.median_ms(of_case[side.name]) for of_case in turns.values()) for side in sides}
    cpu = {
        s.name: sum(statistics.median(t.cpu_s for t in of_case[s.name]) for of_case in turns.values()) for s in sides
    }
    ours, peers = totals["ours"], {name: total for name, total in totals.items() if name != "ours"}
    measure.report(
        "prepare",
        rows,
        ratios={name: total / ours for name, total in peers.items()},
        figures={
            **{f"{name}_ms": round(total / len(tasks), 1) for name, total in totals.items()},
            **{f"cpu_ratio_{name}": round(cpu[name] / cpu["ours"], 2) for name in peers},
        },
        conditions={
            "threads": args.threads,
            "rounds": args.rounds,
            "cases": list(turns),
            "versions": measure.versions(),
        },
        target=args.json,
    )


if __name__ == "__main__":
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    main()
