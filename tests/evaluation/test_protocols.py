"""Every protocol's row of metrics: an ordinary pair, all empty combinations and a missing prediction, by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest

from brats_seg.editions import get_edition
from brats_seg.errors import UsageError
from brats_seg.evaluation.evaluate import evaluate_case
from brats_seg.evaluation.protocols import METRICS, PROTOCOLS, get_protocol, tissue_of
from brats_seg.evaluation.records import Row

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
ONE = map_of((1, 1, 1))


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
        # By area: the flat ends of the two bars lie one voxel apart, 95 % of each surface within that.
        ("brats2023", TWO, TWO_SHIFTED, (0.5, 1 / 3, 0.5, 117 / 118, 0.5, 1.5, 0.75, 0.5)),
        ("brats2023", NOTHING, NOTHING, (1, 1, 1, 1, NAN, 0, 0, 1)),
        ("brats2023", TWO, NOTHING, (0, 0, 0, 1, NAN, 374, 374, 0)),
        ("brats2023", NOTHING, TWO, (0, 0, 0, 118 / 120, 0, 374, 374, 0)),
        ("brats2023", TWO, None, (0, 0, 0, 0, NAN, 374, 374, 0)),
        # The two voxels of 9 mm3 are below the threshold of 10 mm3 for ET, 18 mm3 are above it.
        ("brats2024", TWO, TWO_SHIFTED, (0.5, 1 / 3, 0.5, 117 / 118, 0.5, 1.5, 0.75, 0.5 / (1 + 5e-9))),
        ("brats2024", NOTHING, NOTHING, (1, 1, 1, 1, NAN, 0, 0, 1)),
        ("brats2024", TWO, NOTHING, (0, 0, 0, 1, NAN, 337, 337, 0)),
        ("brats2024", NOTHING, TWO, (0, 0, 0, 118 / 120, 0, 337, 337, 0)),
        ("brats2024", TWO, ONE, (0, 0, 0, 1, NAN, 337, 337, 0)),
        ("brats2024", NOTHING, ONE, (1, 1, 1, 1, NAN, 0, 0, 1)),
        ("brats2024", TWO, None, (0, 0, 0, 0, NAN, 337, 337, 0)),
        ("instance", TWO, TWO_SHIFTED, (0.5, 1 / 3, 0.5, 117 / 118, 0.5, 1.0, 0.75, 0.5)),
        ("instance", NOTHING, NOTHING, (NAN, NAN, NAN, 1, NAN, NAN, NAN, NAN)),
        ("instance", TWO, NOTHING, (0, 0, 0, 1, NAN, 373, 373, 0)),
        ("instance", NOTHING, TWO, (0, 0, NAN, 118 / 120, 0, 373, 373, 0)),
        ("instance", TWO, None, (0, 0, 0, 0, NAN, 373, 373, 0)),
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
    with pytest.raises(UsageError, match=r"'brats2021' is unknown; did you mean brats202\d\?.*plain"):
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

INF = math.inf
P23, P24 = 374.0, 337.0

VECTORS = {
    "a both empty": (NONE, NONE, (1, 0, 1), (1, 0, 0, 0, 0), (1, 0, 1, 0, 0, 0), (0, 0, 0, NAN, NAN, NAN, NAN)),
    "b reference empty": (
        NONE,
        box(5),
        (0, DIAGONAL, 0),
        (0, P23, 0, 1, 0),
        (0, P24, 0, 0, 1, 0),
        (0, 1, 0, 0, 0, 0, INF),
    ),
    "c prediction empty": (
        box(5),
        NONE,
        (0, DIAGONAL, 0),
        (0, P23, 0, 0, 1),
        (0, P24, 0, 0, 0, 1),
        (0, 0, 1, 0, 0, 0, INF),
    ),
    "d identical": (box(5), box(5), (1, 0, 1), (1, 0, 1, 0, 0), (1, 0, 1, 1, 0, 0), (1, 0, 0, 1, 1, 1, 0)),
    "e shift by 1": (
        box(5),
        box(6),
        (0.75, 1, 0.75),
        (0.75, 1, 1, 0, 0),
        (0.75, 1, 1, 1, 0, 0),
        (1, 0, 0, 1, 0.75, 1, 1),
    ),
    "f second missed": (
        box(5) | box(25),
        box(5),
        (2 / 3, 20, 0.5),
        (0.5, 187, 1, 0, 1),
        (0.5, 168.5, 0.5, 1, 0, 1),
        (1, 0, 1, 2 / 3, 1, 1, 0),
    ),
    "g extra lesion": (
        box(5),
        box(5) | box(25),
        (2 / 3, 20, 1),
        (0.5, 187, 1, 1, 0),
        (0.5, 168.5, 0.5, 1, 1, 0),
        (1, 1, 0, 2 / 3, 1, 1, 0),
    ),
    "h extra voxel": (
        box(5),
        box(5) | voxel(30),
        (128 / 129, 0, 1),
        (0.5, 187, 1, 1, 0),
        (1, 0, 1, 1, 0, 0),
        (1, 1, 0, 2 / 3, 1, 1, 0),
    ),
    "i missed, 27 voxels": (
        box(5, 3),
        NONE,
        (0, DIAGONAL, 0),
        (1, 0, 0, 0, 0),
        (0, P24, 0, 0, 0, 1),
        (0, 0, 1, 0, 0, 0, INF),
    ),
    "j missed, 8 voxels": (
        box(5, 2),
        NONE,
        (0, DIAGONAL, 0),
        (1, 0, 0, 0, 0),
        (1, 0, 1, 0, 0, 0),
        (0, 0, 1, 0, 0, 0, INF),
    ),
    "k two parts": (
        box(5) | box(12),
        box(5),
        (2 / 3, 7, 0.5),
        (2 / 3, 7, 1, 0, 0),
        (2 / 3, 7, 0.75, 1, 0, 0),
        (1, 0, 1, 2 / 3, 1, 1, 0),
    ),
    "l bridge": (
        box(5) | box(25),
        box(5) | box(25) | slab(5, 29, 6, 8),
        (0.8, 7, 1),
        (0.5, 20, 2, 0, 0),
        (0.5, 20, 2 / 3, 2, 0, 0),
        (1, 0, 1, 2 / 3, 0.5, 2 / 3, 20),
    ),
    "m near miss": (box(5), box(10), (0, 5, 0), (0, 5, 1, 0, 0), (0, 5, 0, 1, 0, 0), (0, 1, 1, 0, 0, 0, INF)),
    "n at the image border": (
        box(0),
        box(1),
        (0.75, 1, 0.75),
        (0.75, 1, 1, 0, 0),
        (0.75, 1, 1, 1, 0, 0),
        (1, 0, 0, 1, 0.75, 1, 1),
    ),
    "o half missing": (
        box(5),
        slab(5, 7, 5, 9),
        (2 / 3, 2, 0.5),
        (2 / 3, 2, 1, 0, 0),
        (2 / 3, 2, 6 / 7, 1, 0, 0),
        (1, 0, 0, 1, 2 / 3, 6 / 7, 2),
    ),
}
"""Case -> reference, prediction, and what the official programs give.

2020: Dice, HD95, sensitivity. 2023 (GLI): lesion-wise Dice, HD95, TP, FP, FN. 2024 (GLI, ET): lesion-wise Dice, HD95,
NSD at 1 mm, TP, FP, FN. 2025: TP, FP, FN, F1, and Dice, NSD, HD95 of the matched.
"""  # fmt: skip

FIELDS = {
    "brats2020": ("dice", "hd95_mm", "sensitivity"),
    "brats2023": ("lesionwise_dice", "lesionwise_hd95_mm", "num_tp", "num_fp", "num_fn"),
    "brats2024": (
        "lesionwise_dice", "lesionwise_hd95_mm", "lesionwise_nsd_1mm", "num_tp", "num_fp", "num_fn",
    ),
    "instance": ("num_tp", "num_fp", "num_fn", "f1", "instance_dice", "instance_nsd", "instance_hd95_mm"),
}  # fmt: skip


def et_row(reference: np.ndarray, prediction: np.ndarray | None, protocol: str) -> Row:
    """Return the record of two masks that are ET."""
    maps = [None if mask is None else mask.astype(np.uint8) * np.uint8(4) for mask in (reference, prediction)]
    return evaluate_case("case", *maps, "brats2020", protocol, (1, 1, 1), nsd_tolerances_mm=(0.5,))[0]


@pytest.mark.parametrize("number", range(4), ids=FIELDS)
@pytest.mark.parametrize("name", VECTORS)
def test_hand_vectors_are_reproduced(name: str, number: int) -> None:
    protocol, fields = list(FIELDS.items())[number]
    reference, prediction, *expected = VECTORS[name]
    row = et_row(reference, prediction, protocol)
    # 1e-8: the surface Dice of 2024 has 1e-8 in its denominator.
    assert [getattr(row, field) for field in fields] == pytest.approx(
        expected[number], rel=1e-8, abs=1e-12, nan_ok=True
    )


@pytest.mark.parametrize(
    ("name", "dice", "hd95", "nsd"),
    [
        ("a both empty", NAN, NAN, NAN),
        ("b reference empty", 0, 373, 0),
        ("c prediction empty", 0, 373, 0),
        ("e shift by 1", 0.75, 1, 9 / 14),
        ("h extra voxel", 128 / 129, 0, (1 + 56 / 57) / 2),
        ("l bridge", 0.8, 7, 0.77380952380952),
        ("m near miss", 0, 373, 0),
        ("o half missing", 2 / 3, 2, 0.6875),
    ],
)
def test_whole_regions_of_the_instance_protocol(name: str, dice: float, hd95: float, nsd: float) -> None:
    row = et_row(*VECTORS[name][:2], "instance")
    assert [row.dice, row.hd95_mm, row.nsd["nsd_0_5mm"]] == pytest.approx([dice, hd95, nsd], nan_ok=True)


@pytest.mark.parametrize(
    ("protocol", "columns"),
    [
        ("brats2023", {"dice": 0, "hd95_mm": 374, "lesionwise_dice": 0, "lesionwise_hd95_mm": 374, "num_fn": 1}),
        ("brats2024", {"dice": 0, "hd95_mm": 337, "lesionwise_hd95_mm": 337, "lesionwise_nsd_1mm": 0, "num_fn": 1}),
        ("instance", {"hd95_mm": 373, "instance_hd95_mm": 373, "instance_dice": 0, "f1": 0, "num_tp": 0, "num_fn": 1}),
    ],
)
def test_a_missing_prediction_is_the_worst_there_is(protocol: str, columns: dict[str, float]) -> None:
    row = et_row(box(5), None, protocol)
    assert {name: getattr(row, name) for name in columns} == columns
    assert et_row(NONE, None, protocol).dice == 0


def test_lesions_on_the_border_of_a_threshold_are_left_out() -> None:
    def missed(num_voxels: int, protocol: str) -> float:
        lesion = np.zeros((40, 40, 40), bool)
        lesion[5, 5, :num_voxels] = True
        return et_row(box(20) | lesion, box(20), protocol).lesionwise_dice

    assert [missed(num, "brats2024") for num in (10, 11)] == [1, 0.5]
    wide = np.zeros((40, 40, 40), bool)
    wide[5, 5:7, 2:27] = True  # 50 voxels
    assert et_row(box(20) | wide, box(20), "brats2023").lesionwise_dice == 1
    wide[5, 7, 2] = True
    assert et_row(box(20) | wide, box(20), "brats2023").lesionwise_dice == 0.5


@pytest.mark.parametrize(
    ("edition", "protocol", "rules"),
    [
        ("brats2018", "brats2023", (3, 50, 374)),
        ("brats2023-gli", "brats2023", (3, 50, 374)),
        ("brats2023-men", "brats2023", (1, 50, 374)),
        ("brats2023-met", "brats2023", (1, 2, 374)),
        ("brats2023-ped", "brats2023", (3, 50, 374)),
        ("brats2023-ssa", "brats2023", (3, 50, 374)),
        ("brats2020", "brats2024", (3, 20, 337)),
        ("brats2024-gli", "brats2024", (3, 20, 337)),
        ("brats2023-ssa", "brats2024", (3, 50, 374)),
        ("brats2024-ped", "brats2024", (5, 10, 374)),
        ("brats2024-met", "brats2024", (1, 2, "diagonal")),
        ("brats2024-men-rt", "brats2024", (1, 50, "diagonal")),
        ("brats2023-men", "brats2024", (1, 50, 374)),
    ],
)
def test_each_task_has_its_own_rules(edition: str, protocol: str, rules: tuple[object, ...]) -> None:
    own = get_protocol(protocol).rules_of(get_edition(edition))
    assert own is not None
    assert (own.dilation, own.threshold_mm3, own.penalty) == rules
    assert own.filters_predictions == (
        (protocol == "brats2024" and "men" not in edition.split("-")[1:]) or "rt" in edition
    )


def test_a_task_without_rules_is_refused_with_protocols_that_have_some() -> None:
    with pytest.raises(
        UsageError, match=r"brats2023: has no rules for task MEN-RT.*brats2020, brats2024, instance, plain"
    ):
        get_protocol("brats2023").rules_of(get_edition("brats2024-men-rt"))


def test_single_tissues_have_their_own_dilation_and_threshold() -> None:
    rules = get_protocol("brats2024").rules_of(get_edition("brats2021"))
    assert rules is not None
    steps = {
        name: rules.dilation_of(tissue_of(name, "GLI"))
        for name in ("ET", "TC", "WT", "NCR", "ED", "NETC", "RC", "SNFH")
    }
    assert steps == {"ET": 3, "TC": 3, "WT": 3, "NCR": 5, "ED": 3, "NETC": 5, "RC": 5, "SNFH": 3}
    assert [rules.threshold_of(name) for name in ("ET", "TC", "WT", "NETC")] == [10, 20, 20, 20]


def test_false_positives_of_men_rt_cost_nothing_but_are_counted() -> None:
    def row(reference: np.ndarray, prediction: np.ndarray) -> Row:
        maps = [mask.astype(np.uint8) for mask in (reference, prediction)]
        return evaluate_case("case", *maps, "brats2024-men-rt", "brats2024", (1.0, 1.0, 1.0))[0]

    extra = row(box(5), box(5) | box(25))
    assert (extra.lesionwise_dice, extra.lesionwise_hd95_mm, extra.num_fp) == (1, 0, 1)
    assert (row(NONE, box(25)).lesionwise_dice, row(NONE, box(25)).dice) == (1, 0)
    assert row(box(5), NONE).lesionwise_hd95_mm == DIAGONAL


def test_volumes_decide_the_thresholds_where_voxels_are_not_1_mm() -> None:
    maps = [mask.astype(np.uint8) for mask in (box(5) | box(25), box(5))]  # lesions of 64 voxels
    scores = [
        evaluate_case("case", *maps, "brats2024-men-rt", "brats2024", spacing)[0].lesionwise_dice
        for spacing in ((1.0, 1.0, 1.0), (0.5, 1.0, 1.0))  # 64 mm3, 32 mm3: all are left out
    ]
    assert scores == [0.5, 1]


def test_parts_of_et_on_one_necrosis_are_one_lesion_in_2024() -> None:
    reference = np.zeros((40, 40, 40), np.uint8)
    reference[5:35, 10:14, 10:14] = 1  # necrosis; two caps of ET, far apart, one of them missed
    reference[1:5, 10:14, 10:14] = reference[35:39, 10:14, 10:14] = 4
    prediction = reference.copy()
    prediction[35:39, 10:14, 10:14] = 1
    scores = {
        name: evaluate_case("case", reference, prediction, "brats2020", name, (1, 1, 1))[0].lesionwise_dice
        for name in ("brats2023", "brats2024")
    }
    assert scores == {"brats2023": 0.5, "brats2024": pytest.approx(2 / 3)}


def test_protocols_that_charge_nothing_agree_on_an_ordinary_case() -> None:
    row = et_row(box(5), box(6), "brats2024")
    assert row.accuracy == (40**3 - 32) / 40**3
    assert row.relative_volume_difference == 0
    assert row.nsd["nsd_0_5mm"] == pytest.approx(9 / 14, rel=1e-8)
    assert math.isnan(et_row(NONE, box(5), "brats2024").relative_volume_difference)
    assert math.isnan(et_row(NONE, box(5), "brats2024").hd95_directed_mm)
