"""Time from a case's NIfTI files to its label map in a NIfTI file: ours against nnU-Net's and MONAI's.

    python scripts/bench/bench_predict.py --data DIR [--cases N] [--rounds N] [--threads N] [--device D] [--quick]
                                          [--folder N] [--json FILE]

DIR is a BraTS download, or a folder of one case. Weights are random: they cost what trained ones cost. Each side is a
process that holds its model; sides take turns, one case a turn, one case after another inside each. Starting a side
(imports, weights) is reported apart.

ours            recipe `default`: MONAI's DynUNet with nnU-Net's sizes, 31 M weights, windows of 128^3 on the brain,
                overlap .5, precision auto
nnunet          nnU-Net's own network for BraTS (31 M), its windows and preprocessing, --disable_tta -npp 0 -nps 0
monai           the same DynUNet in MONAI's published path: its tutorial's transforms, SlidingWindowInferer with 128^3
                and overlap .5 over the whole volume, fp32
monai_cropped   the same behind MONAI's CropForegroundd
cpu_small       ours alone: recipe `cpu_small` with windows of its training patch, and with its own windows

Then one round with eight mirrorings, ours and nnU-Net's (not with --quick). --folder N times `brats-seg predict` on N
copies of the case, and on a GPU says how busy that is. Peers run in the environments of `peers.sh monai nnunet`, with
the C library's allocator as it is; ours sets it, as its commands do.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import measure

Task = dict[str, Any]
_HERE = Path(__file__).resolve().parent
_PARTS = ("read", "prepare", "network", "paste", "write")


def arguments() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, metavar="DIR", help="a download, or one case")
    parser.add_argument("--cases", type=int, default=2, help="number of cases, evenly chosen (default: %(default)s)")
    parser.add_argument("--rounds", type=int, default=3, help="measured rounds (default: %(default)s)")
    parser.add_argument("--threads", type=int, default=os.cpu_count() or 1, help="of each side (default: %(default)s)")
    parser.add_argument("--device", default="cpu", help="cpu or cuda:N (default: %(default)s)")
    parser.add_argument("--recipe", default="default", help="what ours predicts with (default: %(default)s)")
    parser.add_argument("--folder", type=int, default=0, metavar="N", help="also a folder of N cases (default: none)")
    parser.add_argument("--quick", action="store_true", help="one case, three rounds, no mirrorings")
    parser.add_argument("--json", type=Path, default=Path("bench_predict.json"), help="result (default: %(default)s)")
    args = parser.parse_args()
    if args.quick:
        args.cases, args.rounds = 1, min(args.rounds, 3)
    return args


def find_tasks(data: Path, num: int) -> list[Task]:
    """Return `num` cases of four modalities, evenly chosen: name, edition, images by modality, label map."""
    from brats_seg.data.cases import find_cases
    from brats_seg.editions import get_edition

    tasks = [
        {
            "name": case.name,
            "edition": case.edition,
            "images": {modality: str(file.path) for modality, file in case.images.items()},
            "label": str(case.label),
        }
        for case in find_cases(data, strict=False).cases
        if case.label is not None and set(case.images) == set(get_edition(case.edition).modalities)
    ]
    if not tasks:
        raise SystemExit(f"{data}: no case with all modalities and a segmentation")
    return tasks[:: max(1, len(tasks) // num)][:num]


def make_run(recipe: str, target: Path, overrides: Sequence[str] = ()) -> Path:
    """Write a RUN folder of a recipe with random weights."""
    from brats_seg.config import load_config, to_yaml
    from brats_seg.editions import get_edition
    from brats_seg.networks.build import build_network
    from brats_seg.networks.weights import Description, save_weights

    config, edition = load_config(recipe, overrides), get_edition("brats2021")
    modalities, regions = edition.modalities, edition.region_names
    target.mkdir(parents=True)
    (target / "config.yaml").write_text(to_yaml(config), encoding="utf-8")
    network = build_network(config.network, in_channels=len(modalities), out_channels=len(regions), seed=0)
    described = Description(
        config.network.model_dump(mode="json"), modalities, regions, ("brats2021",), config.train.patch
    )
    save_weights(target / "model.safetensors", network, described)
    return target


# ---- the sides ----


class Sides:
    """Processes with their models, and the seconds that each took to start."""

    def __init__(self, args: argparse.Namespace, scratch: Path, tasks: Sequence[Task]) -> None:
        self.args, self.scratch = args, scratch
        self.of: dict[str, measure.Side] = {}
        self.start_s: dict[str, float] = {}
        self.about: dict[str, Any] = {}
        self.nnunets_files: dict[str, list[str]] = {}
        ours: list[str | Path] = [sys.executable, _HERE / "predict_ours.py"]
        self.runs = {
            "ours": make_run(args.recipe, scratch / "run-ours"),
            "cpu_small": make_run("cpu_small", scratch / "run-small", ["inference.window=null"]),
            "cpu_small, own windows": make_run("cpu_small", scratch / "run-small-own"),
        }
        for name in ("ours", "cpu_small"):
            self._start(name, ours, run=str(self.runs[name]))
        self.of["cpu_small"].turn(what="load", run=str(self.runs["cpu_small, own windows"]), tta="none")
        if not args.quick:
            self.of["ours"].turn(what="load", run=str(self.runs["ours"]), tta="flips")
        self._start_peers(tasks)

    def _start_peers(self, tasks: Sequence[Task]) -> None:
        from brats_seg.config import load_config

        config = load_config(self.args.recipe)
        edge = config.train.patch[0]
        for name in ("monai", "nnunet"):
            python = measure.peer_python(name)
            if python is None:
                print(f"{name}: not measured; make its environment with: bash scripts/bench/peers.sh {name}")
            elif name == "monai":
                words: list[str | Path] = [python, _HERE / "predict_peers.py", "monai"]
                self._start(name, words, network=dict(config.network.arguments), edge=edge)
            else:
                self._start_nnunet(python, edge, tasks)

    def _start_nnunet(self, python: Path, edge: int, tasks: Sequence[Task]) -> None:
        planner = measure.Side("plan", [python, _HERE / "predict_peers.py", "plan"], threads=self.args.threads)
        files = [{"name": t["name"], "image": list(t["images"].values()), "label": t["label"]} for t in tasks]
        scratch = str(self.scratch / "nnunet")
        made = planner.turn(scratch=scratch, files=files, edge=edge, threads=self.args.threads).answer
        planner.close()
        self.nnunets_files = made["files"]
        self._start("nnunet", [python, _HERE / "predict_peers.py", "nnunet"], model=made["model"])

    def _start(self, name: str, words: Sequence[str | Path], **task: Any) -> None:
        begun = time.perf_counter()
        side = measure.Side(name, words, threads=self.args.threads)
        answer = side.turn(what="start", device=self.args.device, threads=self.args.threads, **task).answer
        self.start_s[name] = time.perf_counter() - begun
        self.of[name], self.about[name] = side, dict(answer)

    def close(self) -> None:
        """End all of them."""
        for side in self.of.values():
            side.close()

    def turn(self, name: str, task: Task, tta: str) -> measure.Turn:
        """Have a side predict a case; `name` may be that of a variant of the side."""
        out = self.scratch / "out" / f"{name}-{time.monotonic_ns()}"
        out.mkdir(parents=True)
        case = {"what": "case", "name": task["name"], "out": str(out)}
        if name == "nnunet":
            turn = self.of[name].turn(**case, files=self.nnunets_files[task["name"]], tta=tta)
        elif name in ("monai", "monai_cropped"):
            turn = self.of["monai"].turn(**case, images=task["images"], is_cropped=name == "monai_cropped")
        else:
            own = {"run": str(self.runs[name]), "edition": task["edition"], "tta": tta}
            turn = self.of[name.split(",")[0]].turn(**case, **own, images=task["images"])
        check_result(out, task)
        return turn


def check_result(out: Path, task: Task) -> None:
    """Refuse a turn that has not written a label map on the images' grid."""
    from brats_seg.data.nifti import read_header

    written = [path for path in out.iterdir() if path.name.endswith(".nii.gz")]
    grid = read_header(Path(next(iter(task["images"].values())))).grid
    if len(written) != 1 or read_header(written[0]).grid != grid:
        raise SystemExit(f"{out}: {[path.name for path in written]}, expected one label map of {grid} voxels")


def measure_all(sides: Sides, tasks: Sequence[Task], args: argparse.Namespace) -> dict[str, list[measure.Turn]]:
    """Return the turns of all sides: round by round, in each every case, in each every side."""
    names = ["ours", *(name for name in ("nnunet", "monai") if name in sides.of)]
    names += ["monai_cropped"] * ("monai" in names) + ["cpu_small", "cpu_small, own windows"]
    turns: dict[str, list[measure.Turn]] = {name: [] for name in names}
    for _ in range(args.rounds):
        for task in tasks:
            for name in names:
                turns[name].append(sides.turn(name, task, "none"))
    if not args.quick:
        for name in ("ours", "nnunet"):
            if name in names:
                turns[f"{name}, 8 flips"] = [sides.turn(name, tasks[0], "flips")]
    return turns


# ---- a folder, through the command ----


def measure_folder(run: Path, task: Task, num: int, device: str, scratch: Path) -> dict[str, float]:
    """Return seconds a case of `brats-seg predict` on copies of a case (start not counted), and how busy a GPU was."""
    name = task["name"]
    for number in range(num):
        copy = f"BraTS2021_{number:05d}"
        (scratch / "folder" / copy).mkdir(parents=True)
        for modality, path in task["images"].items():
            suffix = ".nii.gz" if path.endswith(".gz") else ".nii"
            token = {"t1c": "t1ce"}.get(modality, modality)
            (scratch / "folder" / copy / f"{copy}_{token}{suffix}").symlink_to(path)
    out = scratch / "folder-out"
    words = [sys.executable, "-m", "brats_seg", "predict", str(run), str(scratch / "folder"), str(out), "--quiet"]
    watched = _watch_gpu() if device.startswith("cuda") else None
    begun = time.time()
    subprocess.run([*words, "--device", device], check=True)
    made = sorted(path.stat().st_mtime for path in out.glob("*.nii.gz"))
    if len(made) != num:
        raise SystemExit(f"{name}: {len(made)} of {num} copies predicted")
    found = {"folder_case_s": (made[-1] - made[0]) / max(1, num - 1), "folder_first_s": made[0] - begun}
    return found if watched is None else {**found, "gpu_busy_percent": _busy(watched, made[0], made[-1])}


def _watch_gpu() -> subprocess.Popen[str]:
    words = ["nvidia-smi", "--query-gpu=timestamp,utilization.gpu", "--format=csv,noheader,nounits", "-lms", "200"]
    return subprocess.Popen(words, stdout=subprocess.PIPE, text=True)


def _busy(watcher: subprocess.Popen[str], begun: float, ended: float) -> float:
    """Return the mean utilisation between two times, in percent, as nvidia-smi tells it."""
    watcher.terminate()
    lines, _ = watcher.communicate()
    percents = []
    for line in lines.splitlines():
        stamp, _, percent = line.partition(", ")
        when = time.mktime(time.strptime(stamp.split(".")[0], "%Y/%m/%d %H:%M:%S"))
        if begun <= when <= ended and percent.strip().isdigit():
            percents.append(int(percent))
    return statistics.mean(percents) if percents else float("nan")


# ---- the table ----


def ratio(peers: Sequence[measure.Turn], ours: Sequence[measure.Turn]) -> float:
    """Return how many times faster ours is: the median over turns."""
    return statistics.median(peer.wall_s / own.wall_s for peer, own in zip(peers, ours, strict=True))


def parts_of(turns: Sequence[measure.Turn]) -> dict[str, float]:
    """Return the median seconds of each part of ours."""
    return {part: round(statistics.median(turn.answer[part] for turn in turns), 3) for part in _PARTS}


def figures_of(turns: Mapping[str, list[measure.Turn]], sides: Sides) -> Task:
    """Return what the last line tells beside the ratios."""
    small, own = turns["cpu_small"], turns["ours"]
    figures: Task = {
        "ours_s": round(measure.median_ms(own) / 1e3, 2),
        **{f"ours_{part}_s": seconds for part, seconds in parts_of(own).items()},
        "cpu_small_s": round(measure.median_ms(small) / 1e3, 2),
        **{f"cpu_small_{part}_s": seconds for part, seconds in parts_of(small).items()},
        "cpu_small_own_windows_s": round(measure.median_ms(turns["cpu_small, own windows"]) / 1e3, 2),
        "cpu_small_peak_mb": round(small[0].answer["peak_mb"]),  # before its process has held larger windows
        "ours_peak_mb": round(max(turn.answer["peak_mb"] for turn in own)),
        **{f"start_{name}_s": round(seconds, 2) for name, seconds in sides.start_s.items()},
    }
    if "nnunet, 8 flips" in turns:
        figures["nnunet_8_flips_ratio"] = round(ratio(turns["nnunet, 8 flips"], turns["ours, 8 flips"]), 2)
    return figures


def main() -> None:
    """Measure and print the table."""
    args = arguments()
    tasks = find_tasks(args.data, args.cases)
    with tempfile.TemporaryDirectory(prefix="bench-predict-") as folder:
        scratch = Path(folder)
        sides = Sides(args, scratch, tasks)
        turns = measure_all(sides, tasks, args)
        sides.close()
        figures = figures_of(turns, sides)
        if args.folder:
            figures |= measure_folder(scratch / "run-ours", tasks[0], args.folder, args.device, scratch)
    peers = [name for name in ("nnunet", "monai", "monai_cropped") if name in turns]
    rows = [measure.row(name, its) for name, its in turns.items()]
    print(
        f"{args.recipe} on {sides.about['ours']['compute']}; weights: "
        + ", ".join(f"{name} {about['weights'] / 1e6:.1f} M" for name, about in sides.about.items())
    )
    measure.report(
        "predict",
        rows,
        ratios={name: ratio(turns[name], turns["ours"]) for name in peers},
        figures=figures,
        conditions={
            "threads": args.threads,
            "rounds": args.rounds,
            "cases": [task["name"] for task in tasks],
            "sides": sides.about,
            "allocator": "ours keeps freed memory, as its commands do; the peers' is the C library's",
            "versions": measure.versions(),
        },
        target=args.json,
    )


if __name__ == "__main__":
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    main()
