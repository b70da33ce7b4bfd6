"""Reports of synthetic cases: what is in the page, what lies beside it, and what happens when things are missing."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path

import pytest

from brats_seg.errors import DataError, OutputError
from brats_seg.evaluation.folders import evaluate_folder
from brats_seg.evaluation.protocols import get_protocol
from brats_seg.evaluation.saved import read_evaluation
from brats_seg.evaluation.summary import statistics_of
from brats_seg.files import hash_of_file
from brats_seg.reporting.html.page import rules_in_words
from brats_seg.reporting.html.report import write_report

Write = Callable[..., Path]
DICE = {"a": (0.1, 0.2, 0.3), "b": (0.4, 0.5, 0.6), "c": (0.7, 0.8, 0.9)}


class Page(HTMLParser):
    """The texts of a page's table cells, its links and headings, and its sources."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.words: list[str] = []
        self.links: list[str] = []
        self.tags: list[str] = []
        self.sources: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        for name, value in attributes:
            if name in ("href", "src"):
                (self.links if tag == "a" else self.sources).append(value or "")

    def handle_data(self, data: str) -> None:
        self.words += [data.strip()] if data.strip() else []

    @property
    def text(self) -> str:
        return " ".join(self.words)


@pytest.fixture(scope="module")
def report(phantom_evaluation: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The report of the six synthetic cases, with pictures."""
    written = write_report([phantom_evaluation], tmp_path_factory.mktemp("report") / "report.html")
    assert (written.num_cases, written.num_pictures, written.notes) == (6, 6, ())
    return written.path


def test_the_page_asks_nobody_for_anything(report: Path) -> None:
    page = Page(report.read_text(encoding="utf-8"))
    assert all(source.startswith(("data:", "#")) for source in page.sources)
    assert all(link.startswith("#") for link in page.links)
    assert not re.search(r"(https?:)?//(?!www\.w3\.org)[a-z]+\.", report.read_text(encoding="utf-8"))


def test_the_header_names_model_data_protocol_and_rules(report: Path, phantom_evaluation: Path) -> None:
    text = Page(report.read_text(encoding="utf-8")).text
    assert "6 cases, edition brats2020" in text
    assert "brats2020: BraTS 2017-2021 portal" in text
    assert "only in the prediction: Dice 0, HD95 the grid's diagonal" in text
    assert f"predictions in {phantom_evaluation.parent / 'predictions'}" in text
    assert "Not a medical device" in text
    assert "hd95_mm is in voxels" in text.lower()  # the evaluation's own warning


def test_the_summary_has_the_statistics_of_the_evaluation(report: Path, phantom_evaluation: Path) -> None:
    one = read_evaluation(phantom_evaluation)
    of = statistics_of(one.columns["dice"][:, 0])
    words = Page(report.read_text(encoding="utf-8")).words
    start = words.index("Dice", words.index("Summary", 20))
    for name in ("mean", "sd", "median"):
        assert f"{of[name]:.3f}" in words[start:]
    assert f"{of['ci95_low']:.3f}\N{EN DASH}{of['ci95_high']:.3f}" in words[start:]


def test_missed_and_invented_regions_are_counted_and_listed(report: Path) -> None:
    words = Page(report.read_text(encoding="utf-8")).words
    start = words.index("Missed and invented regions")
    assert words[start : start + 12].count("missed") == 1  # ET of case 1; what was invented in case 2 has a reference
    assert "missed in 1 of" in " ".join(words)


def test_the_worst_cases_have_pictures_and_the_table_links_to_them(report: Path) -> None:
    page = Page(report.read_text(encoding="utf-8"))
    assert page.tags.count("article") == 6
    assert report.read_text(encoding="utf-8").count('class="pic"') == 6
    assert {f"#worst-{n}" for n in range(6)} <= set(page.links)


def test_how_it_was_made_names_command_versions_and_hashes(report: Path, phantom_evaluation: Path) -> None:
    text = Page(report.read_text(encoding="utf-8")).text
    assert hash_of_file(phantom_evaluation / "cases.csv") in text
    record = json.loads((phantom_evaluation / "run.json").read_text())
    assert f"numpy {record['versions']['numpy']}" in text


def test_the_report_is_small(report: Path) -> None:
    assert report.stat().st_size < 600_000


def test_a_report_there_already_is_kept_unless_it_is_to_be_replaced(report: Path, phantom_evaluation: Path) -> None:
    with pytest.raises(OutputError, match="is there already; choose another --out, or replace it with --overwrite"):
        write_report([phantom_evaluation], report, num_cases=0)
    before = report.read_bytes()
    copy = report.with_name("copy.html")
    shutil.copy(report, copy)
    write_report([phantom_evaluation], copy, num_cases=0, overwrite=True)
    assert copy.read_bytes() != before


def test_without_images_there_are_numbers_and_the_reason(tmp_path: Path, write_evaluation: Write) -> None:
    written = write_report([write_evaluation(tmp_path / "ev", DICE)])
    assert written.path == tmp_path / "ev" / "report.html"
    (note,) = written.notes
    assert note == ("No pictures: the evaluation names no images; name a download that has the images with --data.")
    page = Page(written.path.read_text(encoding="utf-8"))
    assert note in page.words
    assert page.tags.count("article") == 3


def test_images_that_are_gone_are_named(tmp_path: Path, write_evaluation: Write) -> None:
    folder = write_evaluation(tmp_path / "ev", DICE)
    (folder / "run.json").write_text(json.dumps({"images": str(tmp_path / "gone")}))
    assert f"{tmp_path / 'gone'} is not there" in write_report([folder]).notes[0]


def test_data_that_is_no_download_is_refused(tmp_path: Path, write_evaluation: Write) -> None:
    folder = write_evaluation(tmp_path / "ev", DICE)
    (tmp_path / "data").mkdir()
    with pytest.raises(DataError, match="is empty"):
        write_report([folder], data=tmp_path / "data")


def test_data_without_these_cases_gives_a_report_that_says_so(
    tmp_path: Path, write_evaluation: Write, phantom_download: Path, phantom_evaluation: Path
) -> None:
    folder = write_evaluation(tmp_path / "ev", DICE)
    (folder / "run.json").write_text(json.dumps({"prediction": str(phantom_evaluation.parent / "predictions")}))
    written = write_report([folder], data=phantom_download)
    assert written.num_pictures == 0
    assert written.notes[0].startswith("No picture of 3 of 3 cases (a, ")


def test_predictions_that_are_gone_are_named(tmp_path: Path, write_evaluation: Write, phantom_download: Path) -> None:
    written = write_report([write_evaluation(tmp_path / "ev", DICE)], data=phantom_download)
    assert "the predictions of ev are not where the evaluation found them" in written.notes[0]


def copy_with_predictions(evaluation: Path, folder: Path) -> tuple[Path, list[Path]]:
    """Copy an evaluation and its predictions, which it then names; return both, the predictions sorted."""
    predictions = folder / "predictions"
    shutil.copytree(evaluation.parent / "predictions", predictions)
    shutil.copytree(evaluation, folder / "evaluation")
    path = folder / "evaluation" / "run.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "prediction": str(predictions)}))
    return folder / "evaluation", sorted(predictions.iterdir())


def test_a_prediction_that_changed_since_has_no_picture(tmp_path: Path, phantom_evaluation: Path) -> None:
    folder, predictions = copy_with_predictions(phantom_evaluation, tmp_path)
    shutil.copy(predictions[1], predictions[0])
    written = write_report([folder])
    assert written.num_pictures == 5
    assert "when it was evaluated; evaluate again" in written.notes[0]
    assert "evaluate again" in Page(written.path.read_text(encoding="utf-8")).text


def test_a_prediction_that_is_gone_has_no_picture(tmp_path: Path, phantom_evaluation: Path) -> None:
    folder, predictions = copy_with_predictions(phantom_evaluation, tmp_path)
    predictions[0].unlink()
    written = write_report([folder])
    assert written.num_pictures == 5
    assert written.notes[0].startswith("No picture of 1 of 6 cases (BraTS20_Training_001)")


def test_a_case_that_had_no_prediction_is_told_and_shown_as_missed(
    tmp_path: Path, phantom_download: Path, phantom_evaluation: Path
) -> None:
    _, predictions = copy_with_predictions(phantom_evaluation, tmp_path)
    predictions[3].unlink()
    out = tmp_path / "failures"
    evaluate_folder(phantom_download, predictions[0].parent, out, protocol="plain", missing="score-as-failure")
    written = write_report([out])
    assert (written.num_pictures, written.notes) == (6, ())
    text = Page(written.path.read_text(encoding="utf-8")).text
    assert "No prediction, scored as failures: BraTS20_Training_004." in text


def test_pictures_of_further_cases_lie_beside_the_page(
    tmp_path: Path, phantom_evaluation: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("brats_seg.reporting.html.report.NUM_PICTURES", 2)
    written = write_report([phantom_evaluation], tmp_path / "r #1 ä.html", num_cases=5)
    files = sorted(path.name for path in (tmp_path / "r #1 ä_pictures").iterdir())
    assert len(files) == 3
    page = Page(written.path.read_text(encoding="utf-8"))
    assert {f"r%20%231%20%C3%A4_pictures/{name}" for name in files} <= set(page.links)
    assert page.tags.count("article") == 2
    assert (tmp_path / "r #1 ä_pictures" / files[0]).read_text(encoding="utf-8").startswith("<svg ")


def test_pictures_that_would_make_the_page_too_large_lie_beside_it(
    tmp_path: Path, phantom_evaluation: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("brats_seg.reporting.html.report._MOST_BYTES", 1)
    written = write_report([phantom_evaluation], tmp_path / "r.html")
    assert len(list((tmp_path / "r_pictures").iterdir())) == 6
    text = written.path.read_text(encoding="utf-8")
    assert 'class="pic"' not in text
    assert text.count("Picture in its own file") == 6


def test_a_selection_of_cases_is_all_that_is_reported(tmp_path: Path, phantom_evaluation: Path) -> None:
    known = read_evaluation(phantom_evaluation).cases
    written = write_report([phantom_evaluation], tmp_path / "r.html", select=lambda _: [known[3]], num_cases=0)
    text = written.path.read_text(encoding="utf-8")
    assert known[3] in text
    assert text.count('id="case-') == 1


@pytest.mark.parametrize("protocol", ["brats2020", "brats2023", "brats2024", "instance", "plain"])
def test_every_protocol_has_a_report(tmp_path: Path, write_evaluation: Write, protocol: str) -> None:
    nan = float("nan")
    dice = {**DICE, "undefined": (nan, nan, nan)}
    folder = write_evaluation(tmp_path / "ev", dice, protocol=protocol, assd_mm=float("inf"))
    text = Page(write_report([folder]).path.read_text(encoding="utf-8")).text
    assert get_protocol(protocol).title.split(";")[0] in text
    assert ("lesions found" in text) == ("num_tp" in get_protocol(protocol).columns)


def test_regions_may_be_any(tmp_path: Path, write_evaluation: Write) -> None:
    folder = write_evaluation(
        tmp_path / "ev", {"a": (0.5,), "b": (0.7,)}, protocol="brats2024", regions=("GTV",), edition="brats2024-men-rt"
    )
    page = Page(write_report([folder]).path.read_text(encoding="utf-8"))
    assert "GTV" in page.words
    assert "ET" not in page.words


def test_one_case_is_enough(tmp_path: Path, write_evaluation: Write) -> None:
    text = Page(write_report([write_evaluation(tmp_path / "ev", {"a": (0.5, 0.6, 0.7)})]).path.read_text()).text
    assert "1 case, edition" in text


def test_two_evaluations_stand_side_by_side(tmp_path: Path, write_evaluation: Write) -> None:
    better = {case: tuple(value + 0.05 for value in values) for case, values in DICE.items()}
    folders = [write_evaluation(tmp_path / "x", DICE), write_evaluation(tmp_path / "y", better)]
    page = Page(write_report(folders, tmp_path / "both.html").path.read_text(encoding="utf-8"))
    assert "Ranking" in page.words
    assert "B \N{MINUS SIGN} A" in page.words
    assert "0.0500" in page.words
    assert "Dice A" in page.words
    assert "Dice B" in page.words


def test_evaluations_of_other_cases_or_protocols_are_refused(tmp_path: Path, write_evaluation: Write) -> None:
    first = write_evaluation(tmp_path / "x", DICE)
    other = write_evaluation(tmp_path / "y", {"a": (0.1, 0.2, 0.3)})
    with pytest.raises(DataError, match="cases differ: y lacks b, c"):
        write_report([first, other], tmp_path / "both.html")
    plain = write_evaluation(tmp_path / "z", DICE, protocol="plain")
    with pytest.raises(DataError, match="protocols differ"):
        write_report([first, plain], tmp_path / "both.html")
    assert not (tmp_path / "both.html").exists()


BAD_NAMES = ('<script>alert("x")</script>', "a b", "quote\"s and 'others'", "größe-Ω", "a,b", "</script>")


def test_names_of_cases_cannot_break_out(tmp_path: Path, write_evaluation: Write) -> None:
    folder = write_evaluation(tmp_path / "<b>ev & 'x'", dict.fromkeys(BAD_NAMES, (0.1, 0.2, 0.3)))
    text = write_report([folder]).path.read_text(encoding="utf-8")
    page = Page(text)
    assert page.tags.count("script") == 2
    assert set(BAD_NAMES) <= set(page.words)
    names = json.loads(re.search(r'id="names">(.*?)</script>', text, re.DOTALL).group(1))  # type: ignore[union-attr]
    assert {name.split(" · ")[0] for name in names} == set(BAD_NAMES)


def test_rules_say_what_an_empty_region_costs() -> None:
    (text,) = rules_in_words(get_protocol("plain"))
    assert text == (
        "Region in neither: Dice undefined, HD95 undefined; only in the prediction: Dice 0, HD95 undefined; "
        "only in the reference: Dice 0, HD95 undefined; no prediction at all: Dice 0, HD95 undefined."
    )
