"""A peer's side of bench_useful, run by its own environment: python useful_peers.py nnunet|monai TASK

TASK is JSON: folders, minutes, threads. Trains until each time, keeps the weights, then predicts the held-out cases
with each and writes rows.json: minutes, steps, case, region, dice.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

Weights = dict[str, Any]
_REGIONS = ("ET", "TC", "WT")
_TUTORIALS_PATCH, _TUTORIALS_WINDOW = (224, 224, 144), (240, 240, 160)


def kept_weights(
    step: Callable[[], Any], network: Any, minutes: list[float], begun: float
) -> list[tuple[int, Weights]]:
    """Train until each time; return the number of steps and a copy of the weights at each."""
    kept, steps = [], 0
    for minute in minutes:
        while time.monotonic() - begun < 60 * minute:
            step()
            steps += 1
        kept.append((steps, {name: tensor.clone() for name, tensor in network.state_dict().items()}))
        print(f"{minute:g} minutes: {steps} steps", flush=True)
    return kept


def dice(prediction: Any, reference: Any) -> float:
    """Return Dice of two masks; 1 where both are empty."""
    total = prediction.sum() + reference.sum()
    return float(2 * (prediction & reference).sum() / total) if total else 1.0


def nnunet(task: dict[str, Any]) -> list[dict[str, Any]]:
    """Train nnU-Net on the training store; its folder of preprocessed cases is written before time runs.

    Without `nnunet_patch` as it plans BraTS; with it on patches of that edge, the learning rate falling over the time.
    """
    import nnunet_store

    scratch, threads = Path(task["scratch"]), task["threads"]
    folders = {name: str(scratch / name) for name in ("nnUNet_raw", "nnUNet_preprocessed", "nnUNet_results")}
    os.environ.update(folders, nnUNet_n_proc_DA=str(threads), nnUNet_compile="f")
    base, other = (scratch / "nnUNet_preprocessed" / name for name in ("Dataset137_BraTS", "Dataset138_HeldOut"))
    for folder, store in ((base, task["training"]), (other, task["held_out"])):
        nnunet_store.write_folder(folder, Path(store), task["nnunet_patch"] or 128, 2)
    begun = time.monotonic()

    import torch
    from nnunetv2.inference.predict_from_raw_data import nnUNetPredictor
    from nnunetv2.training.dataloading.nnunet_dataset import nnUNetDatasetBlosc2
    from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer

    torch.set_num_threads(threads)
    plans = {**json.loads((base / "nnUNetPlans.json").read_text()), "continue_training": False}
    content, cpu = json.loads((base / "dataset.json").read_text()), torch.device("cpu")
    trainer = nnUNetTrainer(plans, nnunet_store.CONFIGURATION, 0, content, cpu)
    trainer.disable_checkpointing = True
    trainer.initialize()
    trainer.dataloader_train, trainer.dataloader_val = trainer.get_dataloaders()
    trainer.set_deep_supervision_enabled(True)
    trainer.network.train()

    def step() -> None:
        if task["nnunet_patch"]:
            passed = (time.monotonic() - begun) / (60 * max(task["minutes"]))
            trainer.optimizer.param_groups[0]["lr"] = trainer.initial_lr * (1 - min(1.0, passed)) ** 0.9  # its formula
        trainer.train_step(next(trainer.dataloader_train))

    kept = kept_weights(step, trainer.network, task["minutes"], begun)
    trainer.set_deep_supervision_enabled(False)
    between = 0.5 if task["nnunet_patch"] else 1.0
    predictor = nnUNetPredictor(tile_step_size=between, use_mirroring=False, device=cpu, allow_tqdm=False)
    predictor.manual_initialization(
        trainer.network, trainer.plans_manager, trainer.configuration_manager, None, content, "nnUNetTrainer", None
    )
    cases = nnUNetDatasetBlosc2(str(other / "nnUNetPlans_3d_fullres"))

    def predicted() -> Iterator[tuple[str, Any, Any]]:
        for name in cases.identifiers:
            image, label_map, _, _ = cases.load_case(name)
            logits = predictor.predict_sliding_window_return_logits(torch.from_numpy(image[:]))
            whole, core, enhancing = (logits > 0).numpy()
            labels = label_map[:][0]
            yield name, (enhancing, core, whole), (labels == 3, labels >= 2, labels >= 1)

    return rows_of(kept, trainer.network, task["minutes"], predicted)


def monai(task: dict[str, Any]) -> list[dict[str, Any]]:
    """Train MONAI's tutorial on the training cases; its cache is filled before time runs."""
    import torch
    from monai import transforms as mt
    from monai.inferers import sliding_window_inference
    from train_peers import Tutorial, tutorials_chain

    torch.set_num_threads(task["threads"])
    files = [{"image": case["image"], "label": case["label"]} for case in task["files"] if not case["is_held_out"]]
    side = Tutorial()
    side.start(files, _TUTORIALS_PATCH, task["threads"])
    begun = time.monotonic()
    kept = kept_weights(lambda: side.train(1), side.network, task["minutes"], begun)
    side.network.eval()
    whole = mt.Compose(
        [one for one in tutorials_chain(_TUTORIALS_PATCH).transforms if not isinstance(one, mt.Randomizable)]
    )

    @torch.no_grad()
    def predicted() -> Iterator[tuple[str, Any, Any]]:
        for case in task["files"]:
            if case["is_held_out"]:
                item = whole({"image": case["image"], "label": case["label"]})
                image = item["image"].as_tensor()[None]
                logits = sliding_window_inference(image, _TUTORIALS_WINDOW, 1, side.network, overlap=0.5)[0]
                order = (2, 0, 1)  # the tutorial's channels are TC, WT, ET
                masks = [(logits[n] > 0).numpy() for n in order]
                yield case["name"], masks, [np.asarray(item["label"][n]) > 0 for n in order]

    return rows_of(kept, side.network, task["minutes"], predicted)


def rows_of(
    kept: list[tuple[int, Weights]],
    network: Any,
    minutes: list[float],
    predicted: Callable[[], Iterator[tuple[str, Any, Any]]],
) -> list[dict[str, Any]]:
    """Return the Dice of each time, case and region."""
    rows = []
    for minute, (steps, weights) in zip(minutes, kept, strict=True):
        network.load_state_dict(weights)
        network.eval()
        for name, masks, references in predicted():
            for region, mask, reference in zip(_REGIONS, masks, references, strict=True):
                row = {"minutes": minute, "steps": steps, "case": name, "region": region}
                rows.append({**row, "dice": dice(mask, reference)})
    return rows


if __name__ == "__main__":
    sides = {"nnunet": nnunet, "monai": monai}
    asked = json.loads(sys.argv[2])
    found = sides[sys.argv[1]](asked)
    (Path(asked["scratch"]) / "rows.json").write_text(json.dumps(found))
