"""Weight files."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from brats_seg.errors import CheckpointError
from brats_seg.networks.weights import Description, load_weights, read_description, save_weights

DESCRIPTION = Description({"name": "dynunet"}, ("t1", "flair"), ("ET", "TC", "WT"), ("brats2020",), (64, 64, 32))


def test_weights_and_description_survive_the_file(tmp_path: Path) -> None:
    network, other = nn.Linear(3, 2), nn.Linear(3, 2)
    save_weights(tmp_path / "w.safetensors", network, DESCRIPTION)
    load_weights(tmp_path / "w.safetensors", other)
    assert torch.equal(network.weight, other.weight)
    assert read_description(tmp_path / "w.safetensors") == DESCRIPTION


def test_equal_weights_give_equal_bytes(tmp_path: Path) -> None:
    network = nn.Linear(3, 2)
    for name in ("a", "b"):
        save_weights(tmp_path / name, network, DESCRIPTION)
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


def test_weights_of_another_network_name_the_differing_shapes(tmp_path: Path) -> None:
    save_weights(tmp_path / "w", nn.Linear(3, 2), DESCRIPTION)
    with pytest.raises(CheckpointError, match=r"weight: \[2, 3\] in the file, \[2, 4\] in the network"):
        load_weights(tmp_path / "w", nn.Linear(4, 2))


@pytest.mark.parametrize("content", [b"", b"<html>", b"\x80\x04K\x01."], ids=["empty", "page", "pickle"])
def test_file_that_is_no_safetensors_is_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "w").write_bytes(content)
    with pytest.raises(CheckpointError, match="not a readable safetensors"):
        read_description(tmp_path / "w")


def test_truncated_file_is_refused(tmp_path: Path) -> None:
    save_weights(tmp_path / "w", nn.Linear(3, 2), DESCRIPTION)
    (tmp_path / "w").write_bytes((tmp_path / "w").read_bytes()[:-4])
    with pytest.raises(CheckpointError, match="not a readable safetensors"):
        load_weights(tmp_path / "w", nn.Linear(3, 2))


def test_missing_file_and_foreign_file_are_refused(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="no such weight file"):
        read_description(tmp_path / "w")
    save_file({"x": torch.zeros(1)}, tmp_path / "x")
    with pytest.raises(CheckpointError, match="without a brats_seg description"):
        read_description(tmp_path / "x")


def test_weight_file_is_as_readable_as_any_other(tmp_path: Path) -> None:
    (tmp_path / "plain").write_bytes(b"")
    save_weights(tmp_path / "w", nn.Linear(3, 2), DESCRIPTION)
    assert (tmp_path / "w").stat().st_mode == (tmp_path / "plain").stat().st_mode
