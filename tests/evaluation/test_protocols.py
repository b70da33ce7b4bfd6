"""Every protocol's row of metrics: an ordinary pair, all empty combinations and a missing prediction, by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest

from brats_seg.errors import UsageError
from brats_seg.evaluation.evaluate import evaluate_case
from brats_seg.evaluation.protocols import METRICS, PROTOCOLS, get_protocol

NAN = math.nan
SHAPE = (4, 5, 6)
SPACING = (3.0, 2.0, 1.5)
"""Voxels of 9 mm3."""
VOXELS = math.sqrt(16 + 25 + 36)
"""Diagonal of the grid in voxels."""
MM = math.sqrt(12**2 + 10**2 + 9**2)
"""Diagonal of the grid in mm."""


def map_of(*places: tuple[int, int, int]) -> np.ndarray:
    """Return a label map of ET voxels."""
    array = np.zeros(SHAPE, np.uint8)
    for place in places:
        array[place] = 4
    return array


NOTHING, TWO, TWO_SHIFTED = map_of(), map_of((1, 1, 1), (1, 1, 2)), map_of((1, 1, 2), (1, 1, 3))


# Order: dice, iou, sensitivity, specificity, precision, hd95, assd, nsd. Of 120 voxels, two are tumour.
@pytest.mark.parametrize(
    ("protocol", "reference", "prediction", "expected"),
    [
        # TP 1, FP 1, FN 1, TN 117; distances 0 and one voxel along I on each side, which is 1.5 mm.
        ("brats2020", TWO, TWO_SHIFTED, (0.5, 1 / 3, 0.5, 117 / 118, 0.5, 1.0, 0.75, 0.5)),
        ("brats2020", NOTHING, NOTHING, (1, 1, 1, 1, NAN, 0, 0, 1)),
        ("brats2020", TWO, NOTHING, (0, 0, 0, 1, NAN, VOXELS, MM, 0)),
        ("brats2020", NOTHING, TWO, (0, 0, 0, 118 / 120, 0, VOXELS, MM, 0)),
        ("brats2020", TWO, None, (0, 0, 0, 0, NAN, 374, 374, 0)),
        ("brats2020", NOTHING, None, (0, 0, 0, 0, NAN, 374, 374, 0)),
        ("plain", TWO, TWO_SHIFTED, (0.5, 1 / 3, 0.5, 117 / 118, 0.5, 1.5, 0.75, 0.5)),
        ("plain", NOTHING, NOTHING, (NAN, NAN, NAN, 1, NAN, NAN, NAN, NAN)),
        ("plain", TWO, NOTHING, (0, 0, 0, 1, NAN, NAN, NAN, 0)),
        ("plain", NOTHING, TWO, (0, 0, NAN, 118 / 120, 0, NAN, NAN, 0)),
        ("plain", TWO, None, (0, 0, 0, NAN, NAN, NAN, NAN, 0)),
        ("plain", NOTHING, None, (0, 0, 0, NAN, NAN, NAN, NAN, 0)),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_empty_cases_have_the_values_of_the_protocols_table(
    protocol: str, reference: np.ndarray, prediction: np.ndarray | None, expected: tuple[float, ...]
) -> None:
    row = evaluate_case("case", reference, prediction, "brats2020", protocol, SPACING)[0]
    assert [getattr(row, name) for name in METRICS] == pytest.approx(expected, rel=1e-15, nan_ok=True)
    assert (row.region, row.protocol) == ("ET", protocol)


def test_penalty_on_the_grid_of_brats_is_the_published_one() -> None:
    reference = np.zeros((155, 240, 240), np.uint8)
    reference[77, 120, 120] = 4
    row = evaluate_case("case", reference, np.zeros_like(reference), "brats2020", "brats2020", (1, 1, 1))[0]
    assert row.hd95_mm == pytest.approx(373.12866, abs=1e-5)


def test_every_kind_of_emptiness_names_every_metric_but_those_by_formula() -> None:
    for protocol in PROTOCOLS.values():
        for table in (protocol.both_empty, protocol.reference_empty, protocol.prediction_empty):
            assert set(METRICS) - set(table) <= {"specificity"}, protocol.name
        assert set(protocol.prediction_missing) == set(METRICS)


def test_an_unknown_protocol_is_refused_with_the_nearest() -> None:
    with pytest.raises(UsageError, match=r"'brats2021' is unknown; did you mean brats2020\?.*plain"):
        get_protocol("brats2021")


def box(start: int, size: int = 4, *, at: int = 5) -> np.ndarray:
    """Return box(x, s) = [x, x + s) x [5, 5 + s) x [5, 5 + s) of the hand-test vectors, on 40 x 40 x 40."""
    array = np.zeros((40, 40, 40), bool)
    array[start : start + size, at : at + size, at : at + size] = True
    return array


def slab(start: int, stop: int, low: int, high: int) -> np.ndarray:
    """Return [start, stop) x [low, high) x [low, high)."""
    array = np.zeros((40, 40, 40), bool)
    array[start:stop, low:high, low:high] = True
    return array


def voxel(place: int) -> np.ndarray:
    """Return one voxel at (place, place, place)."""
    return slab(place, place + 1, place, place + 1)


NONE = np.zeros((40, 40, 40), bool)
DIAGONAL = math.sqrt(3 * 40**2)

VECTORS = {
    "a both empty": (NONE, NONE, 1, 0, 1),
    "b reference empty": (NONE, box(5), 0, DIAGONAL, 0),
    "c prediction empty": (box(5), NONE, 0, DIAGONAL, 0),
    "d identical": (box(5), box(5), 1, 0, 1),
    "e shift by 1": (box(5), box(6), 0.75, 1, 0.75),
    "f second missed": (box(5) | box(25), box(5), 2 / 3, 20, 0.5),
    "g extra lesion": (box(5), box(5) | box(25), 2 / 3, 20, 1),
    "h extra voxel": (box(5), box(5) | voxel(30), 128 / 129, 0, 1),
    "i missed, 27 voxels": (box(5, 3), NONE, 0, DIAGONAL, 0),
    "j missed, 8 voxels": (box(5, 2), NONE, 0, DIAGONAL, 0),
    "k two parts": (box(5) | box(12), box(5), 2 / 3, 7, 0.5),
    "l bridge": (box(5) | box(25), box(5) | box(25) | slab(5, 29, 6, 8), 0.8, 7, 1),
    "m near miss": (box(5), box(10), 0, 5, 0),
    "n at the image border": (box(0), box(1), 0.75, 1, 0.75),
    "o half missing": (box(5), slab(5, 7, 5, 9), 2 / 3, 2, 0.5),
}
"""Case -> reference, prediction, and Dice, HD95, sensitivity of the official rules of 2020."""


@pytest.mark.parametrize("name", VECTORS)
def test_hand_vectors_of_2020_are_reproduced(name: str) -> None:
    reference, prediction, *expected = VECTORS[name]
    maps = [mask.astype(np.uint8) * np.uint8(4) for mask in (reference, prediction)]
    row = evaluate_case(name, *maps, "brats2020", "brats2020", (1, 1, 1))[0]
    assert [row.dice, row.hd95_mm, row.sensitivity] == pytest.approx(expected, rel=1e-12, abs=1e-12)
