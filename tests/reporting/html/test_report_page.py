"""The report in a browser, opened from disk: sorts, filters, turns dark, prints; asks nobody for anything."""

from __future__ import annotations

import io
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from PIL import Image

from brats_seg.reporting.html.report import write_report

if TYPE_CHECKING:
    from playwright.sync_api import Page


@pytest.fixture(scope="module")
def report(phantom_evaluation: Path, tmp_path_factory: pytest.TempPathFactory) -> str:
    """The address of the report of six synthetic cases, one of them without ET in its prediction."""
    return write_report([phantom_evaluation], tmp_path_factory.mktemp("page") / "report.html").path.as_uri()


def opened(page: Page, address: str) -> Page:
    page.goto(address)
    page.wait_for_selector("body[data-ready=yes]")  # the page allows no `eval`, which wait_for_function needs
    return page


def column(page: Page, number: int) -> list[str]:
    """The texts of a column of the table, rows that are filtered away left out."""
    script = "n => [...document.querySelectorAll('#table tbody tr:not([hidden])')].map(r => r.cells[n].textContent)"
    texts: list[str] = page.evaluate(script, number)
    return texts


def picture(page: Page, **options: Any) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(page.screenshot(**options))).convert("RGB")).astype(int)


BLUE, ORANGE = (86, 180, 233), (255, 140, 46)


def has(pixels: np.ndarray, color: tuple[int, int, int]) -> bool:
    """Whether a colour, or one that is darkened by up to 15 %, covers a few pixels."""
    shades = (np.multiply(color, share) for share in (1.0, 0.92, 0.86))
    return any((np.abs(pixels - shade).max(axis=2) < 14).sum() > 12 for shade in shades)


def test_columns_sort_both_ways(report: str, chromium_page: Page) -> None:
    page = opened(chromium_page, report)
    head = page.locator("#table thead tr:last-child th").nth(1)
    head.locator("button").click()
    up = [float(text) for text in column(page, 1)]
    assert (up, head.get_attribute("aria-sort")) == (sorted(up), "ascending")
    head.locator("button").click()
    assert [float(text) for text in column(page, 1)] == up[::-1]
    page.locator("#table thead tr:last-child th").first.locator("button").click()
    assert column(page, 0) == sorted(column(page, 0))
    assert head.get_attribute("aria-sort") == "none"


def test_the_filter_takes_words_and_bounds(report: str, chromium_page: Page) -> None:
    page = opened(chromium_page, report)
    page.fill("#filter", "003")
    assert column(page, 0) == ["BraTS20_Training_003"]
    assert page.inner_text("#count") == "1 of 6 cases"
    page.fill("#filter", "et<0.001")
    assert "BraTS20_Training_002" in column(page, 0)  # its prediction has no ET
    assert all(float(text) < 0.001 for text in column(page, 1))
    page.fill("#filter", "")
    assert len(column(page, 0)) == 6


def test_a_region_is_chosen_and_the_picture_zooms(report: str, chromium_page: Page) -> None:
    page = opened(chromium_page, report)
    card = page.locator(".card").first
    card.locator("[data-region='2']").click()
    assert card.locator(".pic").get_attribute("data-r") == "2"
    shown = "e => ['r0', 'r2'].map(name => getComputedStyle(e.querySelector('defs .' + name)).display)"
    assert card.locator(".pic").evaluate(shown) == ["none", "inline"]
    before = card.locator(".pic > svg").first.get_attribute("viewBox")
    card.locator("[data-zoom]").click()
    after = card.locator(".pic > svg").first.get_attribute("viewBox")
    assert float((after or "").split()[2]) < float((before or "").split()[2])
    card.locator("[data-zoom]").click()
    assert card.locator(".pic > svg").first.get_attribute("viewBox") == before


def test_outlines_and_faults_have_their_colours(report: str, chromium_page: Page) -> None:
    page = opened(chromium_page, report)
    page.locator(".card").first.locator(
        "[data-region='2']"
    ).click()  # WT: too much on one side, too little on the other
    card = page.locator(".picture").first
    pixels = np.asarray(Image.open(io.BytesIO(card.screenshot())).convert("RGB")).astype(int)
    assert has(pixels, BLUE)
    assert has(pixels, ORANGE)
    for name in ("ref", "pre"):
        page.click(f"[data-all={name}]")
    pixels = np.asarray(Image.open(io.BytesIO(card.screenshot())).convert("RGB")).astype(int)
    images, faults = np.split(pixels[40:], [int(pixels.shape[1] * 0.8)], axis=1)  # below the headings
    assert not has(images, BLUE)
    assert not has(images, ORANGE)
    assert has(faults, BLUE)
    assert has(faults, ORANGE)


def test_a_dot_tells_its_case_and_marks_it_everywhere(report: str, chromium_page: Page) -> None:
    from playwright.sync_api import expect

    page = opened(chromium_page, report)
    dot = page.locator("#distributions .d[data-c='3']").first
    dot.scroll_into_view_if_needed()
    page.evaluate(
        "new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)))"
    )  # scrolling unmarks
    dot.hover(force=True)
    assert page.inner_text("#tip").startswith("BraTS20_Training_004")
    assert page.locator("#by-volume .d.on").count() >= 1
    dot.click(force=True)
    expect(page.locator("#worst-3 h3")).to_be_in_viewport()


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_light_and_dark_follow_the_system_and_the_button(report: str, chromium_page: Page, scheme: str) -> None:
    page = chromium_page
    page.emulate_media(color_scheme=scheme)  # type: ignore[arg-type]
    opened(page, report)
    is_dark = picture(page)[-5:, :5].mean() < 60
    assert is_dark == (scheme == "dark")
    other = "light" if scheme == "dark" else "dark"
    while page.inner_text("#theme") != f"theme: {other}":
        page.click("#theme")
    assert (picture(page)[-5:, :5].mean() < 60) == (other == "dark")


def test_a_phone_needs_no_sideways_scrolling(report: str, chromium_page: Page) -> None:
    chromium_page.set_viewport_size({"width": 390, "height": 800})
    page = opened(chromium_page, report)
    assert page.evaluate("document.documentElement.scrollWidth") == 390


def test_it_prints_light_on_a4_with_its_pictures(report: str, chromium_page: Page) -> None:
    page = chromium_page
    page.emulate_media(color_scheme="dark", media="print")
    opened(page, report)
    assert page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
    assert not page.locator("#filter").is_visible()
    pixels = picture(page, full_page=True)
    assert (pixels.min(axis=2) > 240).mean() > 0.4  # white paper
    grey = (np.ptp(pixels, axis=2) < 8) & (pixels.mean(axis=2) > 60) & (pixels.mean(axis=2) < 200)
    assert grey.mean() > 0.02  # brains, not black panels
    content = page.pdf(prefer_css_page_size=True)
    assert content.startswith(b"%PDF")
    boxes = {tuple(map(float, box.split())) for box in re.findall(rb"/MediaBox ?\[([\d. ]+)\]", content)}
    sizes = {tuple(sorted((round(box[2] / 72 * 25.4), round(box[3] / 72 * 25.4)))) for box in boxes}
    assert sizes == {(210, 297)}
