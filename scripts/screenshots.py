"""Makes the pictures of the README and docs/ from synthetic cases:   python scripts/screenshots.py

Needs Debian's chromium (`apt-get install chromium fonts-dejavu-core`) and playwright (extra `test`). Writes
docs/images/<name>.webp, each under 200 kB. No real case is ever shown.
"""

from __future__ import annotations

import io
import shutil
import sys
import tempfile
import threading
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image
from report_screenshot import report_of_phantoms, shoot_report
from scipy import ndimage

from brats_seg.data.cases import Case, find_cases
from brats_seg.data.nifti import read_label_map, write_label_map
from brats_seg.data.phantom import write_download
from brats_seg.reporting.viewer.serving import Server
from brats_seg.reporting.viewer.viewed import Viewed
from brats_seg.reporting.viewer.viewer import Viewer

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

IMAGES = Path(__file__).resolve().parent.parent / "docs" / "images"
SHAPE = (155, 240, 240)
WIDTH, HEIGHT = 1440, 860
MOST_BYTES = 200_000
FLAGS = ["--no-sandbox", "--disable-quic", "--use-gl=angle", "--use-angle=swiftshader", "--enable-unsafe-swiftshader"]


def main() -> None:
    from playwright.sync_api import sync_playwright

    program = shutil.which("chromium")
    if program is None:
        sys.exit("error: no chromium; install it: apt-get install chromium fonts-dejavu-core")
    IMAGES.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as folder, sync_playwright() as driver:
        cases = make_cases(Path(folder))
        browser = driver.chromium.launch(executable_path=program, args=FLAGS)
        picture_viewer(browser, cases)
        shoot_report(browser, report_of_phantoms(Path(folder) / "report"), IMAGES)
        browser.close()


def make_cases(folder: Path) -> list[Viewed]:
    """Two synthetic cases of full size, named as such, with predictions that are wrong in ways that predictions are."""
    write_download(folder / "download", 2, seed=20, shape=SHAPE)
    found = find_cases(folder / "download").cases
    cases = [replace(case, name=f"synthetic case {number}") for number, case in enumerate(found, start=1)]
    return [Viewed(case, label_maps_of(case, folder)) for case in cases]


def label_maps_of(case: Case, folder: Path) -> dict[str, Path]:
    assert case.label is not None
    label_map, header = read_label_map(case.label)
    rng = np.random.default_rng(1)
    field = ndimage.gaussian_filter(rng.normal(size=label_map.shape), 7)
    field /= field.std()
    prediction = np.zeros_like(label_map)
    for labels, value in (((1, 2, 4), 2), ((1, 4), 1), ((4,), 4)):  # outermost first
        mask = np.isin(label_map, labels)
        distance = ndimage.distance_transform_edt(mask) - ndimage.distance_transform_edt(~mask)
        prediction[(distance + 2.5 * field > 0) & (distance > -6)] = value
    path = folder / f"{case.name}.nii.gz"
    write_label_map(path, prediction, header.raw)
    return {"reference": case.label, "prediction": path}


def picture_viewer(browser: Browser, cases: list[Viewed]) -> None:
    viewer = Viewer(cases)
    viewer.score_all()
    server = Server(viewer.find)
    threading.Thread(target=server.serve, daemon=True).start()
    page = browser.new_page(viewport={"width": WIDTH, "height": HEIGHT})
    page.set_default_timeout(300_000)
    page.goto(server.address)
    page.wait_for_selector("body[data-state='complete']")
    save(page, "viewer")
    before = page.get_attribute("body", "data-drawn")
    page.keyboard.press("g")
    page.wait_for_selector(f"body:not([data-drawn='{before}'])")
    save(page, "viewer-modalities")
    page.close()
    server.stop()


def save(page: Page, name: str) -> None:
    """Write what the page shows now."""
    page.evaluate("new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)))")
    picture = Image.open(io.BytesIO(page.screenshot())).convert("RGB")
    target = IMAGES / f"{name}.webp"
    picture.save(target, quality=88, method=6)
    size = target.stat().st_size
    print(f"wrote {target} ({size / 1000:.0f} kB)")
    if size > MOST_BYTES:
        sys.exit(f"error: {target}: {size:,} bytes, expected at most {MOST_BYTES:,}")


if __name__ == "__main__":
    main()
