from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPTS = Path(__file__).resolve().parents[2] / "scripts"
ALL = sorted(path.name for path in SCRIPTS.iterdir() if path.suffix in (".sh", ".sbatch"))

TINY_RECIPE = """\
network:
  arguments: {kernel_size: [3, 3, 3], strides: [1, 2, 2], upsample_kernel_size: [2, 2], filters: [4, 8, 8],
    norm_name: [instance, {affine: true}]}
train: {steps: 2, patch: [32, 32, 32], batch: 1}
"""


def call(script: str, *words: object, **environment: object) -> subprocess.CompletedProcess[str]:
    """Run a script as a user whose PATH has the tests' environment; PATH= in `environment` replaces that."""
    path = os.pathsep.join((str(Path(sys.executable).parent), os.environ["PATH"]))
    variables = {"PATH": path, "HOME": os.environ.get("HOME", ""), "OMP_NUM_THREADS": "1", **environment}
    return subprocess.run(
        ["bash", str(SCRIPTS / script), *map(str, words)],
        capture_output=True,
        text=True,
        env={name: str(value) for name, value in variables.items()},
        cwd=SCRIPTS.parent,
    )


def succeed(script: str, *words: object, **environment: object) -> str:
    result = call(script, *words, **environment)
    assert result.returncode == 0, result.stdout + result.stderr
    return result.stdout


def refusal(script: str, *words: object, **environment: object) -> str:
    """The one line that a script says before it starts anything."""
    result = call(script, *words, **environment)
    assert (result.returncode, result.stdout) == (2, "")
    assert result.stderr.startswith("error: ")
    assert result.stderr.count("\n") == 1
    return result.stderr


def bare_path(tmp_path: Path) -> Path:
    """A PATH with bash and the basic tools, without brats-seg."""
    folder = tmp_path / "bin"
    folder.mkdir()
    for name in ("bash", "dirname", "hostname", "find", "cat", "cksum"):
        if found := shutil.which(name):
            (folder / name).symlink_to(found)
    return folder


@pytest.mark.parametrize("name", ALL)
def test_bash_understands_the_script(name):
    assert subprocess.run(["bash", "-n", str(SCRIPTS / name)]).returncode == 0


@pytest.mark.parametrize(
    ("script", "words"),
    [
        ("preprocess_brats2020.sh", ["DOWNLOAD"]),
        ("train_gpu.sh", ["STORE"]),
        ("train_slurm.sbatch", []),
        ("export_itksnap.sh", ["RUN", "DOWNLOAD"]),
    ],
)
def test_a_missing_argument_is_told_with_the_usage(script, words):
    assert f"found {len(words)} arguments, expected" in (line := refusal(script, *words))
    assert f"scripts/{script}" in line


@pytest.mark.parametrize("script", ["preprocess_brats2020.sh", "train_gpu.sh", "export_itksnap.sh"])
def test_a_missing_brats_seg_is_told_with_the_remedy(script, tmp_path):
    words = [tmp_path / "x"] * (3 if script == "export_itksnap.sh" else 2)
    line = refusal(script, *words, PATH=bare_path(tmp_path))
    assert "brats-seg is not on PATH; activate its environment" in line


def test_missing_folders_are_told_before_anything_starts(tmp_path):
    gone = tmp_path / "gone"
    assert f"{gone}: no such folder" in refusal("preprocess_brats2020.sh", gone, tmp_path / "store")
    assert f"{gone}: no such folder" in refusal("preprocess_brats2020.sh", tmp_path, gone / "store")
    assert f"{tmp_path}: no store.json in it" in refusal("train_gpu.sh", tmp_path, tmp_path / "run")
    assert f"{gone}: no such folder" in refusal("train_slurm.sbatch", gone, tmp_path / "run")
    assert f"{tmp_path}: no model.safetensors in it" in refusal(
        "export_itksnap.sh", tmp_path, tmp_path, tmp_path / "out"
    )
    (tmp_path / "model.safetensors").touch()
    assert f"{gone}: no such folder" in refusal("export_itksnap.sh", tmp_path, gone, tmp_path / "out")


def launched(tmp_path: Path, script: str, *words: object, **environment: object) -> str:
    """What a script would start: stand-ins for python, brats-seg, srun and scontrol print or pass on their words."""
    store = tmp_path / "store"
    store.mkdir()
    (store / "store.json").touch()
    folder = tmp_path / "stand-ins"
    folder.mkdir()
    lines = {
        "python": 'echo "python $*"',
        "brats-seg": 'echo "brats-seg $*"',
        "srun": 'exec "$@"',
        "scontrol": "echo n7",
    }
    for name, line in lines.items():
        (folder / name).write_text(f"#!/bin/sh\n{line}\n")
        (folder / name).chmod(0o755)
    path = os.pathsep.join((str(folder), os.environ["PATH"]))
    return succeed(script, store, tmp_path / "run", *words, PATH=path, BRATS_SEG_VENV=tmp_path / "none", **environment)


def test_several_gpus_are_started_by_the_launcher_and_share_a_run(tmp_path):
    line = launched(tmp_path, "train_gpu.sh", 4, "train.batch=8")
    assert re.match(r"python \S*scripts/launch\.py --standalone --nproc-per-node 4 -m brats_seg train default ", line)
    assert line.endswith("train.batch=8 --device cuda --resume\n")


def test_one_gpu_needs_no_launcher(tmp_path):
    assert launched(tmp_path, "train_gpu.sh", 1, RECIPE="x").startswith("brats-seg train x data.store=")


def test_slurm_nodes_meet_at_the_first(tmp_path):
    slurm = {"SLURM_NNODES": 2, "SLURM_GPUS_ON_NODE": 8, "SLURM_JOB_ID": 42, "SLURM_JOB_NODELIST": "n[7-8]"}
    line = launched(tmp_path, "train_slurm.sbatch", "train.batch=16", **slurm)
    assert (
        "--nnodes 2 --rdzv-backend c10d --rdzv-endpoint n7:29500 --rdzv-id 42 --nproc-per-node 8 -m brats_seg" in line
    )


def test_impossible_numbers_of_gpus_and_nodes_are_refused_in_one_line(tmp_path):
    assert "GPUS=0: expected at least 1" in refusal("train_gpu.sh", tmp_path, tmp_path / "run", 0)
    assert "RENDEZVOUS is not set" in refusal("train_gpu.sh", tmp_path, tmp_path / "run", 2, NODES=2)


def test_a_download_with_errors_is_not_prepared(phantom_download, tmp_path):
    shutil.copytree(phantom_download, tmp_path / "download")
    next((tmp_path / "download").rglob("*_t2.nii*")).write_bytes(b"<html>")
    result = call("preprocess_brats2020.sh", tmp_path / "download", tmp_path / "store", JOBS=1)
    assert result.returncode == 1
    assert "not a NIfTI file" in result.stdout
    assert not (tmp_path / "store").exists()


@pytest.mark.slow
def test_the_scripts_lead_from_a_download_to_workspaces(phantom_download, tmp_path):
    """Phantoms through every script on a CPU; all paths have a space; the Slurm job runs under a stand-in for srun."""
    data, store, run, out = (tmp_path / f"{name} 1" for name in ("data", "store", "run", "out"))
    data.symlink_to(phantom_download)
    recipe = tmp_path / "tiny.yaml"
    recipe.write_text(TINY_RECIPE)
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "srun").write_text('#!/bin/sh\necho "srun $1"\nexec "$@"\n')
    (tmp_path / "bin" / "srun").chmod(0o755)
    path = os.pathsep.join(map(str, (tmp_path / "bin", Path(sys.executable).parent, os.environ["PATH"])))
    cpu = {"DEVICE": "cpu", "RECIPE": recipe, "BRATS_SEG_VENV": tmp_path / "none"}

    succeed("preprocess_brats2020.sh", data, store, FOLDS=3, JOBS=1)
    folds = json.loads((tmp_path / "store 1.folds.json").read_text())["folds"]
    assert len(folds) == 3
    assert json.loads((tmp_path / "store 1.check.json").read_text())["cases"] == 6

    printed = succeed("train_slurm.sbatch", store, run, "data.fold=2", **cpu, PATH=path)
    assert "srun bash" in printed
    assert (run / "validation" / "cases.txt").read_text().split() == folds[2]
    weights = (run / "model.safetensors").read_bytes()

    printed = succeed("train_gpu.sh", store, run, 1, "data.fold=2", **cpu)
    assert "holds a run: continuing it" in printed
    assert "finished already at step 2" in printed
    assert (run / "model.safetensors").read_bytes() == weights

    printed = succeed("export_itksnap.sh", run, data, out, DEVICE="cpu", CASES=run / "validation" / "cases.txt")
    assert "held out: " in printed
    assert sorted(path.name for path in (out / "predictions").glob("*.nii.gz")) == sorted(
        f"{c}.nii.gz" for c in folds[2]
    )
    assert sorted(path.stem for path in (out / "itksnap").glob("*.itksnap")) == sorted(folds[2])
    assert (out / "itksnap" / "brats2020.label").is_file()
    assert (out / "evaluation" / "cases.csv").is_file()


@pytest.mark.gpu
@pytest.mark.slow
def test_train_gpu_trains_on_the_gpu(phantom_download, tmp_path):
    recipe = tmp_path / "tiny.yaml"
    recipe.write_text(TINY_RECIPE)
    succeed("preprocess_brats2020.sh", phantom_download, tmp_path / "store", FOLDS=3)
    succeed("train_gpu.sh", tmp_path / "store", tmp_path / "run", RECIPE=recipe)
    assert "cuda" in json.loads((tmp_path / "run" / "run.json").read_text())["device"]


def test_install_does_nothing_where_the_same_was_installed(tmp_path):
    (tmp_path / "scripts").mkdir()
    (tmp_path / ".venv").mkdir()
    shutil.copy(SCRIPTS / "install.sh", tmp_path / "scripts")
    for name in ("setup.cfg", "pyproject.toml", "constraints.txt"):
        shutil.copy(SCRIPTS.parent / name, tmp_path)
    files = [str(tmp_path / name) for name in ("setup.cfg", "pyproject.toml", "constraints.txt")]
    content = subprocess.run(["cat", *files], capture_output=True, check=True).stdout
    stamp = subprocess.run(["cksum"], input=content, capture_output=True, check=True).stdout.decode()
    (tmp_path / ".venv" / ".brats_seg-installed-test").write_text(stamp)
    here = {"env": {"PATH": str(bare_path(tmp_path)), "PYTHON": "no-such-python"}, "capture_output": True, "text": True}
    install = ["bash", str(tmp_path / "scripts" / "install.sh")]
    assert subprocess.run([*install, "test"], **here).returncode == 0
    changed = subprocess.run([*install, "dev"], **here)
    assert changed.returncode == 2
    assert "error: no-such-python is missing or older than Python 3.11" in changed.stderr
