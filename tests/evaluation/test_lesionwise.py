"""Lesion-wise scores against a second implementation: every lesion on the whole volume, by SciPy alone, as is."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage

from brats_seg.evaluation.evaluate import evaluate_case
from brats_seg.evaluation.records import Row
from brats_seg.evaluation.surface import nsd, surface_distances
from brats_seg.evaluation.surfels import hd95_by_area, surfel_distances

ELEMENT, CUBE = ndimage.generate_binary_structure(3, 2), np.ones((3, 3, 3))
ISO = (1.0, 1.0, 1.0)
LABELS = {"ET": (3,), "TC": (1, 3), "WT": (1, 2, 3), "NETC": (1,), "SNFH": (2,), "RC": (4,)}
RULES: dict[str, dict[str, Any]] = {
    "brats2023": dict.fromkeys(LABELS, (3, 50)),
    "brats2024": {"ET": (3, 10), "TC": (3, 20), "WT": (3, 20), "NETC": (5, 20), "SNFH": (3, 20), "RC": (5, 20)},
}
JOINED = {"ET": ("NETC", "RC"), "NETC": ("ET", "RC"), "RC": ("ET", "NETC"), "SNFH": ("ET", "RC", "NETC")}
"""2024: whose lesions join a tissue's, in this order."""


def numbered(mask: np.ndarray, steps: int) -> np.ndarray:
    """Return the mask's parts, numbered where I is the slowest axis, as the official scripts' arrays are."""
    turned = mask.transpose(2, 1, 0)
    zones, _ = ndimage.label(ndimage.binary_dilation(turned, ELEMENT, iterations=steps) if steps else turned, CUBE)
    return (zones * turned).transpose(2, 1, 0)


def joined(own: np.ndarray, others: list[np.ndarray]) -> np.ndarray:
    """Return lesions joined where their first partner among another tissue's lesions is the same."""
    for other in others:
        partner = {}
        for lesion in np.unique(own[own > 0]):
            near = ndimage.binary_dilation(own == lesion, ELEMENT)
            touched = np.unique(other[near & (other > 0)])
            if len(touched):
                partner[lesion] = touched.min()
        result = own.copy()
        for lesion, first in partner.items():
            result[own == lesion] = 10_000 + first
        own = result
    return own


def plain_scores(reference: np.ndarray, prediction: np.ndarray, protocol: str, name: str) -> dict[str, float]:
    """Return the lesion-wise fields of a region of two label maps of BraTS 2024 GLI."""
    sides = []
    for side, label_map in enumerate((reference, prediction)):
        lesions = {}
        for tissue, labels in LABELS.items():
            steps, limit = RULES[protocol][tissue]
            is_merged = side == 0 or protocol == "brats2024"
            lesions[tissue] = numbered(np.isin(label_map, labels), steps if is_merged else 0)
            if side and protocol == "brats2024":
                for lesion in np.unique(lesions[tissue]):
                    if lesion and np.sum(lesions[tissue] == lesion) <= limit:
                        lesions[tissue][lesions[tissue] == lesion] = 0
        others = JOINED.get(name, ()) if protocol == "brats2024" else ()
        sides.append(joined(lesions[name], [lesions[other] for other in others]))
    return scores_of_lesions(*sides, *RULES[protocol][name], penalty={"brats2023": 374, "brats2024": 337}[protocol])


def scores_of_lesions(
    reference: np.ndarray, prediction: np.ndarray, steps: int, limit: int, penalty: float
) -> dict[str, float]:
    """Return the lesion-wise fields of numbered lesions, one lesion at a time."""
    met: set[int] = set()
    dices, distances, nsds, num_tp, num_fn = [], [], [], 0, 0
    for lesion in np.unique(reference[reference > 0]):
        own = reference == lesion
        hit = np.unique(prediction[ndimage.binary_dilation(own, ELEMENT, iterations=steps)])
        partners = [int(one) for one in hit if one]
        met |= set(partners)
        if own.sum() <= limit:
            continue
        num_tp, num_fn = num_tp + bool(partners), num_fn + (not partners)
        answer = np.isin(prediction, partners) & (prediction > 0)
        dices.append(2 * (own & answer).sum() / (own.sum() + answer.sum()))
        distance = hd95_by_area(surfel_distances(own, answer, ISO))
        distances.append(penalty if math.isinf(distance) else distance)
        nsds.append(nsd(surface_distances(own, answer, ISO), 1.0, epsilon=1e-8))
    num_fp = len(set(np.unique(prediction[prediction > 0]).tolist()) - met)
    num = len(dices) + num_fp
    return {
        "lesionwise_dice": sum(dices) / num if num else 1,
        "lesionwise_hd95_mm": (sum(distances) + num_fp * penalty) / num if num else 0,
        "lesionwise_nsd_1mm": sum(nsds) / num if num else 1,
        "num_tp": num_tp,
        "num_fp": num_fp,
        "num_fn": num_fn,
    }


def check(reference: np.ndarray, prediction: np.ndarray) -> None:
    """Compare every region under both protocols: counts exactly, the rest to 1e-12."""
    for protocol in RULES:
        for row in evaluate_case("case", reference, prediction, "brats2024-gli", protocol, ISO):
            expected = plain_scores(reference, prediction, protocol, row.region)
            for name, value in expected.items():
                if getattr(row, name) is not None:
                    assert getattr(row, name) == pytest.approx(value, rel=1e-12), (protocol, row.region, name)


def specks(seed: int, shape: tuple[int, int, int] = (22, 26, 24)) -> np.ndarray:
    """Return a label map of many small blobs of all labels, some of them touching."""
    random = np.random.RandomState(seed)
    label_map = np.zeros(shape, np.uint8)
    for level, label in ((0.9, 2), (1.5, 1), (1.9, 3)):
        field = ndimage.gaussian_filter(random.standard_normal(shape), 1.2)
        label_map[field > level * field.std()] = label
    field = ndimage.gaussian_filter(random.standard_normal(shape), 1.5)
    label_map[field > 2.2 * field.std()] = 4
    return label_map


@pytest.mark.parametrize("seed", range(4))
def test_many_small_lesions_score_as_one_by_one(seed: int) -> None:
    reference = specks(seed)
    prediction = np.roll(reference, (1, seed % 3, -1), (0, 1, 2)) if seed % 2 else specks(seed + 50)
    check(reference, prediction)


def boxes(*places: tuple[int, int, int, int], label: int = 3, shape: tuple[int, int, int] = (24, 24, 40)) -> np.ndarray:
    """Return a label map of boxes (k, j, i, edge)."""
    label_map = np.zeros(shape, np.uint8)
    for k, j, i, edge in places:
        label_map[k : k + edge, j : j + edge, i : i + edge] = label
    return label_map


def bar(start: int, stop: int) -> np.ndarray:
    """Return a label map of a bar along I."""
    label_map = np.zeros((24, 24, 40), np.uint8)
    label_map[6:8, 6:8, start:stop] = 3
    return label_map


FULL = np.full((9, 10, 11), 3, np.uint8)
STRIPES = np.zeros((9, 10, 11), np.uint8)
STRIPES[::2] = 1

PAIRS = {
    "touching lesions": (boxes((5, 5, 5, 5), (5, 5, 10, 5), (10, 10, 20, 5)), boxes((5, 5, 6, 5), (5, 5, 11, 5))),
    "one prediction over two lesions": (
        boxes((5, 5, 4, 4), (5, 5, 28, 4)),
        np.maximum(boxes((5, 5, 4, 4)), bar(4, 32)),
    ),
    "a lesion on the border": (boxes((0, 0, 0, 5), (19, 19, 35, 5)), boxes((0, 0, 1, 5), (20, 20, 36, 4))),
    "a false voxel": (boxes((5, 5, 5, 5)), boxes((5, 5, 5, 5), (20, 20, 30, 1))),
    "a small lesion": (boxes((5, 5, 5, 5), (15, 15, 30, 2)), boxes((5, 5, 5, 5), (15, 15, 31, 2))),
    "all tumour": (FULL, FULL),
    "all tumour against stripes": (FULL, STRIPES),
    "stripes": (STRIPES, np.roll(STRIPES, 1, 0)),
    "nothing": (np.zeros_like(FULL), np.zeros_like(FULL)),
    "nothing there": (np.zeros_like(FULL), STRIPES),
    "nothing predicted": (FULL, np.zeros_like(FULL)),
}


@pytest.mark.parametrize("name", PAIRS)
def test_adversarial_pairs_score_as_one_by_one(name: str) -> None:
    check(*PAIRS[name])


def test_lesions_are_numbered_by_their_dilated_masks_also_where_the_tumour_ends() -> None:
    reference = np.zeros((24, 64, 40), np.uint8)
    reference[10:14, 50:54, 20:24] = 1  # necrosis a, which begins at the lowest I of all
    reference[10:14, 12:24, 22:26] = 1  # necrosis b, two voxels behind
    reference[10:12, 24:50, 22:24] = 3  # ET that touches both: goes with a
    reference[10:14, 8:12, 22:26] = 3  # ET that touches b alone, so it stays a lesion of its own
    prediction = np.where(np.arange(64)[None, :, None] < 12, 0, reference).astype(np.uint8)  # which is missed
    row = evaluate_case("case", reference, prediction, "brats2024-gli", "brats2024", ISO)[0]
    assert (row.num_tp, row.num_fn) == (1, 1)
    check(reference, prediction)


# ---- laws ----

laws = settings(max_examples=20, deadline=None, database=None, derandomize=True)


def et_row(reference: np.ndarray, prediction: np.ndarray, protocol: str, spacing: tuple[float, float, float]) -> Row:
    """Return the record of ET of two label maps."""
    return evaluate_case("case", reference, prediction, "brats2023-gli", protocol, spacing)[0]


def fields_of(row: Row) -> list[float]:
    """Return every lesion-wise field that a record has."""
    names = ("lesionwise_dice", "lesionwise_hd95_mm", "lesionwise_nsd_1mm", "num_tp", "num_fp", "num_fn")
    names += ("f1", "instance_dice", "instance_nsd", "instance_hd95_mm")
    return [getattr(row, name) for name in names if getattr(row, name) is not None]


@laws
@given(
    st.integers(0, 1000),
    st.sampled_from(["brats2023", "instance"]),
    st.sampled_from([(0,), (1,), (2,), (0, 1, 2)]),
    st.tuples(*[st.integers(0, 12)] * 3),
)
def test_flips_and_shifts_change_no_lesion(
    seed: int, protocol: str, axes: tuple[int, ...], shift: tuple[int, int, int]
) -> None:
    maps = [np.where(specks(seed + n, (10, 9, 11)) == 3, 3, 0).astype(np.uint8) for n in (0, 1)]
    expected = fields_of(et_row(*maps, protocol, ISO))
    flipped = [np.flip(one, axes) for one in maps]
    # With room for the dilation on all sides, as a border cuts it off.
    padded = [np.pad(one, [(5 + n, 17 - n) for n in shift]) for one in maps]
    roomy = [np.pad(one, 5) for one in maps]
    assert fields_of(et_row(*flipped, protocol, ISO)) == pytest.approx(expected, rel=1e-12, nan_ok=True)
    assert fields_of(et_row(*padded, protocol, ISO)) == pytest.approx(
        fields_of(et_row(*roomy, protocol, ISO)), rel=1e-12, nan_ok=True
    )


@laws
@given(st.integers(0, 1000))
def test_swapping_the_maps_swaps_found_and_invented_instances(seed: int) -> None:
    first, second = (specks(seed + n, (10, 9, 11)) for n in (0, 1))
    there = evaluate_case("case", first, second, "brats2024-gli", "instance", (3.0, 1.0, 0.5))
    back = evaluate_case("case", second, first, "brats2024-gli", "instance", (3.0, 1.0, 0.5))
    for one, other in zip(there, back, strict=True):
        assert (one.num_tp, one.num_fp, one.num_fn) == (other.num_tp, other.num_fn, other.num_fp)
        assert one.instance_dice == pytest.approx(other.instance_dice, nan_ok=True)


def test_instances_are_measured_in_mm_with_the_smallest_voxel_edge_as_tolerance() -> None:
    reference, prediction = boxes((5, 5, 5, 4)), boxes((5, 5, 6, 4))  # one voxel along I
    row = et_row(reference, prediction, "instance", (1.0, 2.0, 0.5))
    assert (row.instance_hd95_mm, row.instance_nsd, row.hd95_mm) == (0.5, 1.0, 1.0)
    # Along K the step is 1 mm. Of 56 border voxels a side 36 are common, and 4 in the middle of the hind face have one
    # of the other border beside them along I, at 0.5 mm.
    row = et_row(reference, boxes((6, 5, 5, 4)), "instance", (1.0, 2.0, 0.5))
    assert row.instance_nsd == pytest.approx(40 / 56)


def test_every_lesion_is_told() -> None:
    reference, prediction = boxes((5, 5, 5, 5), (15, 15, 30, 2)), boxes((5, 5, 5, 5), (15, 5, 30, 3))
    lesions = et_row(reference, prediction, "brats2023", ISO).lesions
    assert [(one.kind, one.reference_voxels, one.prediction_voxels, one.num_predictions) for one in lesions] == [
        ("found", 125, 125, 1),
        ("small", 8, 0, 0),
        ("false", 0, 27, 1),
    ]
    assert [one.kind for one in et_row(reference, prediction, "instance", ISO).lesions] == ["found", "missed", "false"]


def test_a_lesion_of_the_whole_grid_is_measured_once_for_all(monkeypatch: pytest.MonkeyPatch) -> None:
    calls = []
    monkeypatch.setattr(
        "brats_seg.evaluation.masks.surfel_distances", lambda *args: calls.append(1) or surfel_distances(*args)
    )
    et_row(boxes((5, 5, 5, 5)), boxes((5, 5, 6, 5)), "brats2023", ISO)
    assert len(calls) == 3  # ET, TC and WT; NCR and ED are empty
