"""Rules that hold for the whole project: layers, sizes, names, what is imported when, what is tracked."""

from __future__ import annotations

import ast
import configparser
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
PACKAGE = ROOT / "brats_seg"
MODULES = sorted(path for path in PACKAGE.rglob("*.py"))
NAMES = [str(path.relative_to(ROOT)) for path in MODULES]
WITH_NAMES = [str(p.relative_to(PACKAGE)) for p in MODULES if p.stem not in ("__init__", "__main__")]
CONFIGS = sorted((ROOT / "configs").glob("*.yaml"))

MOST_LINES_OF_A_MODULE = 400
MOST_LINES_OF_A_FUNCTION = 60  # without its docstring


def tree_of(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"), str(path))


def functions_of(tree: ast.Module) -> Iterator[ast.FunctionDef | ast.AsyncFunctionDef]:
    return (node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef))


def num_lines(function: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    docstring = ast.get_docstring(function, clean=False)
    num = (function.end_lineno or function.lineno) - function.lineno + 1
    return num - (docstring.count("\n") + 1 if docstring else 0)


def exported(tree: ast.Module) -> list[str] | None:
    for node in tree.body:
        if isinstance(node, ast.Assign) and any(isinstance(t, ast.Name) and t.id == "__all__" for t in node.targets):
            return list(ast.literal_eval(node.value))
    return None


def tracked_files() -> list[Path]:
    """Files that git tracks, or would: what the ignore file leaves."""
    call = ["git", "-C", str(ROOT), "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    try:
        listed = subprocess.run(call, capture_output=True, check=True, text=True).stdout
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("not a git checkout")
    return [path for name in listed.split("\0") if name and (path := ROOT / name).is_file()]


def test_stages_import_only_what_stands_below_them():
    call = [sys.executable, "-c", "import sys; from importlinter.cli import lint_imports; sys.exit(lint_imports())"]
    result = subprocess.run(call, cwd=ROOT, capture_output=True, text=True)
    assert result.returncode == 0, result.stdout + result.stderr


@pytest.mark.parametrize("path", MODULES, ids=NAMES)
def test_module_is_one_thing(path):
    words = {"util", "utils", "utilities", "helper", "helpers", "common", "misc", "tools"}
    assert path.stem not in words, "name it after what it holds, or move the function beside its one user"
    assert path.parent.name not in words
    num = len(path.read_text(encoding="utf-8").splitlines())
    assert num <= MOST_LINES_OF_A_MODULE, f"{num} lines: two things in one?"
    long = {f.name: n for f in functions_of(tree_of(path)) if (n := num_lines(f)) > MOST_LINES_OF_A_FUNCTION}
    assert not long, "two things in one?"


@pytest.mark.parametrize("path", [PACKAGE / name for name in WITH_NAMES], ids=WITH_NAMES)
def test_public_names_are_listed_sorted_and_there(path):
    tree = tree_of(path)
    names = exported(tree)
    assert names is not None, "no __all__"
    assert names == sorted(names, key=sort_key)
    defined = {n.id for n in ast.walk(tree) if isinstance(n, ast.Name) and isinstance(n.ctx, ast.Store)}
    defined |= {n.name for n in tree.body if isinstance(n, ast.FunctionDef | ast.ClassDef)}
    defined |= {
        alias.asname or alias.name for n in ast.walk(tree) if isinstance(n, ast.ImportFrom) for alias in n.names
    }
    assert set(names) <= defined


def sort_key(name: str) -> tuple[int, str]:
    """Constants, then classes, then functions: ruff's order (RUF022)."""
    return (0 if name.isupper() else 1 if name[0].isupper() else 2, name)


@pytest.mark.parametrize("path", MODULES, ids=NAMES)
def test_module_neither_unpickles_nor_asserts(path):
    tree = tree_of(path)
    for node in ast.walk(tree):
        if isinstance(node, ast.Import | ast.ImportFrom):
            imported = {alias.name.split(".")[0] for alias in node.names} | {getattr(node, "module", None) or ""}
            assert not imported & {"pickle", "dill", "cloudpickle", "joblib", "shelve", "marshal"}
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
            assert (node.value.id, node.attr) not in {("torch", "load"), ("yaml", "load"), ("yaml", "unsafe_load")}
        if isinstance(node, ast.keyword) and node.arg == "allow_pickle":
            assert isinstance(node.value, ast.Constant)
            assert node.value.value is False
        assert not isinstance(node, ast.Assert), "a user's input needs an error of ours"


def run_python(code: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT)


@pytest.mark.parametrize(
    "words", [["--help"], *([verb, "--help"] for verb in ("check", "split", "evaluate", "export", "view"))]
)
def test_help_loads_no_heavy_library(words):
    heavy = ("torch", "monai", "SimpleITK", "matplotlib", "tensorboard", "skimage")
    code = f"import sys; from brats_seg.cli import run; code = run({words!r}); "
    result = run_python(code + f"sys.exit(code or ','.join(n for n in {heavy!r} if n in sys.modules) or None)")
    assert result.returncode == 0, result.stderr
    assert result.stdout.startswith("Usage: brats-seg")


@pytest.mark.parametrize("stage", ["data", "evaluation", "reporting"])
def test_stage_works_without_torch(stage):
    paths = (p.relative_to(ROOT).with_suffix("") for p in sorted((PACKAGE / stage).rglob("*.py")))
    names = [".".join(path.parts) for path in paths if path.name != "__init__"]
    result = run_python(
        f"import sys, {', '.join(names)}; sys.exit(','.join({{'torch', 'monai'}} & set(sys.modules)) or None)"
    )
    assert result.returncode == 0, result.stderr


def test_every_verb_has_a_module_with_an_example_in_its_help(capsys):
    from brats_seg.cli import VERBS, run

    for verb in VERBS:
        import_module(f"brats_seg.commands.{verb}")
        words = [verb, "itksnap", "--help"] if verb == "export" else [verb, "--help"]
        assert run(words) == 0, verb
        assert re.search(rf"Examples?:\n +brats-seg {verb} ", capsys.readouterr().out), verb


@pytest.mark.parametrize("name", ["README.md", "CONTRIBUTING.md", "docs/commands.md"])
def test_documents_name_commands_options_and_files_that_are_there(name):
    from brats_seg.cli import VERBS

    text = (ROOT / name).read_text(encoding="utf-8")
    usages = re.findall(r"brats-seg ([a-z]+)((?:[^`\n]|\n +)*)", text)
    assert {verb for verb, _ in usages} <= {*VERBS}
    for verb, rest in usages:
        assert set(re.findall(r"--[a-z][a-z0-9-]+", rest)) <= options_of(verb) | {"--help", "--debug"}, (
            f"{name}: {verb}{rest}"
        )
    for target in re.findall(r"\]\(([^):#]+)\)", text):
        assert (ROOT / name).parent.joinpath(target).exists(), f"{name}: link to {target}"


def test_every_option_is_in_the_reference_of_commands():
    from brats_seg.cli import VERBS

    text = (ROOT / "docs" / "commands.md").read_text(encoding="utf-8")
    assert {option for verb in VERBS for option in options_of(verb) if option not in text} == set()


def options_of(verb: str) -> set[str]:
    command = import_module(f"brats_seg.commands.{verb}").command
    commands = getattr(command, "commands", {verb: command}).values()
    return {option for one in commands for param in one.params for option in param.opts if option.startswith("--")}


def test_every_marker_is_declared_and_used():
    settings = configparser.ConfigParser()
    settings.read(ROOT / "setup.cfg")
    declared = {line.split(":")[0] for line in settings["tool:pytest"]["markers"].strip().splitlines()}
    text = "\n".join(path.read_text(encoding="utf-8") for path in (ROOT / "tests").rglob("test_*.py"))
    used = set(re.findall(r"pytest\.mark\.(\w+)", text)) - {"parametrize", "skipif", "filterwarnings", "xfail"}
    assert used == declared


@pytest.mark.parametrize("path", CONFIGS, ids=[path.stem for path in CONFIGS])
def test_recipe_loads_and_its_network_builds(path):
    from brats_seg.config import load_config, recipe_names
    from brats_seg.networks.build import build_network

    assert path.stem in recipe_names()
    config = load_config(path.stem)
    assert load_config(str(path)) == config
    assert sum(p.numel() for p in build_network(config.network, in_channels=4, out_channels=3).parameters()) > 0


def test_setup_lists_every_folder_of_the_package():
    settings = configparser.ConfigParser()
    settings.read(ROOT / "setup.cfg")
    listed = set(settings["options"]["packages"].split())
    folders = {path.parent.relative_to(ROOT).as_posix().replace("/", ".") for path in PACKAGE.rglob("__init__.py")}
    assert listed == folders | {"brats_seg.configs", "brats_seg.models"}


def test_constraints_pin_published_versions_only():
    lines = [line for line in (ROOT / "constraints.txt").read_text().splitlines() if not line.startswith("#")]
    assert [line for line in lines if not re.fullmatch(r"[\w.-]+==\d[\w.]*", line)] == []
    assert "torch==2.13.0" in lines


def test_tracked_files_hold_no_paths_of_one_machine_and_no_volumes():
    mentions = re.compile(rb"(?<![\w.])/(?:" + b"|".join((b"work", b"root", b"home", b"farm", b"tmp")) + rb")/\w")
    for path in tracked_files():
        if path.name == "model.safetensors" and path.parent.parent == ROOT / "models":
            assert path.stat().st_size <= 12e6, f"{path}: over 12 MB"
            continue
        assert not path.name.endswith((".nii", ".nii.gz", ".npy", ".safetensors", ".pt", ".pth")), path
        assert path.stat().st_size <= 1 << 20, f"{path}: over 1 MiB"
        found = [line for line in path.read_bytes().splitlines() if mentions.search(line)]
        assert not found, f"{path}: {found[0]!r}"


def test_scripts_and_ci_run_the_same_command():
    assert "scripts/test.sh" in (ROOT / ".ci" / "run").read_text(encoding="utf-8")
    for script in (ROOT / ".ci" / "run", *(ROOT / "scripts").glob("*.sh")):
        assert os.access(script, os.X_OK), f"{script.name} is not executable"
        assert "set -euo pipefail" in script.read_text(encoding="utf-8"), script.name
