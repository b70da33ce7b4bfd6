"""Pictures of cases: outlines along voxel edges, everything labelled, safe whatever names are."""

from __future__ import annotations

import base64
import io
import re
import xml.etree.ElementTree as ET
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy.typing import NDArray
from PIL import Image

from brats_seg.data.cases import find_cases
from brats_seg.reporting.html.case_pictures import CasePicture, draw_case, outline_of_mask, standalone
from brats_seg.reporting.html.case_slices import CaseFiles


def test_the_outline_of_one_pixel_is_its_square() -> None:
    mask = np.zeros((3, 4), bool)
    mask[1, 2] = True
    assert outline_of_mask(mask) == "M2 1h1v1h-1z"


def test_straight_edges_are_one_stroke() -> None:
    assert outline_of_mask(np.ones((2, 5), bool)) == "M0 0h5v2h-5z"


def test_an_empty_mask_has_no_outline() -> None:
    assert outline_of_mask(np.zeros((3, 3), bool)) == ""


def test_a_hole_is_a_loop_of_its_own() -> None:
    mask = np.ones((3, 3), bool)
    mask[1, 1] = False
    assert outline_of_mask(mask).count("M") == 2


def filled(path: str, shape: tuple[int, int]) -> NDArray[np.bool_]:
    """Fill path data by the even-odd rule: a pixel is inside if an odd number of upright edges lie left of it."""
    inside = np.zeros(shape, bool)
    for loop in re.findall(r"M(\d+) (\d+)([^M]*)z", path):
        x, y = start = int(loop[0]), int(loop[1])
        steps = [(letter, int(size)) for letter, size in re.findall(r"([hv])(-?\d+)", loop[2])]
        for letter, size in steps:
            if letter == "v":
                inside[min(y, y + size) : max(y, y + size), x:] ^= True
            x, y = (x + size, y) if letter == "h" else (x, y + size)
        if x == start[0]:  # the stroke that z draws is upright
            inside[min(y, start[1]) : max(y, start[1]), x:] ^= True
    return inside


@given(arrays(bool, st.tuples(st.integers(1, 9), st.integers(1, 9))))
def test_an_outline_filled_is_the_mask(mask: NDArray[np.bool_]) -> None:
    assert np.array_equal(filled(outline_of_mask(mask), mask.shape), mask)


@pytest.fixture(scope="module")
def files(phantom_download: Path, phantom_evaluation: Path) -> CaseFiles:
    """The files of a synthetic case with a faulty prediction."""
    case = find_cases(phantom_download).cases[0]
    images = {modality: (image.path, image.channel) for modality, image in case.images.items()}
    assert case.label is not None
    prediction = phantom_evaluation.parent / "predictions" / f"{case.name}.nii.gz"
    return CaseFiles(case.name, case.edition, images, case.label, (prediction,), "TC")


@pytest.fixture(scope="module")
def picture(files: CaseFiles) -> CasePicture:
    """Its picture."""
    return draw_case(files)[0]


def test_a_picture_shows_three_planes_of_every_modality_and_the_faults(picture: CasePicture) -> None:
    root = ET.fromstring(picture.svg)
    panels = [one for one in root if one.tag == "svg"]
    assert len(panels) == 3 * 5
    texts = [one.text for one in root.iter("text")]
    assert texts.count("R") == 2
    for words in ("T1", "T1c", "T2", "FLAIR", "missed", "false", "front"):
        assert words in texts
    assert sum(bool(re.fullmatch(r"(axial|coronal|sagittal) \d+ of \d+", words or "")) for words in texts) == 3
    assert any(re.fullmatch(r"\d+ mm", words or "") for words in texts)


def test_images_are_grey_webp_of_the_brain(picture: CasePicture) -> None:
    found = re.findall(r"data:image/webp;base64,([^\"]+)", picture.svg)
    assert len(found) == 3 * 4
    image = Image.open(io.BytesIO(base64.b64decode(found[0])))
    assert image.format == "WEBP"
    assert np.asarray(image).max() > 150


def test_the_chosen_region_is_shown_first_and_others_are_there(picture: CasePicture) -> None:
    root = ET.fromstring(picture.svg)
    assert root.attrib["data-r"] == "1"
    groups = {one.attrib["class"] for one in root.iter("g") if "class" in one.attrib}
    assert {"r0", "r1", "r2"} <= groups


def test_scale_bars_have_the_length_that_they_name(picture: CasePicture) -> None:
    root = ET.fromstring(picture.svg)
    panel = next(one for one in root if one.tag == "svg")
    zoom = float(panel.attrib["viewBox"].split()[2]) / float(panel.attrib["data-z"].split()[2])
    for css, factor in (("full", 1.0), ("near", zoom)):
        group = next(one for one in root if one.attrib.get("class") == css)
        assert float(str(group[1].text).removesuffix(" mm")) * factor <= float(panel.attrib["width"]) / 3
        x, end = map(float, re.match(r"M(\S+) \S+H(\S+)", group[0].attrib["d"]).groups())  # type: ignore[union-attr]
        assert (end - x) / factor == pytest.approx(float(str(group[1].text).removesuffix(" mm")), abs=0.5)


def test_names_of_cases_cannot_break_out(files: CaseFiles) -> None:
    bad = '"><script>alert("ä")</script>'
    (own,) = draw_case(CaseFiles(bad, files.edition, files.images, files.reference, files.predictions, "ET"))
    assert "<script>" not in own.svg
    root = ET.fromstring(standalone(own, bad))
    assert root.find("{http://www.w3.org/2000/svg}title").text == bad  # type: ignore[union-attr]


def test_a_missing_modality_leaves_a_panel_that_says_so(files: CaseFiles) -> None:
    images = {name: path for name, path in files.images.items() if name == "t2"}
    (own,) = draw_case(CaseFiles(files.case, files.edition, images, files.reference, files.predictions, "WT"))
    assert own.svg.count("not there") == 9
    assert own.notes == ("no t1 image", "no t1c image", "no flair image")


def test_what_cannot_be_drawn_is_told_in_place_of_a_picture(files: CaseFiles, tmp_path: Path) -> None:
    (tmp_path / "x.nii.gz").write_text("<html>")
    broken = CaseFiles(files.case, files.edition, files.images, files.reference, (tmp_path / "x.nii.gz",), "WT")
    (own,) = draw_case(broken)
    assert own.svg == ""
    assert "not a NIfTI file" in own.notes[0]
    (bare,) = draw_case(CaseFiles(files.case, files.edition, {}, files.reference, files.predictions, "WT"))
    assert bare.svg == ""
    assert bare.notes[0] == "no image could be read"


def test_several_predictions_share_their_planes(files: CaseFiles) -> None:
    pair = draw_case(
        CaseFiles(files.case, files.edition, files.images, files.reference, (files.reference, *files.predictions), "TC")
    )
    places = [re.findall(r"axial \d+ of|coronal \d+ of|sagittal \d+ of", own.svg) for own in pair]
    assert places[0] == places[1]
    assert pair[0].missed_ml == (0.0, 0.0, 0.0)
    assert pair[1].missed_ml[1] > 0
    ids = [set(re.findall(r' id="([^"]+)"', own.svg)) for own in pair]
    assert not ids[0] & ids[1]
