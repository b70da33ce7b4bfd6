"""`python -m brats_seg` is `brats-seg` (for torchrun)."""

from brats_seg.cli import app

if __name__ == "__main__":
    app()
