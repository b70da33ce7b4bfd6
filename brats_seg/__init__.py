"""brats_seg: brain-tumour segmentation from multi-modal MRI, from a BraTS download to numbers that can be published."""

from importlib import metadata

try:
    __version__ = metadata.version("brats_seg")
except metadata.PackageNotFoundError:  # a checkout that was never installed
    __version__ = "0.0.0"

__all__ = ["__version__"]
