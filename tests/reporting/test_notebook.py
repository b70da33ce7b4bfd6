"""`brats_seg.reporting.show`: what a notebook's cell would see."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from brats_seg.data.cases import Case, find_cases
from brats_seg.data.nifti import read_label_map, read_volume
from brats_seg.errors import DataError, UsageError
from brats_seg.reporting import show
from brats_seg.reporting.notebook import BRATS_AFFINE

CELLS = """
import sys
from brats_seg import reporting
assert not {"matplotlib", "nibabel", "scipy"} & set(sys.modules), "light to import"
figure = reporting.show(sys.argv[1], prediction=sys.argv[2])
picture = figure._repr_png_()  # what Jupyter asks a cell's last value for
figure.savefig(sys.argv[3], dpi=50)
assert "torch" not in sys.modules
assert "matplotlib.pyplot" not in sys.modules
sys.stdout.buffer.write(picture)
"""


@pytest.fixture
def case(phantom_download: Path) -> Case:
    return find_cases(phantom_download).cases[1]


def titles(figure) -> list[str]:
    return [text.get_text() for text in figure.texts]


def test_cells_of_a_notebook_run_without_a_display(case, tmp_path) -> None:
    words = [sys.executable, "-c", CELLS, str(case.folder), str(case.label), str(tmp_path / "a.png")]
    without = {name: value for name, value in os.environ.items() if name not in ("DISPLAY", "MPLBACKEND")}
    result = subprocess.run(words, capture_output=True, env=without)
    assert result.returncode == 0, result.stderr.decode()
    assert result.stderr == b""
    assert result.stdout.startswith(b"\x89PNG")
    assert (tmp_path / "a.png").read_bytes().startswith(b"\x89PNG")


def test_the_case_s_own_segmentation_is_the_reference(case) -> None:
    assert "Reference" in titles(show(str(case.folder)))
    assert "Difference" in titles(show(case, prediction=case.label))


@dataclass
class Predicted:
    label_map: NDArray[np.uint8]


def test_a_prediction_may_be_an_array_or_what_a_model_returned(case) -> None:
    label_map, _ = read_label_map(case.label)
    for given in (label_map, label_map.astype(np.int64), Predicted(label_map)):
        assert "1.000" in titles(show(case, prediction=given)), "Dice against the same map"
    with pytest.raises(DataError, match="give labels, not probabilities"):
        show(case, prediction=label_map * 0.5)


def test_files_and_arrays_are_shown_as_a_folder_is(case) -> None:
    files = {"t1ce": case.images["t1c"].path, "FLAIR": case.images["flair"].path}
    arrays = {modality: read_volume(path)[0] for modality, path in files.items()}
    label_map, header = read_label_map(case.label)
    shown = [
        show(files, prediction=case.label, edition="brats2020"),
        show(arrays, prediction=label_map, edition="brats2020", affine=header.affine),
    ]
    for figure in shown:
        assert [title for title in titles(figure) if title in ("T1", "T1c", "T2", "FLAIR")] == ["T1c", "FLAIR"]
    np.testing.assert_array_equal(*(figure.axes[3].images[0].get_array() for figure in shown))


def test_arrays_without_affine_lie_as_those_of_brats() -> None:
    image = np.arange(1, 2 * 3 * 4 + 1).reshape(2, 3, 4)
    figure = show({"t1c": image}, kind="slice", slice=1)
    np.testing.assert_array_equal(figure.axes[0].images[0].get_array(), image[1])
    assert BRATS_AFFINE[1, 3] == 239


def test_what_cannot_be_shown_is_told(case, phantom_download) -> None:
    with pytest.raises(DataError, match=r"6 cases in it \(.*\), expected one; give one case's folder"):
        show(phantom_download)
    with pytest.raises(UsageError, match="is a file, but the images are arrays; give its array"):
        show({"t1c": np.ones((2, 3, 4))}, prediction=case.label)
    with pytest.raises(UsageError, match="modality 'pet' is unknown in edition brats2021"):
        show({"t1c": np.ones((2, 3, 4)), "pet": np.ones((2, 3, 4))})
