"""Cases that lack modalities: what is missing is 0 everywhere, as a network with modality dropout has learned it."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from typing import Any

import numpy as np
import torch
from monai.config.type_definitions import KeysCollection
from monai.data.meta_tensor import MetaTensor
from monai.transforms.transform import MapTransform

__all__ = ["FillMissingd"]


class FillMissingd(MapTransform):
    """Put volumes of 0 where modalities are missing: (present, K, J, I) becomes (modality, K, J, I), of the same type.

    Args:
        keys: the image, as `NiftiReader` loaded it.
        channels_key: which channels the volumes that are there have, ascending.
        num_channels: number of modalities.
    """

    def __init__(self, keys: KeysCollection, num_channels: int, channels_key: str = "channels") -> None:
        super().__init__(keys)
        self.num_channels, self.channels_key = num_channels, channels_key

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Return the dictionary; an image that lacks nothing is not copied."""
        d = dict(data)
        channels = list(d[self.channels_key])
        for key in self.key_iterator(d):
            if len(channels) < self.num_channels:
                there = np.asarray(d[key].as_tensor() if isinstance(d[key], MetaTensor) else d[key])
                full = np.zeros((self.num_channels, *there.shape[1:]), there.dtype)
                full[channels] = there
                tensor = torch.from_numpy(full)
                d[key] = MetaTensor(tensor, meta=d[key].meta) if isinstance(d[key], MetaTensor) else tensor
        return d
