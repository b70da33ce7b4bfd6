"""Writing without halves, hashes, and the record of how something was made.

Everything is written to a temporary name in the target's own folder and then renamed: a present file is a complete one.
"""

from __future__ import annotations

import csv
import hashlib
import io
import json
import math
import os
import platform
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from importlib import metadata
from pathlib import Path
from typing import Any

from brats_seg.errors import OutputError
from brats_seg.processor import processor_name

__all__ = [
    "TEMPORARY_PREFIX",
    "atomic_file",
    "atomic_folder",
    "hash_of_file",
    "hash_of_json",
    "make_output_folder",
    "provenance",
    "read_json",
    "require_outside",
    "write_csv",
    "write_json",
    "write_text",
]

TEMPORARY_PREFIX = ".incomplete-"
"""What names of half-written files and folders begin with; whoever lists a folder passes over them."""

_PACKAGES = ("brats_seg", "monai", "torch", "numpy", "scipy", "nibabel", "SimpleITK", "safetensors", "pydantic")


def make_output_folder(folder: Path) -> Path:
    """Make `folder` (parents too) and check that it can be written to; return it.

    Raises:
        OutputError: it is a file, or there is no permission.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        reason = error.strerror or str(error)
        raise OutputError(
            f"{folder}: cannot write there ({reason}); choose another folder or change its permissions"
        ) from error
    return folder


def require_outside(output: Path, source: Path) -> None:
    """Refuse an output folder that is the input folder or lies in it: downloads are read only.

    Raises:
        OutputError: names both.
    """
    out, inside = output.resolve(), source.resolve()
    if out == inside or (inside.is_dir() and inside in out.parents):
        raise OutputError(
            f"{output}: lies inside the input {source}, which is never written to; choose a folder outside it"
        )


@contextmanager
def atomic_file(target: Path) -> Iterator[Path]:
    """Yield a temporary path beside `target`; on success it replaces `target`, on any error it vanishes.

    Raises:
        OutputError: the folder cannot be written to, or the disk is full.
    """
    temporary = target.with_name(f"{TEMPORARY_PREFIX}{os.getpid()}-{target.name}")
    try:
        yield temporary
        os.replace(temporary, target)
    except OSError as error:
        if error.filename not in (None, str(temporary), str(target)):
            raise
        raise OutputError(f"{target}: cannot be written ({error.strerror or error})") from error
    finally:
        with suppress(OSError):  # not there, or never could be
            temporary.unlink()


@contextmanager
def atomic_folder(target: Path) -> Iterator[Path]:
    """Yield a temporary folder beside `target`; on success it replaces `target`, on any error it vanishes."""
    temporary = target.with_name(f"{TEMPORARY_PREFIX}{os.getpid()}-{target.name}")
    shutil.rmtree(temporary, ignore_errors=True)
    try:
        temporary.mkdir(parents=True)
        yield temporary
        if target.exists():
            shutil.rmtree(target)
        os.replace(temporary, target)
    except OSError as error:
        if error.filename is not None and not str(error.filename).startswith((str(temporary), str(target))):
            raise
        raise OutputError(f"{target}: cannot be written ({error.strerror or error})") from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def write_text(path: Path, text: str) -> None:
    """Write a UTF-8 text file, complete or not at all."""
    with atomic_file(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def write_csv(path: Path, lines: Iterable[Sequence[Any]]) -> None:
    """Write a table, complete or not at all: floats in full precision, `inf` and `nan` in words."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerows([repr(float(x)) if isinstance(x, float) else x for x in line] for line in lines)
    write_text(path, text.getvalue())


def write_json(path: Path, value: Any) -> None:
    """Write JSON, complete or not at all; not-finite floats become the words `nan`, `inf`, `-inf`."""
    write_text(path, json.dumps(_in_words(value), indent=2, ensure_ascii=False, allow_nan=False) + "\n")


def read_json(path: Path) -> Any:
    """Return the content of a JSON file."""
    return json.loads(path.read_text(encoding="utf-8"))


def _in_words(value: Any) -> Any:
    if isinstance(value, dict):
        return {str(k): _in_words(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [_in_words(v) for v in value]
    if isinstance(value, float) and not math.isfinite(value):
        return str(float(value))
    return value


def hash_of_file(path: Path) -> str:
    """Return the sha256 of a file's content, in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def hash_of_json(value: Any) -> str:
    """Return the sha256 of a JSON value, whatever the order of its keys."""
    return hashlib.sha256(json.dumps(_in_words(value), sort_keys=True).encode()).hexdigest()


def provenance(*, device: str | None = None, **more: Any) -> dict[str, Any]:
    """Return how something was made: command, package versions, Python, system, processor, git commit, device.

    `device` is the device's name as text (this module imports no torch); `more` is added as it is.
    """
    return {
        "command": [Path(sys.argv[0]).name, *sys.argv[1:]],
        "versions": {name: v for name in _PACKAGES if (v := _version(name)) is not None},
        "python": platform.python_version(),
        "system": platform.platform(),
        "processor": processor_name(),
        "git": _git_commit(),
        "device": device,
        **more,
    }


def _version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def _git_commit() -> str | None:
    """Return the commit of the package's own checkout, `-dirty` where files were changed; None outside a checkout."""
    here = Path(__file__).resolve().parent
    if not (here.parent / ".git").exists():
        return None
    try:
        call = ["git", "-C", str(here), "describe", "--always", "--dirty", "--abbrev=12"]
        return subprocess.run(call, capture_output=True, text=True, timeout=10, check=True).stdout.strip() or None
    except (OSError, subprocess.SubprocessError):
        return None
