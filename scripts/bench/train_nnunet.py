"""nnU-Net's loop, run by its own environment: python train_nnunet.py [--keep-freed-memory]

At the first turn it makes nnU-Net's raw folder of the cases and runs nnU-Net's own fingerprint, plan and preprocessing,
untimed; where there is a store and no download, `nnunet_store.py` writes the same from the store. Each turn then takes
batches from nnU-Net's own loader (its worker processes, as many as threads) into its own `train_step`: the network that
it plans for BraTS (31 M weights, 6 stages) with batch 2; on a CPU fp32 and patches of 64^3, on a GPU its own automatic
precision (fp16), its torch.compile and patches of 128^3.
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
import nnunet_store

Answer = dict[str, Any]
_DATASET, _BATCH = "Dataset137_BraTS", 2


class Loop:
    """nnU-Net's trainer with its loader."""

    def __init__(self) -> None:
        self._trainer: Any = None
        self._frozen: Any = None

    def __call__(self, what: str, steps: int, **task: Any) -> Answer:
        """Train so many steps: `loop` from the loader, `dummy` on one frozen batch."""
        if self._trainer is None:
            self._start(**task)
        trainer = self._trainer
        batches = trainer.dataloader_train if what == "loop" else itertools.repeat(self._frozen)
        for batch in itertools.islice(iter(batches), steps):
            loss = trainer.train_step(batch)["loss"]
        return {"patches": steps * _BATCH, "loss": float(loss)}

    def _start(
        self, scratch: str, files: list[Answer], store: str, threads: int, device: str, patch: int, **_: Any
    ) -> None:
        is_gpu = device.startswith("cuda")
        folders = {name: str(Path(scratch) / name) for name in ("nnUNet_raw", "nnUNet_preprocessed", "nnUNet_results")}
        os.environ.update(folders, nnUNet_n_proc_DA=str(threads), nnUNet_compile="t" if is_gpu else "f")
        base = Path(scratch) / "nnUNet_preprocessed" / _DATASET
        if files:
            prepared(Path(scratch), files, threads, patch)
        elif not base.is_dir():
            nnunet_store.write_folder(base, Path(store), patch, _BATCH)

        import torch
        from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer

        torch.set_num_threads(1 if is_gpu else threads)
        plans = json.loads((base / "nnUNetPlans.json").read_text())
        plans["continue_training"] = False
        content = json.loads((base / "dataset.json").read_text())
        trainer = nnUNetTrainer(plans, nnunet_store.CONFIGURATION, 0, content, torch.device(device.split(":")[0]))
        trainer.disable_checkpointing = True
        trainer.initialize()
        trainer.dataloader_train, trainer.dataloader_val = trainer.get_dataloaders()
        trainer.set_deep_supervision_enabled(True)
        trainer.network.train()
        self._trainer, self._frozen = trainer, next(trainer.dataloader_train)


def prepared(scratch: Path, files: list[Answer], threads: int, patch: int, *, is_preprocessed: bool = True) -> Path:
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
    architecture["arch_kwargs"].update(nnunet_store.BRATS_NETWORK)
    plans["configurations"][nnunet_store.CONFIGURATION] = {
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
    (raw / "dataset.json").write_text(json.dumps(nnunet_store.dataset_description(len(files))))


def keep_freed_memory() -> None:
    """Set the allocator as our own commands do."""
    libc = ctypes.CDLL("libc.so.6")
    for option, value in ((-4, 0), (-1, 2**31 - 1), (-2, 256 << 20)):
        libc.mallopt(option, value)


if __name__ == "__main__":
    if "--keep-freed-memory" in sys.argv:
        keep_freed_memory()
    measure.serve(Loop())
