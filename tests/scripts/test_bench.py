from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

SIDE = """
import sys, time
sys.path.insert(0, {folder!r})
import measure
def call(value):
    print("a library's chatter")
    time.sleep(0.01)
    return {{"twice": 2 * value}}
measure.serve(call)
"""

TURNS = """
import sys
sys.path.insert(0, {folder!r})
import measure
sides = [measure.Side(name, [sys.executable, {script!r}], threads=1) for name in ("ours", "monai")]
turns = measure.in_turns(sides, 2, lambda side, number: {{"value": number}})
for side in sides:
    side.close()
rows = [measure.row(name, its) for name, its in turns.items()]
answers = {{name: [turn.answer["twice"] for turn in its] for name, its in turns.items()}}
from pathlib import Path
measure.report("test", rows, ratios={{"monai": 5.678}}, figures=answers, conditions={{}}, target=Path({target!r}))
"""


def test_sides_take_turns_and_the_last_line_is_json(repository: Path, tmp_path: Path) -> None:
    folder, script, target = str(repository / "scripts" / "bench"), tmp_path / "side.py", tmp_path / "out.json"
    script.write_text(SIDE.format(folder=folder), encoding="utf-8")
    code = TURNS.format(folder=folder, script=str(script), target=str(target))
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    last = json.loads(done.stdout.splitlines()[-1])
    assert last == {"bench": "test", "ratios": {"monai": 5.68}, "figures": {"ours": [2, 4], "monai": [2, 4]}}
    written = json.loads(target.read_text(encoding="utf-8"))
    assert {"machine", "conditions", "rows"} <= set(written)
    assert written["rows"][0]["rounds"] == 2
    assert written["rows"][0]["median_ms"] >= 10
    assert "AMX" in done.stdout


def test_peers_script_refuses_a_name_that_it_does_not_know(repository: Path) -> None:
    script = repository / "scripts" / "bench" / "peers.sh"
    done = subprocess.run(["bash", str(script), "monia"], capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert "no peer 'monia' (known: monai, medpy, nnunet)" in done.stderr


@pytest.mark.slow
def test_prepare_is_measured_alone_where_no_peer_is(
    repository: Path, phantom_download: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("BRATS_SEG_PEERS", str(tmp_path / "none"))
    script, target = repository / "scripts" / "bench" / "bench_prepare.py", tmp_path / "out.json"
    words = [sys.executable, str(script), "--data", str(phantom_download), "--quick", "--json", str(target)]
    done = subprocess.run(words, capture_output=True, text=True, check=True)
    assert "monai: not measured; make its environment with" in done.stdout
    last = json.loads(done.stdout.splitlines()[-1])
    assert last["bench"] == "prepare"
    assert last["ratios"] == {}
    assert last["figures"]["ours_ms"] > 0


@pytest.mark.slow
def test_training_is_measured_alone_where_no_peer_is(
    repository: Path, phantom_store: Path, tiny_recipe: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("BRATS_SEG_PEERS", str(tmp_path / "none"))
    script, target = repository / "scripts" / "bench" / "bench_train.py", tmp_path / "out.json"
    words = [sys.executable, str(script), "--store", str(phantom_store), "--recipe", str(tiny_recipe), "--quick"]
    words += ["--samples", "3", "--threads", "1", "--json", str(target), "train.batch=4"]
    done = subprocess.run(words, capture_output=True, text=True, check=True)
    assert "nnunet: not measured; make its environment with" in done.stdout
    last = json.loads(done.stdout.splitlines()[-1])
    assert last["bench"] == "train"
    assert last["ratios"] == {}
    assert last["figures"]["patches_per_s"] > 0
    assert last["figures"]["sample_ours_ms"] > 0
    written = json.loads(target.read_text(encoding="utf-8"))
    assert [row["what"] for row in written["rows"]] == ["loop", "dummy", "sample, ours"]
    assert written["conditions"]["tflop_a_patch"] > 0


@pytest.mark.slow
def test_prediction_is_measured_alone_where_no_peer_is(
    repository: Path, phantom_download: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("BRATS_SEG_PEERS", str(tmp_path / "none"))
    script, target = repository / "scripts" / "bench" / "bench_predict.py", tmp_path / "out.json"
    words = [sys.executable, str(script), "--data", str(phantom_download), "--recipe", "demo", "--quick"]
    words += ["--rounds", "1", "--threads", "1", "--folder", "2", "--json", str(target)]
    done = subprocess.run(words, capture_output=True, text=True, check=True)
    assert "nnunet: not measured; make its environment with" in done.stdout
    last = json.loads(done.stdout.splitlines()[-1])
    assert last["bench"] == "predict"
    assert last["ratios"] == {}
    figures = last["figures"]
    parts = [figures[f"cpu_small_{part}_s"] for part in ("read", "prepare", "network", "paste", "write")]
    assert sum(parts) == pytest.approx(figures["cpu_small_s"], abs=0.1)
    assert figures["cpu_small_peak_mb"] > 100
    assert figures["folder_case_s"] > 0


@pytest.mark.slow
def test_ways_to_place_windows_are_compared_with_the_first(
    repository: Path, phantom_store: Path, tiny_run: Path, tmp_path: Path
) -> None:
    script, target = repository / "scripts" / "bench" / "windows_table.py", tmp_path / "out.json"
    words = [sys.executable, str(script), "--store", str(phantom_store), "--runs", str(tiny_run), "--cases", "1"]
    words += ["--threads", "1", "--json", str(target), "--set", "inference.threshold=0.3"]
    subprocess.run(words, capture_output=True, text=True, check=True)
    written = json.loads(target.read_text(encoding="utf-8"))
    ways = {row["what"]: row for row in written["rows"]}
    assert list(ways) == ["patch .5", "patch .25", "1.5 x patch", "one pass", "tutorial", "patch .5, bf16"]
    assert ways["one pass"]["windows"] == 1 < ways["patch .25"]["windows"] < ways["patch .5"]["windows"]
    assert ways["patch .5"]["to first"] == 0
    assert abs(ways["patch .5, bf16"]["to first"]) < 0.02
