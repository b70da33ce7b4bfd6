"""nnU-Net's loop, run by its own environment: python train_nnunet.py [--keep-freed-memory]

At the first turn it makes nnU-Net's raw folder of the cases and runs nnU-Net's own fingerprint, plan and preprocessing,
untimed. Each turn then takes batches from nnU-Net's own loader (its worker processes, as many as threads) into its own
`train_step`: the network that it plans for BraTS (31 M weights, 6 stages), fp32, with patches of 64^3, batch 2.
"""

from __future__ import annotations

import ctypes
import itertools
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import measure

Answer = dict[str, Any]
_DATASET, _PATCH, _BATCH = "Dataset137_BraTS", 64, 2
_BRATS_NETWORK = {
    "n_stages": 6,
    "features_per_stage": [32, 64, 128, 256, 320, 320],
    "kernel_sizes": [[3, 3, 3]] * 6,
    "strides": [[1, 1, 1], *([[2, 2, 2]] * 5)],
    "n_conv_per_stage": [2] * 6,
    "n_conv_per_stage_decoder": [2] * 5,
}


class Loop:
    """nnU-Net's trainer with its loader."""

    def __init__(self) -> None:
        self._trainer: Any = None
        self._frozen: Any = None

    def __call__(self, what: str, steps: int, scratch: str, files: list[Answer], threads: int, **_: Any) -> Answer:
        """Train so many steps: `loop` from the loader, `dummy` on one frozen batch."""
        if self._trainer is None:
            self._start(Path(scratch), files, threads)
        trainer = self._trainer
        batches = trainer.dataloader_train if what == "loop" else itertools.repeat(self._frozen)
        for batch in itertools.islice(iter(batches), steps):
            loss = trainer.train_step(batch)["loss"]
        return {"patches": steps * _BATCH, "loss": float(loss)}

    def _start(self, scratch: Path, files: list[Answer], threads: int) -> None:
        folders = {name: str(scratch / name) for name in ("nnUNet_raw", "nnUNet_preprocessed", "nnUNet_results")}
        os.environ.update(folders, nnUNet_n_proc_DA=str(threads), nnUNet_compile="f")
        base = prepared(scratch, files, threads)

        import torch
        from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer

        torch.set_num_threads(threads)
        plans = json.loads((base / "nnUNetPlans.json").read_text())
        plans["continue_training"] = False
        content = json.loads((base / "dataset.json").read_text())
        trainer = nnUNetTrainer(plans, "3d_bench", 0, content, torch.device("cpu"))
        trainer.disable_checkpointing = True
        trainer.initialize()
        trainer.dataloader_train, trainer.dataloader_val = trainer.get_dataloaders()
        trainer.set_deep_supervision_enabled(True)
        trainer.network.train()
        self._trainer, self._frozen = trainer, next(trainer.dataloader_train)


def prepared(
    scratch: Path, files: list[Answer], threads: int, *, patch: int = _PATCH, is_preprocessed: bool = True
) -> Path:
    """Return the folder that nnU-Net's own preprocessing made of the cases, with the configuration `3d_bench`.

    Where its preprocessed cases are not needed, as for prediction, it plans alone.
    """
    raw, base = scratch / "nnUNet_raw" / _DATASET, scratch / "nnUNet_preprocessed" / _DATASET
    if not base.is_dir():
        write_raw(raw, files)
        calls = [
            ["nnUNetv2_extract_fingerprint", "-d", "137", "-np", str(threads)],
            ["nnUNetv2_plan_experiment", "-d", "137"],
            ["nnUNetv2_preprocess", "-d", "137", "-c", "3d_fullres", "-np", str(threads)],
        ]
        for words in calls if is_preprocessed else calls[:2]:
            program = Path(sys.executable).with_name(words[0])
            subprocess.run([program, *words[1:]], check=True, stdout=sys.stderr, env=os.environ)
    path = base / "nnUNetPlans.json"
    plans = json.loads(path.read_text())
    architecture = json.loads(json.dumps(plans["configurations"]["3d_fullres"]["architecture"]))
    architecture["arch_kwargs"].update(_BRATS_NETWORK)
    plans["configurations"]["3d_bench"] = {
        "inherits_from": "3d_fullres",
        "patch_size": [patch] * 3,
        "batch_size": _BATCH,
        "architecture": architecture,
    }
    path.write_text(json.dumps(plans))
    names = sorted(case["name"] for case in files)
    (base / "splits_final.json").write_text(json.dumps([{"train": names, "val": names[:1]}]))
    return base


def write_raw(raw: Path, files: list[Answer]) -> None:
    """Write nnU-Net's raw folder: images under its names, labels 0 1 2 4 as 0 2 1 3."""
    import numpy as np
    import SimpleITK

    for folder in ("imagesTr", "labelsTr"):
        (raw / folder).mkdir(parents=True)
    for case in files:
        for number, path in enumerate(case["image"]):
            ending = ".nii.gz" if path.endswith(".gz") else ".nii"
            target = raw / "imagesTr" / f"{case['name']}_{number:04d}.nii.gz"
            if ending == ".nii.gz":
                shutil.copyfile(path, target)
            else:
                SimpleITK.WriteImage(SimpleITK.ReadImage(path), str(target))
        label = SimpleITK.ReadImage(case["label"])
        values = np.array([0, 2, 1, 3, 3], np.uint8)[SimpleITK.GetArrayFromImage(label)]
        changed = SimpleITK.GetImageFromArray(values)
        changed.CopyInformation(label)
        SimpleITK.WriteImage(changed, str(raw / "labelsTr" / f"{case['name']}.nii.gz"))
    content = {
        "channel_names": {str(number): name for number, name in enumerate(("T1", "T1ce", "T2", "Flair"))},
        "labels": {"background": 0, "whole tumor": [1, 2, 3], "tumor core": [2, 3], "enhancing tumor": [3]},
        "regions_class_order": [1, 2, 3],
        "numTraining": len(files),
        "file_ending": ".nii.gz",
    }
    (raw / "dataset.json").write_text(json.dumps(content))


def keep_freed_memory() -> None:
    """Set the allocator as our own commands do."""
    libc = ctypes.CDLL("libc.so.6")
    for option, value in ((-4, 0), (-1, 2**31 - 1), (-2, 256 << 20)):
        libc.mallopt(option, value)


if __name__ == "__main__":
    if "--keep-freed-memory" in sys.argv:
        keep_freed_memory()
    measure.serve(Loop())
