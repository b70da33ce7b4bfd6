from __future__ import annotations

import hashlib
import io
import json
import shutil
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest
from PIL import Image
from scipy import ndimage

from brats_seg.data.cases import Case, find_cases
from brats_seg.data.nifti import read_header, read_label_map, write_label_map
from brats_seg.reporting.viewer import viewer as viewer_module
from brats_seg.reporting.viewer.serving import Server
from brats_seg.reporting.viewer.viewed import Viewed
from brats_seg.reporting.viewer.viewer import Viewer, niivue_source, save_page

if TYPE_CHECKING:
    from playwright.sync_api import Page

PAGE = Path(viewer_module.__file__).with_name("page")
STRANGE = "<!--<script>alert(1)<b>\"é'"


def shifted(case: Case, folder: Path, by: int) -> Path:
    """A prediction: the reference, moved by some voxels, with a false lesion."""
    assert case.label is not None
    label_map, header = read_label_map(case.label)
    moved = np.roll(label_map, by, axis=2)
    moved[4:7, 27:30, 27:30] = 2
    write_label_map(folder / f"{case.name}.nii.gz", moved, header.raw)
    return folder / f"{case.name}.nii.gz"


def mean_dice(viewed: Viewed) -> float:
    first, second = (read_label_map(path)[0] for path in viewed.label_maps.values())
    scores = []
    for labels in ([4], [1, 4], [1, 2, 4]):
        a, b = np.isin(first, labels), np.isin(second, labels)
        if a.any() or b.any():
            scores.append(2 * (a & b).sum() / (a.sum() + b.sum()))
    return float(np.mean(scores))


@pytest.fixture(scope="module")
def three(phantom_download: Path, tmp_path_factory: pytest.TempPathFactory) -> list[Viewed]:
    """Three cases whose predictions are off by 0, 1 and 2 voxels."""
    folder = tmp_path_factory.mktemp("predictions")
    cases = find_cases(phantom_download).cases[:3]
    return [
        Viewed(case, {"reference": case.label, "prediction": shifted(case, folder, number)})
        for number, case in enumerate(cases)
        if case.label
    ]


@pytest.fixture
def address(three: list[Viewed], phantom_download: Path, tmp_path: Path) -> Iterator[str]:
    """Where the three cases are served, and a fourth whose prediction is a web page."""
    (tmp_path / "p.nii.gz").write_bytes(b"<html>")
    broken = Viewed(find_cases(phantom_download).cases[3], {"prediction": tmp_path / "p.nii.gz"})
    viewer = Viewer([*three, broken])
    viewer.score_all()
    server = Server(viewer.find)
    thread = threading.Thread(target=server.serve)
    thread.start()
    yield server.address
    server.stop()
    thread.join()


def pixels(page: Page, selector: str = "#canvas") -> np.ndarray:
    """(rows, columns, 3) of what is seen of a canvas."""
    picture = Image.open(io.BytesIO(page.locator(selector).first.screenshot()))
    return np.asarray(picture.convert("RGB")).astype(int)


def num_colored(page: Page) -> int:
    """Pixels of a label's colour: much greener or redder than they are blue. Words stand above and below."""
    seen = pixels(page)[60:-60]
    return int((seen.max(axis=2) - seen[..., 2] > 90).sum())


def listed(page: Page) -> list[str]:
    """Names of the cases in the list, from the top."""
    return page.locator("#case-table tbody tr td:first-child").all_inner_texts()


def press(page: Page, key: str) -> None:
    """Press a key that changes the picture, and wait until the page has drawn it."""
    before = page.get_attribute("body", "data-drawn")
    page.keyboard.press(key)
    page.wait_for_selector(f"body:not([data-drawn='{before}'])")


def open_page(page: Page, address: str) -> None:
    page.goto(address)
    page.wait_for_selector("body[data-state='complete']")


def test_the_bundle_is_the_one_that_was_pinned():
    folder = Path(__file__).resolve().parents[3] / "brats_seg" / "reporting" / "viewer" / "niivue"
    pinned = (folder / "SHA256").read_text().split()[0]
    assert hashlib.sha256(niivue_source()).hexdigest() == pinned
    assert pinned.startswith("47b896b77ec4a5be")
    assert "BSD 2-Clause" in (folder / "LICENSE").read_text()
    assert b"</script" not in niivue_source(), "it goes into a page as it is"


def test_only_what_the_cases_name_is_found(three):
    viewer = Viewer(three)
    assert viewer.find("cases/0/t1c.nii").body[:4] == b"\x5c\x01\x00\x00"
    assert viewer.find("cases/2/reference-WT.mz3") is not None
    for path in (
        "cases/3/t1c.nii",
        "cases/-1/t1c.nii",
        "cases/0/t1c.nii.gz",
        "cases/0/x/t1c.nii",
        "viewer.py",
        "cases",
    ):
        assert viewer.find(path) is None, path


def test_the_list_has_dice_and_the_error_of_a_case_that_cannot_be_read(three, tmp_path):
    broken = tmp_path / "broken.nii.gz"
    broken.write_bytes(b"<html>")
    viewer = Viewer([three[0], Viewed(three[1].case, {"prediction": broken})])
    assert viewer.list_of_cases()["pending"] == 2
    viewer.score_all()
    first, second = viewer.list_of_cases()["cases"]
    assert set(first["dice"]) == {"ET", "TC", "WT"}
    assert 0.9 < first["mean"] < 1
    assert "not a NIfTI file" in second["error"]
    assert "not a NIfTI file" in json.loads(viewer.find("cases/1/scene.json").body)["error"]
    assert viewer.find("cases/1/t1c.nii") is None


def test_the_list_of_a_page_sorts_filters_and_opens_cases(chromium_page, address, three):
    page = chromium_page
    open_page(page, address)
    worst, second, _ = names = [one.case.name for one in sorted(three, key=mean_dice)]
    assert listed(page) == [*names, "BraTS20_Training_004"], "worst first"
    page.click("#case-table th:first-child")
    assert listed(page) == [f"BraTS20_Training_00{number}" for number in (1, 2, 3, 4)]
    page.fill("#case-filter", "g_002")
    assert listed(page) == ["BraTS20_Training_002"]
    page.fill("#case-filter", "")
    page.press("#case-filter", "Enter")
    assert page.inner_text("h1") == worst
    assert "Research use only" in page.inner_text("header")
    assert page.locator("#numbers tr.region").count() == 3

    page.click(f"#case-table td:text-is('{second}')")
    page.wait_for_selector("body[data-state='complete']")
    assert page.inner_text("h1") == second
    page.click("#case-table td:text-is('BraTS20_Training_004')")
    page.wait_for_selector("body[data-state='problem']")
    assert "not a NIfTI file: it begins with '<html>'" in page.inner_text("#message")


def test_the_pictures_of_a_page_answer_keys_and_the_mouse(chromium_page, address):
    page = chromium_page
    open_page(page, address)
    flair = pixels(page)
    assert flair.std() > 10
    press(page, "2")
    assert np.abs(pixels(page) - flair).mean() > 2, "another modality"

    press(page, "a")
    assert num_colored(page) > 500
    press(page, "h")
    assert num_colored(page) == 0, "overlays are hidden"
    press(page, "h")
    assert num_colored(page) > 500

    slider = page.query_selector("#opacity")
    faint = num_colored(page)
    slider.fill("0.05")
    assert slider.is_visible(), "a slider that is held stays"
    assert num_colored(page) < faint
    slider.fill("0.3")

    start = page.inner_text("#cursor")
    page.keyboard.press("n")
    lesions = page.evaluate("scene.description.lesions")
    assert page.inner_text("#cursor") != start
    assert page.evaluate("scene.mm") == lesions[0]["mm"]
    page.keyboard.press("n")
    assert page.evaluate("scene.mm") == lesions[1]["mm"]
    assert f"{lesions[1]['mm'][0]:.1f}, {lesions[1]['mm'][1]:.1f}" in page.inner_text("#cursor")

    press(page, "e")
    assert "missed WT" in page.inner_text("#legend")
    box = page.locator("#canvas").bounding_box()
    page.mouse.click(box["x"] + box["width"] * 0.4, box["y"] + box["height"] * 0.5)
    left = page.evaluate("scene.mm[0]")
    page.mouse.click(box["x"] + box["width"] * 0.6, box["y"] + box["height"] * 0.5)
    assert page.evaluate("scene.mm[0]") < left, "the patient's right, which is larger in RAS, is on the left"

    press(page, "g")
    assert page.locator("#grid .pane:visible").count() == 4
    assert pixels(page, "#grid canvas").std() > 10
    page.keyboard.press("?")
    assert page.locator("#help").is_visible()


def test_outlines_are_regions_without_their_erosion_in_the_plane(chromium_page):
    chromium_page.add_script_tag(path=PAGE / "labels.js")
    rng = np.random.default_rng(3)
    labels = ndimage.zoom(rng.integers(0, 2, (4, 4, 4)), 3, order=0) * rng.choice([1, 2, 4], (12, 12, 12))
    sets = [{"values": [1, 2, 4], "color_of": 2}, {"values": [1, 4], "color_of": 1}, {"values": [4], "color_of": 4}]
    for axis, structure in ((2, np.ones((1, 1, 1), bool)), (None, ndimage.generate_binary_structure(3, 1))):
        if axis is not None:
            structure = np.zeros((3, 3, 3), bool)
            structure[1] = ndimage.generate_binary_structure(2, 1)
        expected = np.zeros_like(labels)
        for one in sets:
            mask = np.isin(labels, one["values"])
            expected[mask & ~ndimage.binary_erosion(mask, structure)] = one["color_of"]
        found = chromium_page.evaluate(
            "([labels, sets, axis]) => [...Labels.outlined(Uint8Array.from(labels), [12, 12, 12], sets, axis)]",
            [labels.ravel().tolist(), sets, axis],
        )
        np.testing.assert_array_equal(np.reshape(found, labels.shape), expected)


def test_a_saved_page_opens_from_disk_whatever_the_case_is_called(chromium_page, three, tmp_path):
    folder = tmp_path / STRANGE
    folder.mkdir()
    for modality in ("t1", "t1ce", "flair"):  # no T2
        source = next(three[0].case.folder.glob(f"*_{modality}.nii*"))
        shutil.copy(source, folder / f"{STRANGE}_{modality}{''.join(source.suffixes)}")
    (case,) = find_cases(folder, edition="brats2020", allow_missing=True).cases
    header = read_header(case.images["t1"].path)
    label_map = np.zeros(header.grid, np.uint8)
    label_map[15:20, 25:30, 25:30] = 4
    write_label_map(tmp_path / "p.nii.gz", label_map, header.raw)
    page = tmp_path / "saved page.html"
    assert save_page(Viewed(case, {"prediction": tmp_path / "p.nii.gz"}), page) == page.stat().st_size

    chromium_page.on("dialog", lambda dialog: pytest.fail(dialog.message))
    open_page(chromium_page, page.as_uri())
    assert chromium_page.inner_text("h1") == STRANGE
    assert "without T2" in chromium_page.inner_text("#edition")
    assert chromium_page.locator("#modalities button").all_inner_texts() == ["T1", "T1c", "FLAIR", "Side by side"]
    assert pixels(chromium_page).std() > 10
    assert num_colored(chromium_page) > 20
    assert "volumes only" in chromium_page.inner_text("#panel")
    assert chromium_page.locator("#lesions tr").count() == 1
