"""Several processes: the same training as one alone, told and written once."""

from __future__ import annotations

import csv
import importlib.util
import json
import os
import re
import socket
import subprocess
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from brats_seg import cli
from brats_seg.errors import ConfigError, DeviceError, UsageError
from brats_seg.training.distributed import ALONE, Processes, processes_of_environment

SCRIPT = Path(__file__).with_name("two_processes.py")
REPOSITORY = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def script() -> ModuleType:
    spec = importlib.util.spec_from_file_location("two_processes", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def together(
    tmp_path_factory: pytest.TempPathFactory, phantom_store: Path, tiny_recipe: Path
) -> tuple[Path, list[dict[str, Any]]]:
    """The folder and the results of two processes that have run `two_processes.py`."""
    out = tmp_path_factory.mktemp("together")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    shared = {**os.environ, "WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    call = [sys.executable, "-W", "error", str(SCRIPT), str(phantom_store), str(tiny_recipe), str(out)]
    processes = [
        subprocess.Popen(call, env={**shared, "RANK": rank, "LOCAL_RANK": rank}, cwd=REPOSITORY) for rank in ("0", "1")
    ]
    assert [process.wait(timeout=300) for process in processes] == [0, 0]
    return out, [json.loads((out / f"{rank}.json").read_text()) for rank in (0, 1)]


Together = tuple[Path, list[dict[str, Any]]]


@pytest.mark.parametrize("name", ["plain", "slices", "heads in parts"])
def test_two_processes_with_half_the_batch_have_the_losses_and_scores_of_one(
    name: str, together: Together, script: ModuleType, phantom_store: Path, tiny_recipe: Path, tmp_path: Path
) -> None:
    alone = script.trained(phantom_store, tiny_recipe, tmp_path, name)
    for results in together[1]:
        assert [step for step, _ in results[name]["losses"]] == [step for step, _ in alone["losses"]]
        for (step, loss), (_, expected) in zip(results[name]["losses"], alone["losses"], strict=True):
            assert loss == pytest.approx(expected, abs=1e-5), step
        assert [step for step, _ in results[name]["scores"]] == [step for step, _ in alone["scores"]]
        for (_, scores), (_, expected) in zip(results[name]["scores"], alone["scores"], strict=True):
            assert scores == pytest.approx(expected, abs=1e-3)


def test_both_processes_know_the_same_numbers(together: Together) -> None:
    first, second = together[1]
    assert first["plain"] == second["plain"]
    assert first["mean"] == second["mean"] == 0.5
    for results in (first, second):
        assert [one["text"] for one in results["gathered"]] == ["x", "x" * 10]
        assert all(one["none"] != one["none"] for one in results["gathered"])


def test_gradient_of_a_sum_is_that_of_all_losses_it_goes_into(together: Together) -> None:
    # Parts 1 and 2; each process's loss is (1 + 2)^2, so both together change by 2 x 2 x 3 with either part.
    assert [results["gradient"] for results in together[1]] == [12.0, 12.0]


def test_metrics_and_weights_are_written_once(together: Together) -> None:
    steps = [row.split(",")[0] for row in (together[0] / "plain" / "metrics.csv").read_text().splitlines()]
    assert steps == ["step", "1", "2", "4", "6"]


def test_two_processes_resume_to_the_bit(together: Together) -> None:
    out, results = together
    assert [one["resumed"] for one in results] == [True, True]
    for name in ("model.safetensors", "last.safetensors"):
        assert (out / "resumed" / name).read_bytes() == (out / "plain" / name).read_bytes()


def test_processes_that_find_different_states_are_refused(together: Together) -> None:
    for (own, other), results in zip(((0, 10), (10, 0)), together[1], strict=True):
        expected = (
            rf"process \d found the state of step {own}, others found \[{other}\]; put the run's folder on a disk"
        )
        assert re.search(expected, results["steps"])


def test_batch_norm_on_several_cpus_is_refused(together: Together) -> None:
    assert all("batch norm over 2 processes needs GPUs" in one["batch norm"] for one in together[1])


def test_every_sample_belongs_to_one_process_and_its_part() -> None:
    assert [Processes(2, rank).samples(8, 2) for rank in (0, 1)] == [[0, 1, 4, 5], [2, 3, 6, 7]]
    assert ALONE.samples(4, 2) == [0, 1, 2, 3]


@pytest.mark.parametrize(
    ("count", "batch", "parts", "message"),
    [
        (2, 3, 1, r"train\.batch=3 cannot be divided among 2 processes; use train\.batch=2 or 4"),
        (4, 2, 1, r"train\.batch=2 cannot be divided among 4 processes; use train\.batch=4, or another"),
        (2, 6, 2, r"train\.batch=6 in 2 parts \(train\.accumulate\) cannot .* use train\.batch=4 or 8"),
    ],
)
def test_batch_that_cannot_be_divided_is_refused_with_the_nearest(
    count: int, batch: int, parts: int, message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        Processes(count).samples(batch, parts)


def test_every_case_is_validated_by_one_process() -> None:
    shares = [Processes(3, rank).share("abcde") for rank in range(3)]
    assert shares == ["ad", "be", "c"]


def test_each_process_takes_the_gpu_of_its_number(monkeypatch: pytest.MonkeyPatch) -> None:
    third = Processes(4, 3, local_rank=1)
    assert third.device("cuda") == "cuda:1"
    assert third.device("cpu") == "cpu"
    for there, expected in ((True, "cuda:1"), (False, "cpu")):
        monkeypatch.setattr("torch.cuda.is_available", lambda there=there: there)
        assert third.device("auto") == expected
    with pytest.raises(DeviceError, match=r"'cuda:0' of 4 processes: each takes its own GPU"):
        third.device("cuda:0")
    assert ALONE.device("cuda:0") == "cuda:0"


def test_environment_of_torchrun_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    assert processes_of_environment() == ALONE
    monkeypatch.setenv("WORLD_SIZE", "8")
    monkeypatch.setenv("RANK", "5")
    with pytest.raises(UsageError, match=r"LOCAL_RANK, MASTER_ADDR, MASTER_PORT not set; start them with torchrun"):
        processes_of_environment()
    for name, value in (("LOCAL_RANK", "1"), ("MASTER_ADDR", "node"), ("MASTER_PORT", "1")):
        monkeypatch.setenv(name, value)
    assert processes_of_environment() == Processes(8, 5, 1)


def test_errors_of_other_processes_than_the_first_wait_and_name_it(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    waited: list[float] = []
    monkeypatch.setattr("brats_seg.cli.time.sleep", waited.append)
    monkeypatch.setenv("TORCHELASTIC_RUN_ID", "x")
    for rank, expected in (("0", "error: no command 'trian'"), ("3", "error: process 3: no command 'trian'")):
        monkeypatch.setenv("RANK", rank)
        assert cli.run(["trian"]) == 2
        assert capsys.readouterr().err.startswith(expected)
    assert len(waited) == 1


@pytest.mark.slow
def test_launcher_trains_together_and_tells_an_error_once(
    phantom_store: Path, tiny_recipe: Path, tiny_run: Path, tmp_path: Path
) -> None:
    def launch(*words: str) -> subprocess.CompletedProcess[str]:
        call = [
            sys.executable,
            "scripts/launch.py",
            "--standalone",
            "--nproc-per-node",
            "2",
            "-m",
            "brats_seg",
            "train",
        ]
        call += [str(tiny_recipe), f"data.store={phantom_store}", f"output={tmp_path / 'run'}", *words]
        return subprocess.run(call, cwd=REPOSITORY, capture_output=True, text=True)

    result = launch()
    assert result.returncode == 0, result.stderr
    assert result.stdout.count("2 processes train together") == 1
    assert result.stdout.count("wrote ") == 1
    tables = [
        list(csv.DictReader((folder / "validation" / "cases.csv").read_text().splitlines()))
        for folder in (tmp_path / "run", tiny_run)
    ]
    for own, expected in zip(*tables, strict=True):
        assert (own["case"], own["region"]) == (expected["case"], expected["region"])
        assert float(own["dice"]) == pytest.approx(float(expected["dice"]), abs=1e-3)
    assert json.loads((tmp_path / "run" / "run.json").read_text())["processes"] == 2
    refused = launch("train.batch=3")
    assert (refused.returncode, refused.stdout) == (2, "")
    assert refused.stderr.startswith("error: train.batch=3 cannot be divided among 2 processes")
    assert refused.stderr.count("\n") == 1


@pytest.mark.gpu
@pytest.mark.slow
def test_two_gpus_have_the_losses_of_one(phantom_store: Path, tiny_recipe: Path, tmp_path: Path) -> None:
    import torch

    if torch.cuda.device_count() < 2:
        pytest.skip(f"needs two GPUs, found {torch.cuda.device_count()}")
    settings = ["train.precision=fp32", "train.compile=false", "train.device=cuda", f"data.store={phantom_store}"]
    losses = []
    for count in (1, 2):
        run = tmp_path / str(count)
        start = [sys.executable, "scripts/launch.py", "--standalone", "--nproc-per-node", str(count), "-m", "brats_seg"]
        words = ["train", str(tiny_recipe), *settings, f"output={run}", "--quiet"]
        subprocess.run([*start, *words], cwd=REPOSITORY, check=True)
        losses.append([float(row["loss"]) for row in csv.DictReader((run / "metrics.csv").open())])
    assert losses[1] == pytest.approx(losses[0], abs=1e-3)  # TF32 and atomic sums
