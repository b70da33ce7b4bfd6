"""Patches a second of a whole training loop, against a peer's loop and against frozen data; and the cost of one sample.

    python scripts/bench/bench_train.py --data DIR | --store STORE [--recipe NAME] [--steps N] [--rounds N]
                                        [--threads N] [--device D] [--quick] [--json FILE] [KEY=VALUE ...]

DIR is a BraTS download, prepared into a folder for temporary files first; STORE is one that `brats-seg prepare` made.

loop      the recipe's own loop: reading, augmentation, network, loss, optimizer
dummy     the same on one frozen batch: the rate that the loop would reach if data cost nothing
tutorial  MONAI's 3-D BraTS tutorial (CacheDataset, its transforms, its loader, SegResNet, batch 1, fp32) with patches
          of 96^3, and ours with the same network, loss, optimizer and patch; on a CPU, and with --data alone
nnunet    nnU-Net's own trainer and loader (31 M weights, batch 2; on a CPU 64^3 and fp32, on a GPU 128^3, its fp16 and
          its torch.compile), and `default` with the same patch and batch (on a CPU without AMX the same precision,
          too); each with its own data and augmentation, each also on one frozen batch ("alone"), nnU-Net on a CPU also
          with our allocator settings
sample    one 4 x 128^3 training sample on one thread: read from the store, normalise, spatial and intensity
          augmentation at nnU-Net's ranges and probabilities, label map and regions with it, mean over many. Beside it
          MONAI's transforms with the same probabilities and nnU-Net's own (batchgeneratorsv2), from a patch in memory

Peers run in the environments of `peers.sh monai nnunet`. KEY=VALUE changes the recipe. On a GPU the achieved rate of
arithmetic is shown beside that of a large bf16 product.
"""

from __future__ import annotations

import argparse
import os
import statistics
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import measure

Answer = dict[str, Any]
Turns = dict[str, list[measure.Turn]]
_EDGE = 96
_AS_TUTORIAL = [
    "network.name=segresnet",
    "network.stem=1",
    "network.arguments={blocks_down: [1, 2, 2, 4], blocks_up: [1, 1, 1], init_filters: 16, dropout_prob: 0.2}",
    "train.loss={name: dice}",
    "train.optimizer={name: adam, learning_rate: 0.0001, weight_decay: 0.00001}",
    f"train.patch=[{_EDGE}, {_EDGE}, {_EDGE}]",
    "train.batch=1",
    "train.ema=0",
]
_NNUNETS_EDGE = {"cpu": 64, "cuda": 128}


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
    parser.add_argument("--samples", type=int, default=112, help="samples of the chains (default: %(default)s)")
    parser.add_argument("--threads", type=int, default=os.cpu_count() or 1, help="of the loops (default: %(default)s)")
    parser.add_argument("--device", default="auto", help="auto, cpu or cuda:N (default: %(default)s)")
    parser.add_argument("--quick", action="store_true", help="two cases, three rounds, two steps, 24 samples")
    parser.add_argument("--json", type=Path, default=Path("bench_train.json"), help="result (default: %(default)s)")
    args = parser.parse_args()
    if (args.data is None) == (args.store is None):
        parser.error("one of --data DIR and --store STORE is needed")
    if args.quick:
        args.cases, args.rounds, args.steps, args.samples = 2, 3, 2, 24
    return args


def find_files(data: Path, num: int) -> list[Answer]:
    """Return `num` labelled cases with all modalities, evenly chosen: name, images and label map."""
    from brats_seg.data.cases import find_cases
    from brats_seg.editions import get_edition

    cases = [
        {"name": case.name, "image": [str(file.path) for file in case.images.values()], "label": str(case.label)}
        for case in find_cases(data, strict=False).cases
        if case.label is not None and set(case.images) == set(get_edition(case.edition).modalities)
    ]
    if not cases:
        raise SystemExit(f"{data}: no case with all modalities and a segmentation")
    return cases[:: max(1, len(cases) // num)][:num]


def prepare(data: Path, files: list[Answer], target: Path) -> Path:
    """Return a store of these cases of a download."""
    from brats_seg.cli import run

    names = ",".join(case["name"] for case in files)
    if run(["prepare", str(data), str(target), "--cases", names, "--quiet"]):
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


def start_sides(args: argparse.Namespace) -> dict[str, measure.Side]:
    """Start our side, and those of the peers whose environments are there."""
    here = Path(__file__).resolve().parent
    ours: list[str | Path] = [sys.executable, here / "train_ours.py"]
    sides = {"ours": measure.Side("ours", ours, threads=args.threads)}
    is_gpu = is_on_gpu(args.device)
    for name in ("monai", "nnunet"):
        python = measure.peer_python(name)
        if python is None:
            print(f"{name}: not measured; make its environment with: bash scripts/bench/peers.sh {name}")
            continue
        sides[name] = measure.Side(name, [python, here / "train_peers.py", name], threads=1)
        loops: dict[str, list[str | Path]] = {}
        if name == "monai" and args.data is not None and not is_gpu:
            loops = {"tutorial, ours": ours, "tutorial, monai": [python, here / "train_peers.py", "tutorial"]}
        elif name == "nnunet":
            words: list[str | Path] = [python, here / "train_nnunet.py"]
            loops = {"nnunet, ours": ours, "nnunet, nnunet": words}
            if not is_gpu:
                loops["nnunet, our allocator"] = [*words, "--keep-freed-memory"]
        sides |= {what: measure.Side(what, its, threads=args.threads) for what, its in loops.items()}
    return sides


def measure_all(
    sides: Mapping[str, measure.Side], args: argparse.Namespace, store: Path, scratch: Path, files: list[Answer]
) -> tuple[Turns, Answer]:
    """Return the turns of everything, taken one after another, and what our side told of itself."""
    patch = save_patch(store, scratch / "patch.npz")
    task = {"store": str(store), "device": args.device, "threads": args.threads, "steps": args.steps, "files": files}
    own = {**task, "recipe": args.recipe, "overrides": args.overrides}
    where = "cuda" if is_on_gpu(args.device) else "cpu"
    edges = {"edge": _EDGE, "patch": _NNUNETS_EDGE[where]}
    steps = 2 * args.steps if where == "cuda" else max(1, args.steps // 2)  # a GPU empties a loader's full queue fast
    of_peer = {**task, "device": where, "steps": steps, "scratch": str(scratch), **edges}
    recipes = {
        "tutorial": {"recipe": "cpu_small", "overrides": _AS_TUTORIAL},
        "nnunet": {"recipe": "default", "overrides": as_nnunet(_NNUNETS_EDGE[where])},
    }
    chunk = max(1, args.samples // args.rounds)
    about = dict(sides["ours"].turn(what="about", **own).answer)
    turns: Turns = {}
    for number in range(args.rounds + 1):
        drawn = {"samples": chunk, "first": 1 + number * chunk, "patch": str(patch)}
        of_round = {
            "loop": sides["ours"].turn(what="loop", **own),
            "dummy": sides["ours"].turn(what="dummy", **own),
            "sample, ours": sides["ours"].turn(what="sample", **own, **drawn),
            **{f"sample, {name}": sides[name].turn(**drawn) for name in ("monai", "nnunet") if name in sides},
        }
        for name, side in sides.items():
            kind, _, _who = name.partition(", ")
            if kind in recipes and _who:
                of_round[name] = side.turn(what="loop", **of_peer, **recipes[kind])
            if kind == "nnunet" and _who:
                of_round[f"{name}, alone"] = side.turn(what="dummy", **of_peer, **recipes[kind])
        for name, turn in of_round.items() if number else ():  # the first round warms up
            turns.setdefault(name, []).append(turn)
    return turns, about


def is_on_gpu(device: str) -> bool:
    """Return whether the loops run on a GPU."""
    import torch

    return device.startswith("cuda") or (device == "auto" and torch.cuda.is_available())


def as_nnunet(edge: int) -> list[str]:
    """Return what makes `default` do nnU-Net's work: patch, batch and optimizer; precision is each side's own."""
    return [f"train.patch=[{edge}, {edge}, {edge}]", "train.batch=2", "train.optimizer={name: sgd}"]


def ratio(peers: list[measure.Turn], ours: list[measure.Turn]) -> float:
    """Return how many times faster ours is: the median over rounds."""
    return statistics.median(peer.wall_s / own.wall_s for peer, own in zip(peers, ours, strict=True))


def summarize(turns: Turns, about: Answer) -> tuple[list[Answer], dict[str, float], Answer]:
    """Return the rows of the table, the ratios to the peers' whole loops, and the figures."""
    rates = {
        name: statistics.median(turn.answer["patches"] / turn.wall_s for turn in its)
        for name, its in turns.items()
        if not name.startswith("sample")
    }
    chains = {
        name.split(", ")[1]: statistics.mean(turn.answer["mean_ms"] for turn in its)
        for name, its in turns.items()
        if name.startswith("sample")
    }
    per_second = {**rates, **{f"sample, {name}": 1e3 / ms for name, ms in chains.items()}}
    rows = [{**measure.row(name, its), "per s": round(per_second[name], 3)} for name, its in turns.items()]
    ratios = {
        name: ratio(turns[f"{kind}, {name}"], turns[f"{kind}, ours"])
        for kind, name in (("tutorial", "monai"), ("nnunet", "nnunet"))
        if f"{kind}, {name}" in turns
    }
    achieved = about["tflop_a_patch"] * rates["loop"]
    figures = {
        "patches_per_s": round(rates["loop"], 3),
        "dummy_patches_per_s": round(rates["dummy"], 3),
        "share_of_dummy": round(rates["loop"] / rates["dummy"], 3),
        "data_share_of_wall": round(1 - rates["loop"] / rates["dummy"], 3),
        **{f"sample_{name}_ms": round(ms, 1) for name, ms in chains.items()},
        **{f"sample_ratio_{name}": round(ms / chains["ours"], 2) for name, ms in chains.items() if name != "ours"},
        **nnunets_figures(turns),
        "tflop_s": round(achieved, 3),
        "product_tflop_s": round(about["product_tflop_s"], 3),
        "share_of_product": round(achieved / about["product_tflop_s"], 3),
    }
    return rows, ratios, figures


def nnunets_figures(turns: Turns) -> dict[str, float]:
    """Return where the factor to nnU-Net comes from: steps alone, data shares, the allocator."""
    if "nnunet, nnunet" not in turns:
        return {}
    loop, alone, ours, ours_alone = (
        turns[f"nnunet, {name}"] for name in ("nnunet", "nnunet, alone", "ours", "ours, alone")
    )
    found = {
        "nnunet_step_alone_ratio": round(ratio(alone, ours_alone), 2),
        "nnunet_data_share_of_wall": round(1 - 1 / ratio(loop, alone), 3),
        "ours_as_nnunet_data_share_of_wall": round(1 - 1 / ratio(ours, ours_alone), 3),
    }
    tuned = turns.get("nnunet, our allocator")
    return found if tuned is None else {**found, "nnunet_our_allocator_ratio": round(ratio(tuned, ours), 2)}


def main() -> None:
    """Measure and print the table."""
    args = arguments()
    with tempfile.TemporaryDirectory(prefix="bench-train-") as folder:
        scratch = Path(folder)
        files = find_files(args.data, args.cases) if args.data else []
        store = args.store or prepare(args.data, files, scratch / "store")
        sides = start_sides(args)
        turns, about = measure_all(sides, args, store, scratch, files)
        for side in sides.values():
            side.close()
    rows, ratios, figures = summarize(turns, about)
    print(f"{args.recipe} {' '.join(args.overrides)} on {about['device']}, {about['layout']}; {about['data']}")
    measure.report(
        "train",
        rows,
        ratios=ratios,
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
