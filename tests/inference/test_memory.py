"""Not enough memory: one line that names a setting that fits, by having tried it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from brats_seg.inference.memory import OutOfMemoryError
from brats_seg.inference.predict import Predictor, load_predictor, read_run_config
from brats_seg.networks.compute import choose_compute

IMAGE = np.ones((4, 60, 60, 60), np.int16)
MOMENTS = ([0.5] * 4, [1.0] * 4)


def predictor(run: Path, *overrides: str) -> Predictor:
    return load_predictor(run, read_run_config(run, overrides), choose_compute("cpu", "fp32", 1))


def limit(loaded: Predictor, num_voxels: int, error: type[Exception] = torch.OutOfMemoryError) -> None:
    """Have the network fail where more voxels go in at once."""

    def hook(_: object, inputs: tuple[Tensor, ...]) -> None:
        if inputs[0][:, 0].numel() > num_voxels:
            raise error("DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 TiB")

    loaded.network.register_forward_pre_hook(hook)


@pytest.mark.parametrize(
    ("num_voxels", "error", "remedy"),
    [
        (2 * 48**3, torch.OutOfMemoryError, "inference.batch=2 fits"),
        (48**3, RuntimeError, "inference.batch=1 fits"),
        (4 * 40**3, MemoryError, "inference.batch=2 fits"),
        (4 * 24**3, RuntimeError, "inference.window=[24, 24, 24] fits"),
        (100, RuntimeError, "no smaller window fits either: free memory, or take another --device"),
    ],
)
def test_message_names_the_largest_setting_that_fits(
    tiny_run: Path, num_voxels: int, error: type[Exception], remedy: str
) -> None:
    loaded = predictor(tiny_run, "inference.window=[48,48,48]", "inference.batch=4")
    limit(loaded, num_voxels, error)
    with pytest.raises(OutOfMemoryError) as caught:
        loaded.probabilities(IMAGE, *MOMENTS)
    message = str(caught.value)
    assert message.startswith("out of memory: 4 windows of 48 x 48 x 48, fp32, on cpu (")
    assert remedy in message
    assert "\n" not in message
    assert caught.value.__cause__ is None  # whose frames would hold the memory


def test_setting_that_is_named_works(tiny_run: Path) -> None:
    loaded = predictor(tiny_run, "inference.window=[24,24,24]", "inference.batch=4")
    limit(loaded, 4 * 24**3)
    assert loaded.probabilities(IMAGE, *MOMENTS).shape == (3, 60, 60, 60)


def test_other_errors_of_the_network_are_not_called_out_of_memory(tiny_run: Path) -> None:
    loaded = predictor(tiny_run)

    def hook(*_: object) -> None:
        raise RuntimeError("mat1 and mat2 have other shapes")

    loaded.network.register_forward_pre_hook(hook)
    with pytest.raises(RuntimeError, match="other shapes"):
        loaded.probabilities(IMAGE, *MOMENTS)
