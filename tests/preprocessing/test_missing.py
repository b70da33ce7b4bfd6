"""Missing modalities: zeros in their channels, everything else untouched."""

from __future__ import annotations

import numpy as np
import torch
from monai.data.meta_tensor import MetaTensor

from brats_seg.preprocessing.missing import FillMissingd


def test_volumes_go_to_their_channels_and_the_others_are_zero() -> None:
    image = MetaTensor(torch.tensor([[[[5]]], [[[7]]]], dtype=torch.int16), meta={"header": "kept"})
    filled = FillMissingd("image", 4)({"image": image, "channels": [1, 3]})["image"]
    assert np.asarray(filled)[:, 0, 0, 0].tolist() == [0, 5, 0, 7]
    assert filled.dtype == torch.int16
    assert filled.meta["header"] == "kept"


def test_complete_image_is_passed_on_as_it_is() -> None:
    image = torch.ones(2, 1, 1, 1)
    assert FillMissingd("image", 2)({"image": image, "channels": [0, 1]})["image"] is image
