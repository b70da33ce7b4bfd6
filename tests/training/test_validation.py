"""Scores of held-out cases during a training."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from brats_seg.inference.predict import load_predictor
from brats_seg.networks.compute import choose_compute
from brats_seg.preprocessing.store import StoredCase, open_store
from brats_seg.training import validation


def test_scores_are_the_means_of_counted_voxels_and_each_case_is_seen_once(
    tiny_run: Path, phantom_store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from brats_seg.config import load_config

    def emptied(predictor: object, case: StoredCase) -> NDArray[np.uint8]:
        """The reference, but for every second slice."""
        label_map = np.array(case.label_map())
        label_map[::2] = 0
        return label_map

    monkeypatch.setattr(validation, "_predicted_crop", emptied)
    predictor = load_predictor(tiny_run, load_config(str(tiny_run / "config.yaml")), choose_compute("cpu", "fp32", 1))
    cases = open_store(phantom_store).cases[:2]
    seen: list[tuple[int, str]] = []
    scores = validation.mean_scores(predictor, cases, seen=lambda n, case, _: seen.append((n, case.name)))
    kept = [np.count_nonzero(case.label_map()[1::2]) / np.count_nonzero(case.label_map()) for case in cases]
    assert scores.iou["WT"] == pytest.approx(np.mean(kept))  # a part of the reference: IoU is its share of it
    assert scores.dice["WT"] == pytest.approx(np.mean([2 * share / (1 + share) for share in kept]))
    assert scores.iou["mean"] == pytest.approx(np.mean([scores.iou[region] for region in ("ET", "TC", "WT")]))
    assert seen == [(0, cases[0].name), (1, cases[1].name)]
