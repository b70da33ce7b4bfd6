"""What makes a case unlike those that a model was trained on: told by measured numbers, and not of the model's own."""

from __future__ import annotations

from dataclasses import replace
from itertools import combinations
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from brats_seg.data.header import header_for
from brats_seg.editions import get_edition
from brats_seg.errors import CheckpointError
from brats_seg.inference.likeness import (
    REFERENCE,
    Range,
    Reference,
    case_statistics,
    make_reference,
    read_reference,
    write_reference,
)
from brats_seg.networks.bundled import bundled_folder
from brats_seg.preprocessing.geometry import Space
from brats_seg.preprocessing.prepare import PreparedCase, prepare_arrays
from brats_seg.preprocessing.store import StoredCase, open_store

MODALITIES = get_edition("brats2020").modalities
LPS = np.diag([-1.0, -1, 1, 1])


def brain(seed: int = 0, radius: int = 12, edge: int = 30) -> NDArray[np.int16]:
    """Four modalities of a ball of tissue, each with a histogram of its own that varies a little; background 0."""
    rng = np.random.default_rng(seed)
    axes = np.meshgrid(*[np.arange(edge) - (edge - 1) / 2] * 3, indexing="ij")
    distance = np.sqrt(sum(axis**2 for axis in axes))
    tissue = rng.random(distance.shape) ** rng.uniform(0.8, 1.25)
    values = [
        500 + 300 * tissue,  # T1: even
        400 + 500 * tissue + 900 * (tissue > 0.97),  # T1c: like T1, with bright spots
        300 + 1500 * (1 - tissue) ** 3,  # T2: long bright tail
        200 + 200 * rng.random(distance.shape) ** 0.3,  # FLAIR: long dark tail
    ]
    noise = rng.normal(0, 1, (4, *distance.shape)) * rng.uniform(5, 60, (4, 1, 1, 1))
    return np.where(distance < radius, np.maximum(np.array(values) + noise, 1), 0).astype(np.int16)


def prepared(image: NDArray[np.generic], spacing_mm: tuple[float, float, float] = (1, 1, 1)) -> PreparedCase:
    """A case in memory, with a header of that voxel size."""
    case = prepare_arrays(dict(zip(MODALITIES, image, strict=True)), "brats2020")
    affine = LPS * [*spacing_mm[::-1], 1]
    return replace(case, header_bytes=header_for(image.shape[1:], spacing_mm, affine, np.int16))


def reference_of(images: list[NDArray[np.int16]]) -> Reference:
    """The reference of cases in memory, of 1 mm voxels."""
    measured = []
    for image in images:
        case = prepared(image)
        measured.append(case_statistics(case.image, case.mean, case.sd, MODALITIES, 0.001))
    ranges = {}
    for name in measured[0]:
        values = np.array([numbers[name] for numbers in measured])
        ranges[name] = Range(*(float(of) for of in (values.min(), values.max(), values.mean(), values.std())))
    return Reference(Space("LPS", (1.0, 1.0, 1.0)), len(images), ("GLI",), ranges)


@pytest.fixture(scope="module")
def reference() -> Reference:
    """Of twelve balls of slightly different size."""
    return reference_of([brain(seed, radius=11 + seed % 3) for seed in range(12)])


def test_statistics_of_a_few_voxels_by_hand() -> None:
    image = np.zeros((4, 1, 2, 3), np.int16)
    image[0, 0] = [[1, 2, 3], [4, 5, 0]]
    image[1, 0] = [[2, 4, 6], [8, 10, 0]]
    image[2, 0] = [[5, 4, 3], [2, 0, 0]]
    mean, sd = (3, 6, 3.5, 0), (2**0.5, 8**0.5, 1.25**0.5, 1)
    numbers = case_statistics(image, mean, sd, MODALITIES, 0.5)
    assert numbers["brain_ml"] == 2.5
    assert numbers["box_share"] == pytest.approx(5 / 6)
    assert numbers["t1.cover"] == 1
    assert numbers["t2.cover"] == pytest.approx(0.8)
    assert numbers["t1.q50"] == 0
    assert numbers["t1.q25"] == pytest.approx(-1 / 2**0.5)
    assert numbers["t1.sd_of_mean"] == pytest.approx(2**0.5 / 3)
    assert numbers["t1~t1c"] == pytest.approx(1)
    assert numbers["t1~t2"] == pytest.approx(-1)
    assert not any("flair" in name for name in numbers)


def test_a_case_like_the_others_has_no_warning(reference: Reference) -> None:
    assert reference.warnings(prepared(brain(99, radius=12))) == []
    assert reference.warnings(prepared(brain(99, radius=12) // 2)) == []  # brightness alone is normalised away


@pytest.mark.parametrize("pair", list(combinations(range(4), 2)))
def test_exchanged_modalities_are_told_by_name(reference: Reference, pair: tuple[int, int]) -> None:
    image = brain(99)
    image[list(pair)] = image[list(reversed(pair))]
    first, second = (MODALITIES[n] for n in pair)
    warnings = reference.warnings(prepared(image))
    assert f"{first} looks like {second}, {second} looks like {first}: are the modalities exchanged?" in warnings


def test_scaled_and_shifted_intensities_are_told_by_sd_and_mean(reference: Reference) -> None:
    image = brain(99).astype(np.float32)
    image = np.where(image != 0, 10 * image + 20_000, 0)
    assert any(line.startswith("t1: sd / mean of the brain is 0.0") for line in reference.warnings(prepared(image)))


def test_a_modality_that_is_there_twice_is_told(reference: Reference) -> None:
    image = brain(99)
    image[2] = image[3]
    assert any("t2 and flair are the same image" in line for line in reference.warnings(prepared(image)))


def test_a_modality_that_lacks_part_of_the_brain_is_told(reference: Reference) -> None:
    image = brain(99)
    image[0, :15] = 0
    assert "t1 is 0 in 50% of the brain" in reference.warnings(prepared(image))


def test_a_skull_is_told_by_volume(reference: Reference) -> None:
    image = brain(99, radius=14)
    shell = (brain(99, radius=20, edge=44)[0] != 0) & (brain(99, radius=17, edge=44)[0] == 0)
    head = np.where(shell, 700, np.pad(image, ((0, 0), (7, 7), (7, 7), (7, 7)))).astype(np.int16)
    (line,) = (line for line in reference.warnings(prepared(head)) if "skull" in line)
    volume = np.count_nonzero(head[0]) / 1000
    assert line.startswith(f"{volume:.0f} ml are not 0 (training cases ")


def test_noise_around_the_head_is_told_by_the_share_of_the_box(reference: Reference) -> None:
    image = brain(99, radius=12)
    image = np.where(image == 0, 5, image).astype(np.int16)
    assert any("100% of their box" in line for line in reference.warnings(prepared(image)))


def test_voxels_that_are_too_coarse_are_told_however_few_cases_there_are(reference: Reference) -> None:
    few = replace(reference, num_cases=3)
    assert few.warnings(prepared(brain(1), (3, 1, 1))) == [
        "voxels of 1 x 1 x 3 mm, the training cases' were 1 x 1 x 1 mm: fine detail is lost"
    ]
    assert few.warnings(prepared(brain(1), (1.4, 1, 1))) == []


def test_another_task_is_told(reference: Reference) -> None:
    case = replace(prepared(brain(1)), edition="brats2023-men")
    assert reference.warnings(case)[0] == "edition brats2023-men (MEN), but the model was trained on GLI"


def test_missing_modalities_are_not_judged(reference: Reference) -> None:
    case = prepare_arrays(dict(zip(MODALITIES[1:], brain(99)[1:], strict=True)), "brats2020", allow_missing=True)
    assert reference.warnings(case) == []


def test_a_reference_is_read_as_it_was_written(reference: Reference, tmp_path: Path) -> None:
    write_reference(tmp_path, reference)
    assert read_reference(tmp_path) == reference
    write_reference(tmp_path, replace(reference, space=Space("RAS", None)))
    assert read_reference(tmp_path) == replace(reference, space=Space("RAS", None))
    assert read_reference(tmp_path / "nowhere") is None


@pytest.mark.parametrize("text", ["{", "[]", '{"format": 2}', '{"format": 1, "orientation": "LPS"}'])
def test_a_damaged_reference_is_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / REFERENCE).write_text(text)
    with pytest.raises(CheckpointError, match="restore it"):
        read_reference(tmp_path)


def stored(case: StoredCase, spacing_mm: tuple[float, float, float], signs: tuple[int, int, int]) -> StoredCase:
    affine = np.diag([*np.array(signs) * spacing_mm[::-1], 1.0])
    return replace(case, header_bytes=header_for(case.shape, spacing_mm, affine, np.int16))


def test_the_space_is_what_all_training_cases_share(phantom_store: Path) -> None:
    store = open_store(phantom_store)
    case = store.cases[0]
    lps = stored(case, (1, 1, 1), (-1, -1, 1))
    for others, space in (
        ([lps], Space("LPS", (1, 1, 1))),
        ([stored(case, (2, 1, 1), (-1, -1, 1))], Space("LPS", None)),
        ([stored(case, (1, 1, 1), (1, 1, 1))], None),
    ):
        assert make_reference([lps, *others], store.modalities).space == space


def test_a_run_keeps_the_reference_of_its_training_cases(tiny_run: Path, phantom_store: Path) -> None:
    reference = read_reference(tiny_run)
    assert reference is not None
    held_out = (tiny_run / "validation" / "cases.txt").read_text().split()
    store = open_store(phantom_store)
    training = [case for case in store.cases if case.name not in held_out]
    assert reference.num_cases == len(training) == 4
    assert all(reference.has_trained_on(case.name) == (case in training) for case in store.cases)
    volumes = [
        np.count_nonzero(np.asarray(case.image()).any(axis=0)) * np.prod(case.spacing_mm) / 1000 for case in training
    ]
    assert reference.statistics["brain_ml"].max == pytest.approx(max(volumes))


def test_the_bundled_model_knows_its_training_cases() -> None:
    reference = read_reference(bundled_folder("starter"))
    assert reference is not None
    assert reference.space == Space("LPS", (1.0, 1.0, 1.0))
    assert reference.num_cases == len(reference.case_digests) == 28
    assert reference.has_trained_on("BraTS2021_00000")
    assert not reference.has_trained_on("BraTS2021_00001")


@pytest.mark.data
def test_real_training_cases_have_no_warnings(real_data: Path) -> None:
    from brats_seg.data.cases import find_cases
    from brats_seg.inference.reading import read_case

    reference = read_reference(bundled_folder("starter"))
    for case in find_cases(real_data).cases[::9]:
        assert read_case(case, reference).warnings == ()
