"""The viewer: a page in the browser that shows cases with their label maps, live from a server or saved as one file.

The page is `page/`, which draws with NiiVue (`niivue/`). What it asks for is answered from memory, by name; see
`Viewer.find`. Nothing here imports torch, and nothing is read before it is asked for.
"""

from __future__ import annotations

import base64
import gzip
import json
import math
import threading
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from brats_seg.errors import BratsSegError
from brats_seg.files import write_text
from brats_seg.reporting.viewer.serving import Content
from brats_seg.reporting.viewer.viewed import Viewed

if TYPE_CHECKING:
    from brats_seg.reporting.viewer.scenes import Scene

__all__ = ["Viewer", "niivue_source", "save_page"]

_HERE = Path(__file__).resolve().parent
_PAGE = _HERE / "page"
_STYLE = "viewer.css"
_SCRIPTS = ("labels.js", "scene.js", "panel.js", "main.js")
_NIIVUE = "niivue.js"
_SCENES_KEPT = 3
"""Cases whose voxels stay in memory, about 40 MB each: the one on the page and its neighbours."""
_MEDIA_TYPES = {
    ".html": "text/html; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".json": "application/json",
}


class Viewer:
    """Answers the page's questions about a list of cases; safe to call from several threads."""

    def __init__(self, viewed: Sequence[Viewed]) -> None:
        self.viewed = tuple(viewed)
        self._lock = threading.Lock()
        self._scene = lru_cache(maxsize=_SCENES_KEPT)(self._read)
        self._numbers: dict[int, dict[str, Any]] = {}

    def find(self, path: str) -> Content | None:
        """Return what a path is answered with; None where there is no such thing.

        `` (the page), `viewer.css`, its scripts and `niivue.js`; `cases.json`; and of case number N
        `cases/N/scene.json` and the files that this names.
        """
        if path == "":
            return _content("viewer.html", _html())
        if path in (_STYLE, *_SCRIPTS):
            return _content(path, (_PAGE / path).read_bytes())
        if path == _NIIVUE:
            return _content(path, niivue_source())
        if path == "cases.json":
            return _content(path, _json(self.list_of_cases()))
        parts = path.split("/")
        numbers = {str(number): number for number in range(len(self.viewed))}
        if len(parts) == 3 and parts[0] == "cases" and parts[1] in numbers:
            return self._find_of_case(numbers[parts[1]], parts[2])
        return None

    def _find_of_case(self, number: int, name: str) -> Content | None:
        if name == "scene.json":
            return _content(name, _json(self.description(number)))
        try:
            with self._lock:
                scene = self._scene(number)
                return _content(name, scene.file(name)) if name in scene.file_names() else None
        except BratsSegError:  # the page was told by scene.json
            return None

    def description(self, number: int) -> dict[str, Any]:
        """Return what the page is told of a case: its scene, or `error` in words."""
        try:
            with self._lock:
                return self._scene(number).description()
        except BratsSegError as error:
            return {"case": self.viewed[number].case.name, "error": str(error)}

    def list_of_cases(self) -> dict[str, Any]:
        """Return the cases with the numbers known so far; `pending` is how many are not scored yet."""
        rows = [
            {"number": number, "case": one.case.name, **self._numbers.get(number, {})}
            for number, one in enumerate(self.viewed)
        ]
        regions = list(self.viewed[0].edition.region_names)
        return {"cases": rows, "regions": regions, "pending": len(self.viewed) - len(self._numbers)}

    def score(self, number: int) -> None:
        """Read a case's label maps and note volumes and Dice for the list, or what is wrong with them."""
        from brats_seg.reporting.viewer.scenes import read_label_maps, region_numbers  # noqa: PLC0415 (slow to import)

        viewed = self.viewed[number]
        try:
            label_maps = read_label_maps(viewed)
        except BratsSegError as error:
            self._numbers[number] = {"error": str(error)}
            return
        rows = [row for row in region_numbers(viewed.edition, label_maps, 1.0) if row["is_region"]]
        scores = [row["dice"] for row in rows if row["dice"] is not None]
        mean = math.fsum(scores) / len(scores) if scores else None
        self._numbers[number] = {"dice": {row["name"]: row["dice"] for row in rows}, "mean": mean}

    def score_all(self) -> None:
        """Score every case, one after another; meant for a thread of its own."""
        for number in range(len(self.viewed)):
            self.score(number)

    def _read(self, number: int) -> Scene:
        from brats_seg.reporting.viewer.scenes import read_scene  # noqa: PLC0415

        return read_scene(self.viewed[number])


def niivue_source() -> bytes:
    """Return the JavaScript of NiiVue that comes with the package."""
    return gzip.decompress((_HERE / "niivue" / "niivue.umd.js.gz").read_bytes())


def save_page(viewed: Viewed, target: Path) -> int:
    """Write the viewer with one case in it as a single file that opens from disk; return its size in bytes.

    Raises:
        DataError: the case cannot be shown.
        OutputError: the file cannot be written.
    """
    from brats_seg.reporting.viewer.scenes import read_scene  # noqa: PLC0415

    scene = read_scene(viewed)
    files = {name: base64.b64encode(scene.file(name, is_compressed=True)).decode() for name in scene.file_names()}
    inline = {"scene": scene.description(), "files": files}
    text = _html().decode()
    style = (_PAGE / _STYLE).read_text(encoding="utf-8")
    text = text.replace(f'<link rel="stylesheet" href="{_STYLE}">', f"<style>\n{style}</style>")
    data = _json(inline).decode().replace("<", "\\u003c")  # no case name can end the element
    data = f'<script type="application/json" id="inline">{data}</script>\n'
    for name in (_NIIVUE, *_SCRIPTS):
        source = niivue_source() if name == _NIIVUE else (_PAGE / name).read_bytes()
        text = text.replace(f'<script src="{name}"></script>', f"{data}<script>\n{source.decode()}\n</script>")
        data = ""
    write_text(target, text)
    return target.stat().st_size


def _html() -> bytes:
    return (_PAGE / "viewer.html").read_bytes()


def _json(value: object) -> bytes:
    return json.dumps(value, ensure_ascii=False, allow_nan=False).encode()


def _content(name: str, body: bytes) -> Content:
    return Content(body, _MEDIA_TYPES.get(Path(name).suffix, "application/octet-stream"))
