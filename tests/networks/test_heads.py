"""Deep supervision: whatever form the heads have, and their loss by hand."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from brats_seg.networks.heads import DeepSupervision, head_weights, heads_of

FULL, HALF = torch.zeros(2, 3, 4, 4, 4), torch.ones(2, 3, 2, 2, 2)


@pytest.mark.parametrize("output", [[FULL, HALF], (FULL, HALF), {"full": FULL, "half": HALF}, [[FULL], (HALF,)]])
def test_heads_come_as_one_list_from_every_container(output: object) -> None:
    first, second = heads_of(output)
    assert first is FULL
    assert second is HALF


def test_stacked_heads_and_a_single_tensor_are_taken_apart_along_the_second_axis() -> None:
    assert torch.equal(heads_of(torch.stack([FULL, FULL + 1], 1))[1], FULL + 1)
    assert heads_of(FULL)[0] is FULL


def test_weights_halve_and_add_up_to_one() -> None:
    assert head_weights(1) == [1.0]
    assert head_weights(4) == pytest.approx([8 / 15, 4 / 15, 2 / 15, 1 / 15])


def mean_difference(logits: Tensor, target: Tensor) -> Tensor:
    return (logits - target).mean()


def test_loss_of_two_heads_by_hand() -> None:
    # The centre of a voxel of the half head lies on the corner of eight voxels; the nearest is taken to be the last.
    target = torch.zeros(1, 1, 4, 4, 4)
    target[..., 1::2, 1::2, 1::2] = 1.0  # that one of every eight
    full, half = torch.zeros(1, 1, 4, 4, 4), torch.full((1, 1, 2, 2, 2), 5.0)
    loss = DeepSupervision(mean_difference)([full, half], target)
    assert loss.item() == pytest.approx(2 / 3 * (0 - 1 / 8) + 1 / 3 * (5 - 1))


def test_heads_of_full_size_are_compared_with_the_target_itself() -> None:
    target = torch.rand(1, 2, 4, 4, 4)
    stacked = torch.stack([target, target + 3], 1)
    assert DeepSupervision(mean_difference)(stacked, target).item() == pytest.approx(1.0)


def test_one_head_gives_exactly_the_plain_loss() -> None:
    logits, target = torch.randn(1, 3, 4, 4, 4), torch.rand(1, 3, 4, 4, 4)
    assert torch.equal(DeepSupervision(mean_difference)(logits, target), mean_difference(logits, target))


def test_regions_stay_nested_in_coarser_targets() -> None:
    whole = (torch.rand(1, 1, 8, 8, 8) < 0.5).float()
    core = whole * (torch.rand(1, 1, 8, 8, 8) < 0.5)
    seen: list[Tensor] = []

    def remember(logits: Tensor, target: Tensor) -> Tensor:
        seen.append(target)
        return logits.mean()

    heads = [torch.zeros(1, 2, n, n, n) for n in (8, 4, 2)]
    DeepSupervision(remember)(heads, torch.cat([core, whole], 1))
    assert [tuple(target.shape[2:]) for target in seen] == [(8,) * 3, (4,) * 3, (2,) * 3]
    for target in seen:
        assert set(target.unique().tolist()) <= {0.0, 1.0}
        assert (target[:, 0] <= target[:, 1]).all()
