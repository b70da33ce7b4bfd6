"""A browser for tests of pages: Debian's Chromium, driven by Playwright, one a process."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import pytest

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

_FLAGS = (
    *("--no-sandbox", "--disable-quic", "--no-first-run", "--disable-sync"),
    *("--disable-background-networking", "--disable-component-update"),
    *("--use-gl=angle", "--use-angle=swiftshader", "--enable-unsafe-swiftshader"),  # WebGL2 without a graphics card
)
_MOST_MS = 120_000
"""Longest wait for a page, on a busy machine and in software rendering."""


@pytest.fixture(scope="session")
def chromium() -> Iterator[Browser]:
    """The browser; tests skip, loudly, where Chromium or Playwright are not installed."""
    program = os.environ.get("BRATS_SEG_CHROMIUM") or shutil.which("chromium") or shutil.which("google-chrome")
    if program is None:
        pytest.skip("NOT TESTED IN A BROWSER: install it with `apt-get install chromium fonts-dejavu-core`")
    playwright = pytest.importorskip("playwright.sync_api", reason="NOT TESTED IN A BROWSER: pip install playwright")
    with playwright.sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=program, args=list(_FLAGS))
        yield browser
        browser.close()


@pytest.fixture
def chromium_page(chromium: Browser) -> Iterator[Page]:
    """An empty page of 1000 x 680 pixels.

    After the test it must have neither an error (uncaught, or on the console) nor a request to anything but 127.0.0.1,
    `file:`, `data:` and `blob:`.
    """
    context = chromium.new_context(viewport={"width": 1000, "height": 680})
    context.set_default_timeout(_MOST_MS)
    page = context.new_page()
    errors: list[str] = []
    requests: list[str] = []
    page.on("pageerror", lambda error: errors.append(str(error)))
    page.on("console", lambda message: errors.append(message.text) if message.type == "error" else None)
    page.on("request", lambda request: requests.append(request.url))
    yield page
    context.close()
    assert errors == []
    assert [url for url in requests if not _is_local(url)] == []


def _is_local(url: str) -> bool:
    parts = urlsplit(url)
    return parts.scheme in ("file", "data", "blob", "about") or parts.hostname == "127.0.0.1"
