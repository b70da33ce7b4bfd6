"""Pictures of the HTML report for the README, of synthetic cases; `screenshots.py` calls this.

A dozen synthetic cases, predictions that are wrong in places, their evaluation and its report; of that the top of the
page (report.webp) and its first case (report_case.webp). The cases show nobody, and the numbers say nothing.
"""

from __future__ import annotations

import io
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from scipy import ndimage

from brats_seg.data.cases import find_cases
from brats_seg.data.nifti import read_label_map, write_label_map
from brats_seg.data.phantom import write_download
from brats_seg.evaluation.folders import evaluate_folder
from brats_seg.reporting.html.report import write_report

if TYPE_CHECKING:
    from playwright.sync_api import Browser

_NUM_CASES = 12
_SHAPE = (110, 170, 170)


def faulty_prediction(label_map: NDArray[np.uint8], seed: int) -> NDArray[np.uint8]:
    """Return a label map whose borders wander by some voxels, more in cases of higher seed."""
    rng = np.random.default_rng(seed)
    shifts = [ndimage.gaussian_filter(rng.standard_normal(label_map.shape), 7) for _ in range(3)]
    strength = 0.8 + seed % 5 / 2
    places = np.indices(label_map.shape) + np.stack([one / one.std() * strength for one in shifts])
    warped: NDArray[np.uint8] = ndimage.map_coordinates(label_map, places, order=0, mode="constant")
    return warped


def report_of_phantoms(folder: Path) -> Path:
    """Write synthetic cases, predictions, their evaluation and its report to a folder; return the page."""
    download, predictions = folder / "download", folder / "predictions"
    write_download(download, _NUM_CASES, seed=3, shape=_SHAPE)
    predictions.mkdir()
    for number, case in enumerate(find_cases(download).cases):
        if case.label is not None:
            label_map, header = read_label_map(case.label)
            write_label_map(predictions / f"{case.name}.nii.gz", faulty_prediction(label_map, number), header.raw)
    evaluate_folder(download, predictions, folder / "synthetic cases", protocol="plain")
    return write_report([folder / "synthetic cases"]).path


def shoot_report(browser: Browser, page_file: Path, out: Path) -> None:
    """Write pictures of a report's top and of its first case, twice as sharp as they are shown."""
    out.mkdir(parents=True, exist_ok=True)
    context = browser.new_context(viewport={"width": 1180, "height": 1440}, device_scale_factor=1.5)
    page = context.new_page()
    page.goto(page_file.as_uri())
    page.wait_for_selector("body[data-ready=yes]")
    hide = "document.querySelectorAll('.facts, .notice').forEach(e => e.remove())"  # paths of this machine
    page.evaluate(hide)
    _save(page.screenshot(), out / "report.webp")
    _save(page.locator(".card").first.screenshot(), out / "report_case.webp")
    context.close()


def _save(png: bytes, target: Path) -> None:
    Image.open(io.BytesIO(png)).convert("RGB").save(target, format="WEBP", quality=82, method=6)
