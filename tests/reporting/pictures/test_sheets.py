"""Files of pictures: their format, and that the same picture is the same file."""

from __future__ import annotations

import xml.etree.ElementTree as ET

import matplotlib as mpl
import pytest

from brats_seg.errors import OutputError, UsageError
from brats_seg.reporting.pictures.sheets import STILL_SUFFIXES, THEMES, Sheet, save_figure, text_width_mm

FIRST_BYTES = {
    ".png": b"\x89PNG",
    ".svg": b"<?xml",
    ".pdf": b"%PDF",
    ".webp": b"RIFF",
    ".jpg": b"\xff\xd8\xff",
    ".jpeg": b"\xff\xd8\xff",
}


def sheet(text: str = "words") -> Sheet:
    one = Sheet(40, 20, THEMES["light"])
    one.text(2, 2, text)
    one.box(10, 10, 5, 5, "red")
    return one


@pytest.mark.parametrize("suffix", STILL_SUFFIXES)
def test_the_suffix_is_the_format_and_the_same_picture_is_the_same_file(tmp_path, suffix) -> None:
    for name in ("a", "b"):
        save_figure(sheet().figure, tmp_path / f"{name}{suffix}", dpi=50)
    content = (tmp_path / f"a{suffix}").read_bytes()
    assert content.startswith(FIRST_BYTES[suffix])
    assert content == (tmp_path / f"b{suffix}").read_bytes()


def test_places_are_millimetres_from_the_top_left(tmp_path) -> None:
    from PIL import Image

    save_figure(sheet("").figure, tmp_path / "a.png", dpi=254)  # ten pixels a millimetre
    picture = Image.open(tmp_path / "a.png")
    assert picture.size == (400, 200)
    red = [(x, y) for x in range(400) for y in range(200) if picture.getpixel((x, y))[:3] == (255, 0, 0)]
    assert (min(red), max(red)) == ((100, 100), (149, 149))


def test_text_of_an_svg_stays_text_that_no_browser_runs(tmp_path) -> None:
    name = 'a <script>alert("x")</script> & $y$ 脳'
    save_figure(sheet(name).figure, tmp_path / "a.svg")
    root = ET.parse(tmp_path / "a.svg").getroot()
    assert [element for element in root.iter() if element.tag.endswith("script")] == []
    assert name in ["".join(element.itertext()).strip() for element in root.iter() if element.tag.endswith("text")]


def test_settings_of_the_user_do_not_change_a_picture(tmp_path) -> None:
    save_figure(sheet().figure, tmp_path / "a.svg")
    with mpl.rc_context({"font.family": ["DejaVu Serif"], "svg.fonttype": "path", "savefig.facecolor": "green"}):
        save_figure(sheet().figure, tmp_path / "b.svg")
    assert (tmp_path / "a.svg").read_bytes() == (tmp_path / "b.svg").read_bytes()


def test_another_suffix_is_refused(tmp_path) -> None:
    with pytest.raises(UsageError, match=r"suffix '.bmp' is no format of a picture; expected .png, .svg"):
        save_figure(sheet().figure, tmp_path / "a.bmp")


def test_a_place_that_is_not_there_is_told_in_a_line(tmp_path) -> None:
    with pytest.raises(OutputError, match="cannot be written"):
        save_figure(sheet().figure, tmp_path / "gone" / "a.png")
    assert list(tmp_path.iterdir()) == []


def test_the_width_of_a_text_grows_with_its_letters_and_its_size() -> None:
    assert text_width_mm("", 7) == 0
    assert text_width_mm("mm", 14) == pytest.approx(2 * text_width_mm("mm", 7), rel=0.02)
    assert text_width_mm("iii", 7) < text_width_mm("mmm", 7)


def test_a_title_and_a_remark_share_the_heading_only_where_there_is_room() -> None:
    one = Sheet(60, 20, THEMES["dark"])
    one.heading("short", "remark")
    assert [text.get_text() for text in one.figure.texts] == ["short", "remark"]
    two = Sheet(60, 20, THEMES["dark"])
    two.heading("a name that is long enough to fill it", "remark")
    assert [text.get_text() for text in two.figure.texts] == ["a name that is long enough to fill it"]


def test_a_figure_shows_itself_in_a_notebook() -> None:
    assert sheet().figure._repr_png_().startswith(FIRST_BYTES[".png"])
