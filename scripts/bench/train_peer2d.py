"""The peer's side of bench_train2d, run by its own environment: plain MONAI and PyTorch, in fp32, on slices."""

from __future__ import annotations

import itertools
from typing import Any

import measure

Answer = dict[str, Any]


class Slices:
    """CacheDataset, MONAI's random transforms and loader, BasicUNet, Dice + binary cross-entropy, Adam."""

    def __init__(self) -> None:
        self._batches: Any = None

    def __call__(self, what: str, steps: int, **task: Any) -> Answer:
        """Train so many steps: `loop` from the loader, `dummy` on one frozen batch."""
        import torch

        if self._batches is None:
            torch.set_num_threads(task["threads"])
            self._start(**task)
        batches = self._batches if what == "loop" else itertools.repeat(self._frozen)
        patches = 0
        for batch in itertools.islice(batches, steps):
            self._optimizer.zero_grad()
            logits = self._network(batch["image"])
            loss = self._dice(logits, batch["label"]) + self._cross_entropy(logits, batch["label"])
            loss.backward()
            self._optimizer.step()
            patches += len(batch["image"])
        return {"patches": patches, "loss": float(loss.item())}

    def _start(self, slices: str, batch: int, threads: int, network: dict[str, Any], chances: Any, **_: Any) -> None:
        import torch
        from monai.data import CacheDataset, DataLoader
        from monai.losses import DiceLoss
        from monai.networks.nets import BasicUNet

        names = sorted({path.name.split("_")[0] for path in _folder(slices).iterdir()})
        files = [{key: f"{slices}/{name}_{key}.npy" for key in ("image", "label")} for name in names]
        cached = CacheDataset(files, chain(**chances), progress=False)
        loader = DataLoader(
            cached,
            batch_size=batch,
            shuffle=True,
            drop_last=True,
            num_workers=min(4, threads),
            persistent_workers=True,
        )
        self._batches = (one for _ in itertools.count() for one in loader)
        self._frozen = next(self._batches)
        torch.manual_seed(0)
        channels = {"in_channels": self._frozen["image"].shape[1], "out_channels": self._frozen["label"].shape[1]}
        layers = {key: tuple(value) if key in ("norm", "act") else value for key, value in network.items()}
        self._network = BasicUNet(spatial_dims=2, **channels, **layers)
        self._dice = DiceLoss(sigmoid=True, batch=True)
        self._cross_entropy = torch.nn.BCEWithLogitsLoss()
        self._optimizer = torch.optim.Adam(self._network.parameters(), 1e-3)


def _folder(name: str) -> Any:
    from pathlib import Path

    return Path(name)


def chain(rotation: float, scaling: float, elastic: float) -> Any:
    """Return MONAI's transforms in the plane, with our probabilities and ranges; loading and z-scores are cached."""
    import numpy as np
    from monai import transforms as mt

    keys, modes = ["image", "label"], ("bilinear", "nearest")
    return mt.Compose(
        [
            mt.LoadImaged(keys),
            mt.EnsureTyped(keys),
            mt.NormalizeIntensityd("image", nonzero=True, channel_wise=True),
            mt.Rand2DElasticd(keys, (32, 32), (0, 6), prob=elastic, mode=modes, padding_mode="zeros"),
            mt.RandAffined(
                keys,
                prob=1 - (1 - rotation) * (1 - scaling),
                rotate_range=[np.pi / 6],
                scale_range=[(-0.3, 0.4)] * 2,
                mode=modes,
                padding_mode="zeros",
            ),
            mt.RandGaussianNoised("image", 0.1, std=0.1),
            mt.RandGaussianSmoothd("image", (0.5, 1), (0.5, 1), prob=0.1),
            mt.RandScaleIntensityd("image", 0.25, prob=0.15),
            mt.RandScaleIntensityFixedMeand("image", factors=0.25, prob=0.15),
            mt.RandSimulateLowResolutiond("image", 0.125, upsample_mode="bilinear", zoom_range=(0.5, 1)),
            mt.RandAdjustContrastd("image", 0.1, gamma=(0.7, 1.5), invert_image=True, retain_stats=True),
            mt.RandAdjustContrastd("image", 0.3, gamma=(0.7, 1.5), retain_stats=True),
            *[mt.RandFlipd(keys, 0.5, axis) for axis in range(2)],
        ]
    )


if __name__ == "__main__":
    measure.serve(Slices())
