"""Deep supervision: a network that also predicts at its coarser levels while it is trained, and the loss of that.

MONAI's networks hand these predictions out in differing ways; `heads_of` makes one list of them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import interpolate

__all__ = ["DeepSupervision", "head_weights", "heads_of"]


def heads_of(output: Any) -> list[Tensor]:
    """Return a network's predictions, the full resolution first: logits (B, channel, K, J, I) each.

    Takes a tensor; heads stacked behind the batch axis (MONAI's DynUNet); a list or tuple (SegResNetDS,
    BasicUNetPlusPlus); a dictionary.
    """
    if isinstance(output, Tensor):
        return list(output.unbind(1)) if output.ndim == 6 else [output]
    return [head for part in (output.values() if isinstance(output, Mapping) else output) for head in heads_of(part)]


def head_weights(num_heads: int) -> list[float]:
    """Return the weight of each head, full resolution first: 1, 1/2, 1/4 ..., divided by their sum as in nnU-Net."""
    weights = [0.5**level for level in range(num_heads)]
    return [weight / sum(weights) for weight in weights]


class DeepSupervision(nn.Module):
    """A loss of a network's output, whether it has one head or several.

    The loss of several heads is the weighted mean of the loss of each (`head_weights`). A head of a coarser resolution
    is compared with the target at its own resolution, by nearest neighbour as in nnU-Net, so that regions stay nested
    and a head of half the edge costs an eighth. One head alone gives exactly the plain loss.
    """

    def __init__(self, loss: Callable[[Tensor, Tensor], Tensor]) -> None:
        super().__init__()
        self.loss = loss

    def forward(self, output: Any, target: Tensor) -> Tensor:
        """Return the scalar loss of a network's output and the target masks (B, region, K, J, I)."""
        heads = heads_of(output)
        losses = [self.loss(head, _at_size(target, head.shape[2:])) for head in heads]
        weighted = [weight * loss for weight, loss in zip(head_weights(len(heads)), losses, strict=True)]
        return torch.stack(weighted).sum()


def _at_size(target: Tensor, size: tuple[int, ...]) -> Tensor:
    if target.shape[2:] == size:
        return target
    return interpolate(target.float(), size=size, mode="nearest-exact")
