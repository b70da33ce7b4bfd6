"""What all tests share. One thread a process: two OpenMP threads beside another busy process are ten times slower."""

from __future__ import annotations

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")  # before anything imports numpy or torch; sub-processes inherit it
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
os.environ["MPLBACKEND"] = "Agg"

import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest


def pytest_runtest_setup(item: pytest.Item) -> None:
    """Skip what needs a GPU where there is none, and keep torch on one thread whatever an earlier test set."""
    if item.get_closest_marker("gpu"):
        import torch

        if not torch.cuda.is_available():
            pytest.skip("needs a CUDA device, and torch sees none")
    if "torch" in sys.modules:
        sys.modules["torch"].set_num_threads(1)


@pytest.fixture(scope="session")
def real_data() -> Path:
    """Folder of real BraTS cases, read only; for tests that carry the marker `data`."""
    named = os.environ.get("BRATS_SEG_DATA")
    if not named:
        pytest.skip("NOT TESTED ON REAL CASES: set BRATS_SEG_DATA to a folder of BraTS cases")
    folder = Path(named)
    if not folder.is_dir():
        pytest.fail(f"BRATS_SEG_DATA={named}: no such folder")
    return folder.resolve()


@pytest.fixture(scope="session")
def phantom_download(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Six synthetic BraTS 2020 cases of 40 x 56 x 56 voxels, written as a download. Tests only read it."""
    from brats_seg.data.phantom import write_download

    root = tmp_path_factory.mktemp("phantoms") / "download"
    write_download(root, 6, seed=7, shape=(40, 56, 56))
    return root


@pytest.fixture(scope="session")
def repository() -> Path:
    """Folder of the checkout."""
    return Path(__file__).resolve().parent.parent


TINY_RECIPE = """
network:
  stem: 2
  arguments:
    kernel_size: [3, 3, 3]
    strides: [1, 2, 2]
    upsample_kernel_size: [2, 2]
    filters: [4, 8, 8]
    norm_name: [instance, {affine: true}]
    act_name: [leakyrelu, {negative_slope: 0.01, inplace: true}]
data: {num_folds: 3}
train: {steps: 6, patch: [16, 24, 16], validate_every: 3, checkpoint_every: 2, device: cpu, precision: fp32, ema: 0.9}
inference: {window: [32, 48, 32], overlap: 0.0}
"""


@pytest.fixture(scope="session")
def tiny_recipe(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A recipe that trains in a second: a network of a few thousand weights, six steps."""
    path = tmp_path_factory.mktemp("recipes") / "tiny.yaml"
    path.write_text(TINY_RECIPE, encoding="utf-8")
    return path


@pytest.fixture(scope="session")
def phantom_store(tmp_path_factory: pytest.TempPathFactory, phantom_download: Path) -> Path:
    """The store of the six synthetic cases. Tests only read it."""
    from brats_seg.cli import run

    store = tmp_path_factory.mktemp("store") / "store"
    assert run(["prepare", str(phantom_download), str(store), "--jobs", "1", "--quiet"]) == 0
    return store


@pytest.fixture(scope="session")
def tiny_run(tmp_path_factory: pytest.TempPathFactory, phantom_store: Path, tiny_recipe: Path) -> Path:
    """A finished run of the tiny recipe on fold 0. Tests only read it."""
    from brats_seg.cli import run

    folder = tmp_path_factory.mktemp("runs") / "tiny"
    words = ["train", str(tiny_recipe), f"data.store={phantom_store}", f"output={folder}", "--quiet"]
    assert run(words) == 0
    return folder


def _imperfect(label_map: np.ndarray, number: int) -> np.ndarray:
    """Return a prediction with faults: everything one voxel to the side; in case 1 no ET, in case 2 an invented one."""
    prediction = np.roll(label_map, 1, axis=2)
    if number == 1:
        prediction[prediction == 4] = 1
    if number == 2:
        prediction[:2, :2, :2] = 4
    return prediction


@pytest.fixture(scope="session")
def phantom_evaluation(tmp_path_factory: pytest.TempPathFactory, phantom_download: Path) -> Path:
    """An evaluation under brats2020 of faulty predictions of the six synthetic cases. Tests only read it."""
    from brats_seg.data.cases import find_cases
    from brats_seg.data.nifti import read_label_map, write_label_map
    from brats_seg.evaluation.folders import evaluate_folder

    folder = tmp_path_factory.mktemp("evaluated")
    (folder / "predictions").mkdir()
    for number, case in enumerate(find_cases(phantom_download).cases):
        assert case.label is not None
        label_map, header = read_label_map(case.label)
        target = folder / "predictions" / f"{case.name}.nii.gz"
        write_label_map(target, _imperfect(label_map, number), header.raw)
    evaluate_folder(phantom_download, folder / "predictions", folder / "evaluation", protocol="brats2020")
    return folder / "evaluation"


@pytest.fixture
def write_evaluation() -> Callable[..., Path]:
    """Return a function that writes a folder as `evaluate` does, from Dice values made up by the test."""
    return _write_evaluation


def _write_evaluation(
    folder: Path,
    dice: Mapping[str, Sequence[float]],
    *,
    protocol: str = "brats2020",
    regions: Sequence[str] = ("ET", "TC", "WT"),
    edition: str = "brats2020",
    **changes: Any,
) -> Path:
    """Write `cases.csv`, `summary.json` and `run.json`.

    Args:
        folder: made if it is not there.
        dice: case -> Dice of each region; whatever else a row has follows from it: volumes are 1, 2 ... ml by region.
        protocol: decides the columns.
        regions: of the rows.
        edition: of the summary.
        changes: column -> value of every row, or a function of (case, region).
    """
    from brats_seg.evaluation.records import columns_of
    from brats_seg.files import write_csv, write_json

    columns = columns_of(protocol)
    lines = []
    for case, values in dice.items():
        for number, (region, value) in enumerate(zip(regions, values, strict=True), 1):
            row = dict.fromkeys(columns, 0.5) | {name: 1 for name in columns if name.startswith("num_")}
            row |= {name: value for name in columns if name.endswith("dice")}
            row |= {name: 10.0 * (1 - value) for name in columns if "hd95" in name}
            size = 0.0 if value != value else number * value
            row |= {"reference_ml": float(number), "prediction_ml": size}
            row |= {"reference_voxels": 1000 * number, "prediction_voxels": round(1000 * size)}
            row |= {"case": case, "region": region, "protocol": protocol}
            row |= {name: to(case, region) if callable(to) else to for name, to in changes.items()}
            lines.append([row[name] for name in columns])
    folder.mkdir(parents=True, exist_ok=True)
    write_csv(folder / "cases.csv", [columns, *lines])
    rules = ["GLI: words about lesions"] * (protocol not in ("plain", "brats2020"))
    write_json(folder / "summary.json", {"editions": [edition], "rules": rules, "warnings": []})
    write_json(folder / "run.json", {"command": ["brats-seg", "evaluate"], "versions": {"numpy": "2"}, "images": None})
    return folder
