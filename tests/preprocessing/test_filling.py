from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path

import pytest

from brats_seg.data.cases import Case, find_cases
from brats_seg.data.phantom import write_download
from brats_seg.errors import DataError, OutputError
from brats_seg.files import hash_of_json, read_json, write_json
from brats_seg.preprocessing.filling import Outcome, fill_store
from brats_seg.preprocessing.store import open_store


@pytest.fixture
def download(phantom_download: Path, tmp_path: Path) -> Path:
    """Two synthetic cases that a test may spoil."""
    for case in find_cases(phantom_download).cases[:2]:
        shutil.copytree(case.folder, tmp_path / "download" / case.name)
    return tmp_path / "download"


def _cases(download: Path) -> tuple[Case, ...]:
    return find_cases(download).cases


def _states(outcomes: Sequence[Outcome]) -> list[str]:
    return [outcome.state for outcome in outcomes]


def _change(path: Path, **fields: object) -> None:
    write_json(path, {**read_json(path), **fields})


def test_second_filling_keeps_what_is_there(download: Path, tmp_path: Path) -> None:
    store, cases = tmp_path / "store", _cases(download)
    assert _states(fill_store(cases[:1], store)) == ["made"]
    before = (store / cases[0].name / "image.npy").stat().st_mtime_ns
    ticks: list[int] = []
    assert _states(fill_store(cases, store, progress=lambda: ticks.append(1))) == ["kept", "made"]
    assert (store / cases[0].name / "image.npy").stat().st_mtime_ns == before
    assert len(ticks) == 2


def test_changed_source_is_prepared_anew(download: Path, tmp_path: Path) -> None:
    store, cases = tmp_path / "store", _cases(download)
    fill_store(cases, store)
    shutil.copy(cases[0].images["t1"].path, cases[0].images["t2"].path)
    assert _states(fill_store(cases, store)) == ["remade", "kept"]
    image = open_store(store).cases[0].image()
    assert (image[0] == image[2]).all()


def test_label_map_that_came_later_is_added(download: Path, tmp_path: Path) -> None:
    store, label = tmp_path / "store", _cases(download)[0].label
    assert label is not None
    label.rename(tmp_path / label.name)
    fill_store(_cases(download), store)
    assert [case.has_label for case in open_store(store).cases] == [False, True]
    shutil.move(tmp_path / label.name, label)
    assert _states(fill_store(_cases(download), store)) == ["remade", "kept"]
    assert open_store(store).cases[0].has_label


@pytest.mark.parametrize("field", ["settings_hash", "edition", "patient"])
def test_case_made_otherwise_is_prepared_anew(download: Path, tmp_path: Path, field: str) -> None:
    store, cases = tmp_path / "store", _cases(download)
    fill_store(cases, store)
    _change(store / cases[0].name / "case.json", **{field: "other"})
    assert _states(fill_store(cases, store)) == ["remade", "kept"]
    assert len(open_store(store).cases) == 2


def test_case_that_lost_a_file_is_prepared_anew(download: Path, tmp_path: Path) -> None:
    store, cases = tmp_path / "store", _cases(download)
    fill_store(cases, store)
    (store / cases[1].name / "label.npy").unlink()
    assert _states(fill_store(cases, store)) == ["kept", "remade"]


def test_overwrite_remakes_all(download: Path, tmp_path: Path) -> None:
    store, cases = tmp_path / "store", _cases(download)
    fill_store(cases, store)
    assert _states(fill_store(cases, store, overwrite=True)) == ["remade", "remade"]


def test_bad_case_does_not_stop_the_others(download: Path, tmp_path: Path) -> None:
    cases = _cases(download)
    cases[0].images["t1"].path.write_text("<html>")
    outcomes = fill_store(cases, tmp_path / "store")
    assert _states(outcomes) == ["failed", "made"]
    assert f"case {cases[0].name}: " in (outcomes[0].error or "")
    assert [case.name for case in open_store(tmp_path / "store").cases] == [cases[1].name]


def test_stale_case_that_cannot_be_remade_is_no_longer_offered(download: Path, tmp_path: Path) -> None:
    store, cases = tmp_path / "store", _cases(download)
    fill_store(cases, store)
    cases[0].images["t1"].path.write_text("<html>")
    assert _states(fill_store(cases, store)) == ["failed", "kept"]
    assert [case.name for case in open_store(store).cases] == [cases[1].name]


def test_processes_keep_what_is_there(download: Path, tmp_path: Path) -> None:
    store, cases = tmp_path / "store", _cases(download)
    fill_store(cases, store)
    assert _states(fill_store(cases, store, jobs=2)) == ["kept", "kept"]


@pytest.mark.slow
def test_processes_make_the_same_bytes_as_one(download: Path, tmp_path: Path) -> None:
    cases = _cases(download)
    for jobs in (1, 2):
        fill_store(cases, tmp_path / str(jobs), jobs=jobs)
    for name in ("image.npy", "label.npy", "foreground.npy", "case.json"):
        for case in cases:
            one, two = ((tmp_path / str(jobs) / case.name / name).read_bytes() for jobs in (1, 2))
            assert one == two


def test_editions_that_share_regions_share_a_store(download: Path, tmp_path: Path) -> None:
    write_download(tmp_path / "later", 1, shape=(24, 32, 32), edition="brats2023-gli")
    store = tmp_path / "store"
    fill_store(_cases(download), store)
    fill_store(_cases(tmp_path / "later"), store)
    assert open_store(store).editions == ("brats2020", "brats2023-gli")
    assert read_json(store / "store.json")["editions"] == ["brats2020", "brats2023-gli"]


def test_edition_of_other_modalities_is_refused(download: Path, tmp_path: Path) -> None:
    write_download(tmp_path / "rt", 1, shape=(24, 32, 32), edition="brats2024-men-rt")
    rt, store = _cases(tmp_path / "rt"), tmp_path / "store"
    fill_store(_cases(download), store)
    with pytest.raises(
        OutputError, match=r"a store made with other settings \(modalities \['t1', 't1c', 't2', 'flair'\]"
    ):
        fill_store(rt, store)
    with pytest.raises(DataError, match="modalities or regions differ; prepare each into a store of its own"):
        fill_store([*_cases(download), *rt], tmp_path / "both")


def test_store_of_other_settings_is_refused_or_cleared(download: Path, tmp_path: Path) -> None:
    store, cases = tmp_path / "store", _cases(download)
    fill_store(cases, store)
    settings = {**read_json(store / "store.json")["settings"], "foreground_voxels": 7}
    _change(store / "store.json", settings=settings, settings_hash=hash_of_json(settings))
    with pytest.raises(
        OutputError, match=r"other settings \(foreground_voxels 7, now 10000\); choose another folder, or"
    ):
        fill_store(cases, store)
    assert _states(fill_store(cases[:1], store, overwrite=True)) == ["made"]
    assert [case.name for case in open_store(store).cases] == [cases[0].name]


def test_folder_of_something_else_is_left_alone(download: Path, tmp_path: Path) -> None:
    (tmp_path / "store").mkdir()
    (tmp_path / "store" / "thesis.tex").touch()
    with pytest.raises(OutputError, match=r"not a store, and not empty \(found thesis\.tex\)"):
        fill_store(_cases(download), tmp_path / "store", overwrite=True)


def test_no_cases_are_an_error(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no cases to prepare"):
        fill_store([], tmp_path / "store")
    assert not (tmp_path / "store").exists()


def test_full_disk_stops_the_work_and_keeps_what_is_complete(
    download: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store, cases = tmp_path / "store", _cases(download)
    fill_store(cases[:1], store)

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("brats_seg.preprocessing.prepare.np.save", full)
    with pytest.raises(OutputError, match="No space left on device"):
        fill_store(cases, store)
    assert [case.name for case in open_store(store).cases] == [cases[0].name]
