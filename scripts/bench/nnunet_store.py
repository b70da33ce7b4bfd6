"""A training store as nnU-Net's own preprocessed folder, for machines that hold the store and no download.

Run in nnU-Net's environment. The arrays are what nnU-Net's preprocessing makes of BraTS (nothing is resampled there):
z-scores over the brain in float32, label maps 0 1 2 3 with -1 outside the brain, 10,000 places of each region, written
by nnU-Net's own writer with its own chunks. The plans are those that it makes of BraTS' grid: 1 mm, its 31 M network.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np

__all__ = ["BRATS_NETWORK", "CONFIGURATION", "dataset_description", "write_folder"]

CONFIGURATION = "3d_bench"
BRATS_NETWORK: dict[str, Any] = {
    "n_stages": 6,
    "features_per_stage": [32, 64, 128, 256, 320, 320],
    "kernel_sizes": [[3, 3, 3]] * 6,
    "strides": [[1, 1, 1], *([[2, 2, 2]] * 5)],
    "n_conv_per_stage": [2] * 6,
    "n_conv_per_stage_decoder": [2] * 5,
}
_REGIONS = ((1, 2, 3), (2, 3), (3,))
_PLACES = 10_000
_SHAPE = [140, 172, 136]


def write_folder(base: Path, store: Path, patch: int, batch: int, held_out: list[str] | None = None) -> Path:
    """Write nnU-Net's preprocessed folder of the labelled cases of a store; return it.

    `held_out` names the cases that do not train; without it all do, and the first is validated.
    """
    cases = sorted(path.parent for path in store.glob("*/label.npy"))
    target = base / "nnUNetPlans_3d_fullres"
    target.mkdir(parents=True)
    for case in cases:
        _write_case(case, target, patch)
    names = [case.name for case in cases]
    validated = held_out or names[:1]
    split = {"train": [name for name in names if name not in (held_out or [])], "val": validated}
    for name, content in (
        ("dataset.json", dataset_description(len(cases))),
        ("nnUNetPlans.json", _plans(base.name, patch, batch)),
        ("splits_final.json", [split]),
    ):
        (base / name).write_text(json.dumps(content))
    return base


def dataset_description(num_cases: int) -> dict[str, Any]:
    """Return nnU-Net's dataset.json for BraTS with regions."""
    return {
        "channel_names": {str(number): name for number, name in enumerate(("T1", "T1ce", "T2", "Flair"))},
        "labels": {"background": 0, "whole tumor": [1, 2, 3], "tumor core": [2, 3], "enhancing tumor": [3]},
        "regions_class_order": [1, 2, 3],
        "numTraining": num_cases,
        "file_ending": ".nii.gz",
    }


def _write_case(case: Path, target: Path, patch: int) -> None:
    from nnunetv2.training.dataloading.nnunet_dataset import comp_blosc2_params, nnUNetDatasetBlosc2

    record = json.loads((case / "case.json").read_text())
    raw, label_map = np.load(case / "image.npy", mmap_mode="r"), np.load(case / "label.npy")
    mean, sd = (np.asarray(record[name], np.float32)[:, None, None, None] for name in ("mean", "sd"))
    brain = (np.asarray(raw) != 0).any(0)
    image = np.where(brain, (raw - mean) / sd, 0).astype(np.float32)
    label_map = np.array([0, 2, 1, 3, 3], np.int16)[label_map]
    label_map[~brain & (label_map == 0)] = -1
    label_map = label_map[None]
    (blocks, chunks), (blocks_seg, chunks_seg) = (
        comp_blosc2_params(array.shape, (patch,) * 3, array.itemsize) for array in (image, label_map)
    )
    nnUNetDatasetBlosc2.save_case(
        image,
        label_map,
        {"class_locations": _places(label_map), "spacing": [1.0, 1.0, 1.0]},
        str(target / case.name),
        chunks=chunks,
        blocks=blocks,
        chunks_seg=chunks_seg,
        blocks_seg=blocks_seg,
    )


def _places(label_map: np.ndarray[Any, Any]) -> dict[tuple[int, ...], Any]:
    """Return up to 10,000 random voxels of each region, (N, 4), as nnU-Net's loader wants them."""
    random, found = np.random.default_rng(1234), {}
    for region in _REGIONS:
        voxels = np.argwhere(np.isin(label_map, region))
        found[region] = voxels[random.permutation(len(voxels))[:_PLACES]] if len(voxels) else []
    return found


def _plans(dataset: str, patch: int, batch: int) -> dict[str, Any]:
    resampling = {"is_seg": False, "order": 3, "order_z": 0, "force_separate_z": None}
    functions = {
        f"resampling_fn_{what}{ending}": value
        for what, order, is_seg in (("data", 3, False), ("seg", 1, True), ("probabilities", 1, False))
        for ending, value in (
            ("", "resample_data_or_seg_to_shape"),
            ("_kwargs", {**resampling, "order": order, "is_seg": is_seg}),
        )
    }
    of_layers = {
        "conv_op": "torch.nn.modules.conv.Conv3d",
        "conv_bias": True,
        "norm_op": "torch.nn.modules.instancenorm.InstanceNorm3d",
        "norm_op_kwargs": {"eps": 1e-05, "affine": True},
        "dropout_op": None,
        "dropout_op_kwargs": None,
        "nonlin": "torch.nn.LeakyReLU",
        "nonlin_kwargs": {"inplace": True},
    }
    configuration = {
        "data_identifier": "nnUNetPlans_3d_fullres",
        "preprocessor_name": "DefaultPreprocessor",
        "batch_size": batch,
        "patch_size": [patch] * 3,
        "median_image_size_in_voxels": _SHAPE,
        "spacing": [1.0, 1.0, 1.0],
        "normalization_schemes": ["ZScoreNormalization"] * 4,
        "use_mask_for_norm": [True] * 4,
        **functions,
        "architecture": {
            "network_class_name": "dynamic_network_architectures.architectures.unet.PlainConvUNet",
            "arch_kwargs": {**BRATS_NETWORK, **of_layers},
            "_kw_requires_import": ["conv_op", "norm_op", "dropout_op", "nonlin"],
        },
        "batch_dice": False,
    }
    return {
        "dataset_name": dataset,
        "plans_name": "nnUNetPlans",
        "original_median_spacing_after_transp": [1.0, 1.0, 1.0],
        "original_median_shape_after_transp": _SHAPE,
        "image_reader_writer": "SimpleITKIO",
        "transpose_forward": [0, 1, 2],
        "transpose_backward": [0, 1, 2],
        "configurations": {CONFIGURATION: configuration},
        "experiment_planner_used": "ExperimentPlanner",
        "label_manager": "LabelManager",
        "foreground_intensity_properties_per_channel": {},
    }
