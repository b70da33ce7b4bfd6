"""The peers' sides of bench_predict, run by their own environments: python predict_peers.py monai | nnunet | plan

monai   MONAI's path as its BraTS tutorial has it: LoadImaged, EnsureChannelFirstd, EnsureTyped, Orientationd, Spacingd,
        NormalizeIntensityd, sliding windows over the whole volume in fp32, Invertd, sigmoid, threshold, a file.
        A turn with is_cropped adds CropForegroundd before the network.
nnunet  nnUNetPredictor on a model folder, as `nnUNetv2_predict -npp 0 -nps 0` has it: preprocessing, windows and export
        in one process, which spares it the start of its worker processes.
plan    makes that model folder: nnU-Net's own plan of the cases, its network for BraTS (31 M weights), random weights.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import measure

Answer = dict[str, Any]


class Monai:
    """MONAI's transforms and inferer around its own DynUNet."""

    def __call__(self, what: str, **task: Any) -> Answer:
        """Do what a turn asks for."""
        return {"start": self._start, "case": self._case}[what](**task)

    def _start(self, network: Mapping[str, Any], edge: int, device: str, threads: int) -> Answer:
        import torch
        from monai.inferers import SlidingWindowInferer
        from monai.networks.nets import DynUNet

        torch.set_num_threads(threads)
        self._device = torch.device(device)
        own = {"spatial_dims": 3, "in_channels": 4, "out_channels": 3}
        self._network = DynUNet(**own, **network).eval().to(self._device)
        self._inferer = SlidingWindowInferer((edge,) * 3, sw_batch_size=1, overlap=0.5)
        self._chains = {is_cropped: self._chain(is_cropped) for is_cropped in (False, True)}
        return {"weights": sum(p.numel() for p in self._network.parameters())}

    def _chain(self, is_cropped: bool) -> Any:
        from monai import transforms as mt

        return mt.Compose(
            [
                mt.LoadImaged("image"),
                mt.EnsureChannelFirstd("image"),
                mt.EnsureTyped("image"),
                mt.Orientationd("image", axcodes="RAS", labels=None),
                mt.Spacingd("image", pixdim=(1.0, 1.0, 1.0), mode="bilinear"),
                *([mt.CropForegroundd("image", source_key="image", allow_smaller=True)] if is_cropped else []),
                mt.NormalizeIntensityd("image", nonzero=True, channel_wise=True),
            ]
        )

    def _case(self, name: str, images: Mapping[str, str], is_cropped: bool, out: str) -> Answer:
        import torch
        from monai import transforms as mt
        from monai.data import decollate_batch, list_data_collate

        chain = self._chains[is_cropped]
        batch = list_data_collate([chain({"image": list(images.values())})])
        with torch.no_grad():
            batch["pred"] = self._inferer(batch["image"].to(self._device), self._network).cpu()
        back = mt.Compose(
            [
                mt.Invertd("pred", transform=chain, orig_keys="image", nearest_interp=False, to_tensor=True),
                mt.Activationsd("pred", sigmoid=True),
                mt.AsDiscreted("pred", threshold=0.5),
            ]
        )
        masks = back(decollate_batch(batch)[0])["pred"]
        label_map = torch.zeros_like(masks[0])
        for label, mask in zip((2, 1, 4), (masks[1], masks[0], masks[2]), strict=True):  # WT, TC, ET from outside in
            label_map[mask > 0] = label
        save = mt.SaveImage(out, output_postfix="", output_dtype="uint8", separate_folder=False, print_log=False)
        save(label_map[None])
        return {"shape": list(label_map.shape), "file": next(str(path) for path in Path(out).glob(f"{name}*"))}


class NnUnet:
    """nnU-Net's predictor."""

    def __call__(self, what: str, **task: Any) -> Answer:
        """Do what a turn asks for."""
        return {"start": self._start, "case": self._case}[what](**task)

    def _start(self, model: str, device: str, threads: int) -> Answer:
        import torch
        from nnunetv2.inference.predict_from_raw_data import nnUNetPredictor

        torch.set_num_threads(threads)
        chosen = torch.device(device)
        self._predictor = nnUNetPredictor(
            tile_step_size=0.5,
            use_gaussian=True,
            use_mirroring=False,
            perform_everything_on_device=chosen.type == "cuda",
            device=chosen,
            allow_tqdm=False,
        )
        self._predictor.initialize_from_trained_model_folder(model, (0,))
        return {"weights": sum(p.numel() for p in self._predictor.network.parameters())}

    def _case(self, name: str, files: list[str], tta: str, out: str) -> Answer:
        self._predictor.use_mirroring = tta == "flips"
        self._predictor.predict_from_files_sequential([files], [str(Path(out) / name)])
        return {"file": str(Path(out) / f"{name}.nii.gz")}


class Plan:
    """Makes a model folder of random weights."""

    def __call__(self, scratch: str, files: list[Answer], edge: int, threads: int) -> Answer:
        """Return the folder, and each case's files in nnU-Net's own names."""
        import json
        import os
        import shutil

        root = Path(scratch)
        folders = {name: str(root / name) for name in ("nnUNet_raw", "nnUNet_preprocessed", "nnUNet_results")}
        os.environ.update(folders, nnUNet_compile="f")
        from train_nnunet import prepared

        base = prepared(root, files, threads, patch=edge, is_preprocessed=False)
        model = root / "model"
        (model / "fold_0").mkdir(parents=True)
        shutil.copyfile(base / "nnUNetPlans.json", model / "plans.json")
        shutil.copyfile(base / "dataset.json", model / "dataset.json")
        plans = json.loads((model / "plans.json").read_text())
        import torch
        from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer
        from nnunetv2.utilities.plans_handling.plans_handler import PlansManager

        manager = PlansManager(plans)
        network = nnUNetTrainer.build_network_architecture(
            manager, manager.get_configuration("3d_bench"), 4, 3, enable_deep_supervision=False
        )
        checkpoint = {
            "network_weights": network.state_dict(),
            "trainer_name": "nnUNetTrainer",
            "init_args": {"configuration": "3d_bench"},
            "inference_allowed_mirroring_axes": (0, 1, 2),
        }
        torch.save(checkpoint, model / "fold_0" / "checkpoint_final.pth")
        images = next((root / "nnUNet_raw").glob("*/imagesTr"))
        named = {case["name"]: [str(images / f"{case['name']}_{n:04d}.nii.gz") for n in range(4)] for case in files}
        return {"model": str(model), "files": named}


SIDES = {"monai": Monai, "nnunet": NnUnet, "plan": Plan}

if __name__ == "__main__":
    measure.serve(SIDES[sys.argv[1]]())
