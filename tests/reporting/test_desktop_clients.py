"""Exported label maps in desktop clients: is the overlay where the tumour is, by the colour of a screenshot's pixels?

Runs where `mrview` (Debian's mrtrix3) or `fsleyes`, and `Xvfb`, are installed, and says loudly where they are not.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import xml.etree.ElementTree as ET
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from brats_seg.cli import run
from brats_seg.data.cases import find_cases
from brats_seg.data.nifti import read_header, read_label_map
from brats_seg.reporting.planes import PLANES, cut, orientation_of, plane_axis

pytestmark = pytest.mark.slow

FIELD_OF_VIEW_MM = 220.0
PIXELS = 500


@dataclass
class Exported:
    """T1c and prediction as the workspace names them, and the prediction's tumour."""

    image: Path
    label_map: Path
    tumor: NDArray[np.bool_]
    affine: NDArray[np.float64]

    def mm(self, index: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return the RAS coordinates of a place (k, j, i)."""
        return (self.affine @ [*index[::-1], 1.0])[:3]

    @property
    def focus(self) -> NDArray[np.float64]:
        """The centre of the tumour, at the middle of a voxel, in mm."""
        return self.mm(np.argwhere(self.tumor).mean(axis=0).round())

    @property
    def target(self) -> NDArray[np.float64]:
        """The centre of the grid, which the screenshot has in its middle, in mm."""
        return self.mm((np.array(self.tumor.shape) - 1) / 2)


@pytest.fixture(scope="module")
def exported(phantom_download: Path, tmp_path_factory: pytest.TempPathFactory) -> Exported:
    """The second phantom's reference as a prediction, exported for ITK-SNAP."""
    case = find_cases(phantom_download).cases[1]
    out = tmp_path_factory.mktemp("exported")
    words = ["export", "itksnap", str(case.folder), "--prediction", str(case.label), "--out", str(out), "--copy"]
    assert run([*words, "--quiet"]) == 0
    layers = ET.parse(out / f"{case.name}.itksnap").getroot().iter("entry")
    paths = [Path(entry.attrib["value"]) for entry in layers if entry.attrib["key"] == "AbsolutePath"]
    label_map, _ = read_label_map(paths[4])
    return Exported(paths[0], paths[4], label_map > 0, read_header(paths[0]).affine)


@pytest.fixture(scope="module")
def display(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    """An environment with a display of its own and rendering in software."""
    if shutil.which("Xvfb") is None:
        pytest.skip("NOT TESTED IN A DESKTOP CLIENT: no Xvfb (Debian: apt-get install xvfb)")
    folder = tmp_path_factory.mktemp("display")
    folder.chmod(0o700)
    read, write = os.pipe()
    words = ["Xvfb", "-displayfd", str(write), "-screen", "0", "1400x900x24", "-nolisten", "tcp", "-noreset"]
    server = subprocess.Popen(words, pass_fds=[write], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    os.close(write)
    with os.fdopen(read) as answer:
        number = answer.readline().strip()
    own = {"DISPLAY": f":{number}", "LIBGL_ALWAYS_SOFTWARE": "1", "XDG_RUNTIME_DIR": str(folder)}
    yield {**os.environ, **own}
    server.terminate()
    server.wait(timeout=30)


def red_pixels(picture: Path) -> NDArray[np.bool_]:
    from PIL import Image

    with Image.open(picture) as image:
        pixels = np.asarray(image.convert("RGB")).astype(int)
    return (pixels[..., 0] > 150) & (pixels[..., 1] < 90) & (pixels[..., 2] < 90)


@pytest.mark.parametrize("plane", PLANES)
def test_mrview_shows_the_exported_label_map_on_the_tumour(exported, display, tmp_path, plane) -> None:
    if shutil.which("mrview") is None:
        pytest.skip("NOT TESTED IN A DESKTOP CLIENT: no mrview (Debian: apt-get install mrtrix3)")
    axis = {"axial": 2, "coronal": 1, "sagittal": 0}[plane]
    places = {"focus": exported.focus, "target": exported.target}
    at = {name: ",".join(f"{value:.4f}" for value in place) for name, place in places.items()}
    words = f"""mrview {exported.image} -mode 1 -plane {axis} -size {PIXELS},{PIXELS} -fov {FIELD_OF_VIEW_MM}
        -target {at["target"]} -focus {at["focus"]} -noannotations -interpolation 0
        -overlay.load {exported.label_map} -overlay.colour 255,0,0 -overlay.opacity 1 -overlay.interpolation 0
        -overlay.intensity 0,1 -overlay.threshold_min 0.5
        -capture.folder {tmp_path} -capture.prefix shot -capture.grab -exit""".split()
    result = subprocess.run(words, env=display, capture_output=True, text=True, timeout=180)
    assert result.returncode == 0, result.stderr
    shown = red_pixels(tmp_path / "shot0000.png")
    assert shown.shape == (PIXELS, PIXELS)
    require_on_the_tumour(shown, exported, plane, FIELD_OF_VIEW_MM / PIXELS)


def test_fsleyes_shows_the_exported_label_map_on_the_tumour(exported, display, tmp_path) -> None:
    if shutil.which("fsleyes") is None:
        pytest.skip("NOT TESTED IN A DESKTOP CLIENT: no fsleyes (pip install fsleyes, with Debian's python3-wxgtk4.0)")
    (tmp_path / "labels.lut").write_text("".join(f"{value} 1.0 0.0 0.0 label\n" for value in (1, 2, 4)))
    place = [f"{value:.4f}" for value in (*exported.target[:2], exported.focus[2])]
    words = ["fsleyes", "render", "-of", str(tmp_path / "shot.png"), "-sz", str(PIXELS), str(PIXELS), "-hc", "-hl"]
    words += ["--hidex", "--hidey", "--displaySpace", "world", "--worldLoc", *place, str(exported.image)]
    words += [str(exported.label_map), "-ot", "label", "-l", str(tmp_path / "labels.lut"), "-a", "100"]
    result = subprocess.run(words, env=display | {"HOME": str(tmp_path)}, capture_output=True, text=True, timeout=300)
    assert result.returncode == 0, result.stderr
    shown = red_pixels(tmp_path / "shot.png")
    width_mm = exported.tumor.shape[2] * float(np.linalg.norm(exported.affine[:3, 0]))  # which the picture is wide
    require_on_the_tumour(shown, exported, "axial", width_mm / PIXELS, tolerance=0.1)  # it leaves a rim


def require_on_the_tumour(
    shown: NDArray[np.bool_], exported: Exported, plane: str, pixel_mm: float, *, tolerance: float = 0.05
) -> None:
    """Compare the overlay's pixels on a screenshot, centred on the grid, with the tumour in that plane."""
    assert shown.shape == (PIXELS, PIXELS)
    orientation = orientation_of(exported.affine, exported.tumor.shape)
    number = int(np.argwhere(exported.tumor).mean(axis=0).round()[orientation.axes[plane_axis(plane)]])
    ours = cut(orientation.turned(exported.tumor), plane, orientation.file_index(plane, number))
    centre, area = projected(ours, orientation.plane_spacing_mm(plane), pixel_mm)
    rows, columns = np.nonzero(shown)
    assert (rows.mean() + 0.5, columns.mean() + 0.5) == pytest.approx(centre, abs=2)
    assert shown.sum() == pytest.approx(area, rel=tolerance)
    assert shown[int(centre[0]), int(centre[1])], "the tumour's centre has the overlay's colour"


def projected(
    mask: NDArray[np.bool_], spacing_mm: tuple[float, float], pixel_mm: float
) -> tuple[tuple[float, float], float]:
    """Return where the centre of a mask lies on a screenshot centred on the grid, and how many pixels the mask has."""
    rows, columns = np.nonzero(mask)
    offsets = [
        (place.mean() - (size - 1) / 2) * spacing / pixel_mm
        for place, size, spacing in zip((rows, columns), mask.shape, spacing_mm, strict=True)
    ]
    area = mask.sum() * spacing_mm[0] * spacing_mm[1] / pixel_mm**2
    return (PIXELS / 2 + offsets[0], PIXELS / 2 + offsets[1]), float(area)
