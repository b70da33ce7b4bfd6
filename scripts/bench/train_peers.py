"""The peers' sides of bench_train, run by their own environments: python train_peers.py monai | nnunet | tutorial"""

from __future__ import annotations

import itertools
import statistics
import sys
import time
from collections.abc import Sequence
from typing import Any

import measure

Answer = dict[str, Any]


class Chain:
    """A peer's chain on a z-scored patch in memory; `build` gives it, called at the first turn."""

    def __init__(self, build: Any) -> None:
        self._build, self._chain = build, None

    def __call__(self, patch: str, samples: int, first: int, **_: Any) -> Answer:
        """Time the chain on one thread."""
        import numpy as np
        import torch

        torch.set_num_threads(1)
        if self._chain is None:
            content = np.load(patch)
            self._chain = self._build(torch.from_numpy(content["image"]), content["label"])
            self._chain()
        torch.manual_seed(first)
        np.random.seed(first)  # noqa: NPY002 (what the peers draw from)
        milliseconds = []
        for _ in range(samples):
            begun = time.perf_counter()
            self._chain()
            milliseconds.append(1e3 * (time.perf_counter() - begun))
        return {"mean_ms": statistics.mean(milliseconds)}


def monais_chain(image: Any, label: Any) -> Any:
    """Return MONAI's transforms with nnU-Net's probabilities (scale and rotation are one transform there)."""
    import numpy as np
    import torch
    from monai import transforms as mt

    regions = np.stack([label == 4, (label == 1) | (label == 4), label > 0]).astype(np.float32)
    masks, keys = torch.from_numpy(regions), ["image", "label"]
    chain = mt.Compose(
        [
            mt.RandAffined(
                keys,
                prob=0.36,
                rotate_range=[np.pi / 6] * 3,
                scale_range=[(-0.3, 0.4)] * 3,
                mode=("bilinear", "nearest"),
                padding_mode="zeros",
            ),
            mt.RandGaussianNoised("image", 0.1, std=0.1),
            mt.RandGaussianSmoothd("image", (0.5, 1), (0.5, 1), (0.5, 1), prob=0.1),
            mt.RandScaleIntensityd("image", 0.25, prob=0.15),
            mt.RandScaleIntensityFixedMeand("image", factors=0.25, prob=0.15),
            mt.RandSimulateLowResolutiond("image", 0.125, zoom_range=(0.5, 1)),
            mt.RandAdjustContrastd("image", 0.1, gamma=(0.7, 1.5), invert_image=True, retain_stats=True),
            mt.RandAdjustContrastd("image", 0.3, gamma=(0.7, 1.5), retain_stats=True),
            *[mt.RandFlipd(keys, 0.5, axis) for axis in range(3)],
        ]
    )
    return lambda: chain({"image": image.clone(), "label": masks.clone()})


def nnunets_chain(image: Any, label: Any) -> Any:
    """Return nnU-Net's own transforms and probabilities for a 3-D configuration."""
    import numpy as np
    import torch
    from batchgeneratorsv2.transforms.intensity.brightness import MultiplicativeBrightnessTransform
    from batchgeneratorsv2.transforms.intensity.contrast import BGContrast, ContrastTransform
    from batchgeneratorsv2.transforms.intensity.gamma import GammaTransform
    from batchgeneratorsv2.transforms.intensity.gaussian_noise import GaussianNoiseTransform
    from batchgeneratorsv2.transforms.noise.gaussian_blur import GaussianBlurTransform
    from batchgeneratorsv2.transforms.spatial.low_resolution import SimulateLowResolutionTransform
    from batchgeneratorsv2.transforms.spatial.mirroring import MirrorTransform
    from batchgeneratorsv2.transforms.spatial.spatial import SpatialTransform
    from batchgeneratorsv2.transforms.utils.random import RandomTransform

    labels = torch.from_numpy(label.astype(np.int16))[None]
    near_one, gamma = BGContrast((0.75, 1.25)), BGContrast((0.7, 1.5))
    spatial = SpatialTransform(
        tuple(image.shape[1:]),
        0,
        False,
        p_rotation=0.2,
        rotation=(-np.pi / 6, np.pi / 6),
        p_scaling=0.2,
        scaling=(0.7, 1.4),
        p_synchronize_scaling_across_axes=1,
        bg_style_seg_sampling=False,
    )
    low_resolution = SimulateLowResolutionTransform((0.5, 1), False, True, (), None, 0.5)
    chain = [
        spatial,
        RandomTransform(GaussianNoiseTransform((0, 0.1), 1, True), 0.1),
        RandomTransform(GaussianBlurTransform((0.5, 1.0), False, False, 0.5), 0.2),
        RandomTransform(MultiplicativeBrightnessTransform(near_one, False, 1), 0.15),
        RandomTransform(ContrastTransform(near_one, True, False, 1), 0.15),
        RandomTransform(low_resolution, 0.25),
        RandomTransform(GammaTransform(gamma, 1, 0, 1, 1), 0.1),
        RandomTransform(GammaTransform(gamma, 0, 0, 1, 1), 0.3),
        MirrorTransform((0, 1, 2)),
    ]

    def run() -> None:
        sample = {"image": image.clone(), "segmentation": labels.clone()}
        for transform in chain:
            sample = transform(**sample)

    return run


class Tutorial:
    """The loop of MONAI's 3-D BraTS tutorial: CacheDataset, its transforms, its loader, SegResNet, DiceLoss, Adam."""

    def __init__(self) -> None:
        self._batches: Any = None
        self.network: Any = None

    def __call__(self, steps: int, **task: Any) -> Answer:
        """Train so many steps of one patch each, in fp32."""
        import torch

        if self._batches is None:
            torch.set_num_threads(task["threads"])
            self.start(task["files"], [task["edge"]] * 3, task["threads"])
        return self.train(steps)

    def train(self, steps: int) -> Answer:
        """Train so many steps with the loader's next batches."""
        patches = 0
        for batch in itertools.islice(self._batches, steps):
            self._optimizer.zero_grad()
            loss = self._loss(self.network(batch["image"]), batch["label"])
            loss.backward()
            self._optimizer.step()
            patches += len(batch["image"])
        return {"patches": patches, "loss": float(loss.item())}

    def start(self, files: list[Any], patch: Sequence[int], threads: int) -> None:
        """Fill the cache and make loader, network, loss and optimizer."""
        import torch
        from monai.data import CacheDataset, DataLoader
        from monai.losses import DiceLoss
        from monai.networks.nets import SegResNet

        cached = CacheDataset(files, tutorials_chain(patch), progress=False)
        loader = DataLoader(cached, batch_size=1, shuffle=True, num_workers=min(4, threads), persistent_workers=True)
        self._batches = (batch for _ in itertools.count() for batch in loader)
        torch.manual_seed(0)
        self.network = SegResNet(
            blocks_down=[1, 2, 2, 4],
            blocks_up=[1, 1, 1],
            init_filters=16,
            in_channels=4,
            out_channels=3,
            dropout_prob=0.2,
        )
        self._loss = DiceLoss(smooth_nr=0, smooth_dr=1e-5, squared_pred=True, to_onehot_y=False, sigmoid=True)
        self._optimizer = torch.optim.Adam(self.network.parameters(), 1e-4, weight_decay=1e-5)


def tutorials_chain(patch: Sequence[int]) -> Any:
    """Return the tutorial's training transforms with a patch, in MONAI's order of axes."""
    from monai import transforms as mt

    keys = ["image", "label"]
    return mt.Compose(
        [
            mt.LoadImaged(keys),
            mt.EnsureChannelFirstd("image"),
            mt.EnsureTyped(keys),
            mt.ConvertToMultiChannelBasedOnBratsClassesd("label"),
            mt.Orientationd(keys, axcodes="RAS", labels=None),
            mt.Spacingd(keys, pixdim=(1.0, 1.0, 1.0), mode=("bilinear", "nearest")),
            mt.RandSpatialCropd(keys, roi_size=list(patch), random_size=False),
            *[mt.RandFlipd(keys, prob=0.5, spatial_axis=axis) for axis in range(3)],
            mt.NormalizeIntensityd("image", nonzero=True, channel_wise=True),
            mt.RandScaleIntensityd("image", factors=0.1, prob=1.0),
            mt.RandShiftIntensityd("image", offsets=0.1, prob=1.0),
        ]
    )


SIDES = {"monai": lambda: Chain(monais_chain), "nnunet": lambda: Chain(nnunets_chain), "tutorial": Tutorial}

if __name__ == "__main__":
    measure.serve(SIDES[sys.argv[1]]())
