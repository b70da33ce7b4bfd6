"""brats_seg: brain-tumour segmentation from multi-modal MRI, from a BraTS download to numbers that can be published.

model = brats_seg.load_model("starter")                # or the folder of a run
label_map = model.predict("BraTS20_Training_001").label_map
"""

from __future__ import annotations

from collections.abc import Sequence
from importlib import metadata
from os import PathLike
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from brats_seg.inference.model import Model

try:
    __version__ = metadata.version("brats_seg")
except metadata.PackageNotFoundError:  # a checkout that was never installed
    __version__ = "0.0.0"

__all__ = ["__version__", "load_model"]


def load_model(
    place: str | PathLike[str] | Sequence[str | PathLike[str]], *, device: str = "auto", overrides: Sequence[str] = ()
) -> Model:
    """Return a trained model for notebooks and services, loaded once; `brats_seg.inference.model` describes it.

    Args:
        place: the folder of a run, or the name of a model of the package (`starter`); several predict together.
        device: auto, cpu, cuda or cuda:N.
        overrides: settings of inference, such as `["inference.tta=flips"]`.

    Raises:
        BratsSegError: there is no such model, it is damaged, a setting is wrong, or the device is not there.
    """
    from brats_seg.inference.model import load_model as load  # noqa: PLC0415 (torch takes seconds to import)

    return load(place, device=device, overrides=overrides)
