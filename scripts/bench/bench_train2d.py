"""Slices a second of a whole 2D training loop, against the same network in plain MONAI and PyTorch.

    python scripts/bench/bench_train2d.py --store STORE [--steps N] [--rounds N] [--threads N] [--batch N] [--edge N]
                                          [--width N] [--quick] [--json FILE]

STORE holds slices: LGG MRI, or synthetic patients (`brats-seg demo OUT --slices` makes some in OUT/store).

ours   the loop of the recipe lgg_unet2d: reading, augmentation, network, loss, optimizer; precision is `auto`
monai  CacheDataset, MONAI's transforms with the same probabilities, its loader with up to four workers, the same
       BasicUNet, Dice + binary cross-entropy, Adam, in fp32, from the same slices in files

Each also on one frozen batch ("alone"). The peer runs in the environment of `peers.sh monai`.
"""

from __future__ import annotations

import argparse
import os
import statistics
import sys
import tempfile
from pathlib import Path
from typing import Any

import measure

Answer = dict[str, Any]
_RECIPE = "lgg_unet2d"


def arguments() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--store", type=Path, required=True, metavar="STORE", help="a prepared store of slices")
    parser.add_argument("--steps", type=int, default=3, help="steps a round (default: %(default)s)")
    parser.add_argument("--rounds", type=int, default=7, help="measured rounds (default: %(default)s)")
    parser.add_argument("--threads", type=int, default=os.cpu_count() or 1, help="of the loops (default: %(default)s)")
    parser.add_argument("--batch", type=int, default=16, help="slices a step (default: %(default)s)")
    parser.add_argument("--edge", type=int, default=256, help="pixels of a slice (default: %(default)s)")
    parser.add_argument("--width", type=int, default=32, help="channels of the first level (default: %(default)s)")
    parser.add_argument("--quick", action="store_true", help="two rounds of one step")
    parser.add_argument("--json", type=Path, default=Path("bench_train2d.json"), help="result (default: %(default)s)")
    args = parser.parse_args()
    if args.quick:
        args.rounds, args.steps = 2, 1
    return args


def save_slices(store: Path, target: Path, edge: int) -> Path:
    """Write every slice of a store's labelled cases, and its masks, as (channel, edge, edge) files, 0 around."""
    import numpy as np

    from brats_seg.editions import get_edition
    from brats_seg.preprocessing.store import open_store

    target.mkdir()
    for case in open_store(store).cases:
        if not case.has_label:
            continue
        image, edition = np.asarray(case.image(), np.float32), get_edition(case.edition)
        masks = edition.regions_from_label_map(np.asarray(case.label_map())).astype(np.float32)
        for k in range(image.shape[1]):
            name = target / f"{case.name.replace('_', '-')}-{k:03d}"
            for volume, key in ((image, "image"), (masks, "label")):
                np.save(f"{name}_{key}.npy", _fitted(volume[:, k], edge))
    return target


def _fitted(pixels: Any, edge: int) -> Any:
    """Return (channel, rows, columns) in the middle of edge x edge pixels, cut or with 0 around."""
    import numpy as np

    missing = [max(0, edge - n) for n in pixels.shape[1:]]
    padded = np.pad(pixels, [(0, 0), *((m // 2, m - m // 2) for m in missing)])
    j, i = ((n - edge) // 2 for n in padded.shape[1:])
    return padded[:, j : j + edge, i : i + edge]


def measure_all(args: argparse.Namespace, scratch: Path) -> tuple[dict[str, list[measure.Turn]], Answer]:
    """Return the turns of both sides, taken one after another, and what our side told of itself."""
    from brats_seg.config import load_config

    here = Path(__file__).resolve().parent
    features = [args.width * factor for factor in (1, 2, 4, 8, 16, 1)]
    overrides = [
        f"network.arguments.features={features}",
        f"train.patch=[1, {args.edge}, {args.edge}]",
        f"train.batch={args.batch}",
    ]
    config = load_config(_RECIPE, overrides)
    shared = {"threads": args.threads, "steps": args.steps}
    own = {**shared, "store": str(args.store), "recipe": _RECIPE, "overrides": overrides, "device": "cpu"}
    ours = measure.Side("ours", [sys.executable, here / "train_ours.py"], threads=args.threads)
    sides = {"ours": (ours, own)}
    python = measure.peer_python("monai")
    if python is None:
        print("monai: not measured; make its environment with: bash scripts/bench/peers.sh monai")
    else:
        changes = config.train.augmentation
        of_peer = {
            **shared,
            "slices": str(save_slices(args.store, scratch / "slices", args.edge)),
            "batch": args.batch,
            "network": config.network.arguments,
            "chances": {name: getattr(changes, name) for name in ("rotation", "scaling", "elastic")},
        }
        peer = measure.Side("monai", [python, here / "train_peer2d.py"], threads=args.threads)
        sides["monai"] = (peer, of_peer)
    about = dict(ours.turn(what="about", **own).answer)
    turns: dict[str, list[measure.Turn]] = {}
    for number in range(args.rounds + 1):
        for what, suffix in (("loop", ""), ("dummy", ", alone")):
            for name, (side, task) in sides.items():
                turn = side.turn(what=what, **task)
                if number:  # the first round warms up
                    turns.setdefault(name + suffix, []).append(turn)
    for side, _ in sides.values():
        side.close()
    return turns, about


def main() -> None:
    """Measure and print the table."""
    args = arguments()
    with tempfile.TemporaryDirectory(prefix="bench-train2d-") as folder:
        turns, about = measure_all(args, Path(folder))
    rates = {
        name: statistics.median(turn.answer["patches"] / turn.wall_s for turn in its) for name, its in turns.items()
    }
    rows = [{**measure.row(name, its), "slices a s": round(rates[name], 2)} for name, its in turns.items()]

    def ratio(suffix: str) -> float:
        pairs = zip(turns["monai" + suffix], turns["ours" + suffix], strict=True)
        return statistics.median(peer.wall_s / own.wall_s for peer, own in pairs)

    has_peer = "monai" in turns
    size = f"batch {args.batch}, {args.edge} x {args.edge}, width {args.width}"
    print(f"{_RECIPE}, {size} on {about['device']}, {about['layout']}")
    measure.report(
        "train2d",
        rows,
        ratios={"monai": ratio("")} if has_peer else {},
        figures={
            "slices_per_s": round(rates["ours"], 3),
            "share_of_alone": round(rates["ours"] / rates["ours, alone"], 3),
            **({"step_alone_ratio": round(ratio(", alone"), 2)} if has_peer else {}),
        },
        conditions={"batch": args.batch, "edge": args.edge, "width": args.width, "threads": args.threads, **about},
        target=args.json,
    )


if __name__ == "__main__":
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    main()
