"""The exception tree: every error that a user can cause.

    BratsSegError(ValueError)        exit code 2: wrong usage, config or input
    |-- UsageError                   options that contradict each other, an unknown name
    |-- ConfigError                  a run's configuration
    |-- DataError                    a download, a case, a label map, a store
    |-- CheckpointError              a run folder, weights, a training state
    |-- DeviceError                  a GPU or precision that was asked for and is not there
    |-- OutputError                  somewhere that cannot be written to, or must not be
    `-- WorkError                    exit code 1: the work began and failed

A message says what (case, file, key), found, expected, remedy. Findings of a batch are collected and raised at once.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable

__all__ = [
    "BratsSegError",
    "CheckpointError",
    "ConfigError",
    "DataError",
    "DeviceError",
    "OutputError",
    "UsageError",
    "WorkError",
    "all_findings",
    "did_you_mean",
]


class BratsSegError(ValueError):
    """Root of all errors that a user can cause; `exit_code` is what the command line returns for it."""

    exit_code = 2


class UsageError(BratsSegError):
    """Options or names that make no sense together."""


class ConfigError(BratsSegError):
    """A configuration that cannot be used."""


class DataError(BratsSegError):
    """Input data that cannot be used."""


class CheckpointError(BratsSegError):
    """A run folder, weights or a training state that cannot be used."""


class DeviceError(BratsSegError):
    """A device or precision that was asked for and is not there."""


class OutputError(BratsSegError):
    """A place that cannot, or must not, be written to."""


class WorkError(BratsSegError):
    """Work that began and failed."""

    exit_code = 1


def all_findings(what: str, findings: Iterable[str]) -> str:
    """Return one message for all findings: one line if there is one, else a heading and a line each."""
    lines = list(findings)
    return (
        lines[0] if len(lines) == 1 else f"{what}: {len(lines)} problems\n" + "\n".join(f"  {line}" for line in lines)
    )


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """Return `; did you mean X? (known: ...)` for the error message of an unknown name."""
    names = sorted(known)
    close = difflib.get_close_matches(name, names, n=1, cutoff=0.5)
    return (f"; did you mean {close[0]}?" if close else "") + f" (known: {', '.join(names)})"
