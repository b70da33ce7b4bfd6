"""The command line: a table of verbs, each imported only when it is called, and one place where errors become a line.

Exit codes: 0 done; 1 the work found problems or failed; 2 wrong usage, config or input; 130 interrupted.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Sequence
from importlib import import_module

from brats_seg.errors import BratsSegError, UsageError, did_you_mean

__all__ = ["VERBS", "app"]

VERBS = {
    "demo": "The whole chain on synthetic cases, on a CPU, in minutes.",
    "check": "Audit a download: every problem of every case in one table.",
    "split": "Divide cases into folds by patient.",
    "prepare": "Turn a download into a training store.",
    "train": "Train a network on a store.",
    "tune": "Search for a recipe's best settings, trial by trial.",
    "predict": "Write label maps of cases with a trained run.",
    "evaluate": "Score predictions against references under a named protocol.",
    "compare": "Rank evaluated models as the challenge does, with paired tests.",
    "report": "Evaluations as one page: numbers, charts, the worst cases.",
    "view": "Look at cases, references and predictions in the browser.",
    "figure": "Draw a case with its label maps: PNG, SVG, PDF, or an animated sweep.",
    "export": "Hand predictions to other programs (ITK-SNAP).",
}
"""Verb -> its line in `brats-seg --help`; the verb's module in `brats_seg.commands` has the same name."""

_SECONDS_FOR_THE_FIRST = 15.0
"""How long other processes than the first wait before they tell of an error of their own."""

_HELP = """Usage: brats-seg COMMAND [ARGUMENTS] [OPTIONS]

  Brain-tumour segmentation from multi-modal MRI: from a BraTS download to
  numbers that can be published. For research only, not a medical device.

Commands:
{verbs}

Every command takes --help (shows an example) and --debug (shows the whole
traceback of an error). `brats-seg --version` prints the version.

Example: brats-seg demo out
"""


def app(words: Sequence[str] | None = None) -> None:
    """Run the command line `words` (default: the process's own) and end the process with its exit code."""
    sys.exit(run(sys.argv[1:] if words is None else words))


def run(words: Sequence[str]) -> int:
    """Run one command line and return its exit code; an error is one line on standard error."""
    is_debug = "--debug" in words
    words = [word for word in words if word != "--debug"]
    try:
        return _dispatch(words)
    except BratsSegError as error:
        if is_debug:
            raise
        print(f"error: {_of_process()}{error}", file=sys.stderr, flush=True)
        return error.exit_code
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return 130


def _of_process() -> str:
    """Return "" in a process alone or the first of several (see torchrun), else words that name the process.

    The others wait first: what is wrong for all is told once, by the first, whose end lets torchrun end the others.
    """
    rank = os.environ.get("RANK", "0")
    if rank == "0" or "TORCHELASTIC_RUN_ID" not in os.environ:
        return ""
    time.sleep(_SECONDS_FOR_THE_FIRST)
    return f"process {rank}: "


def _dispatch(words: Sequence[str]) -> int:
    verb = words[0] if words else "--help"
    if verb in ("--help", "-h"):
        print(_HELP.format(verbs="\n".join(f"  {name:10}{line}" for name, line in VERBS.items())), end="")
        return 0
    if verb == "--version":
        from brats_seg import __version__  # noqa: PLC0415 (package metadata costs start-up time)

        print(f"brats-seg {__version__}")
        return 0
    if verb not in VERBS:
        raise UsageError(f"no command {verb!r}{did_you_mean(verb, VERBS)}")
    return _run_verb(verb, words[1:])


def _run_verb(verb: str, words: Sequence[str]) -> int:
    import typer  # noqa: PLC0415 (a tenth of a second that `--help` need not wait for)

    command = import_module(f"brats_seg.commands.{verb}").command
    try:
        code = command.main(list(words), prog_name=f"brats-seg {verb}", standalone_mode=False)
    except typer.exceptions.Abort:
        raise KeyboardInterrupt from None
    except typer.exceptions.TyperException as error:
        message = error.format_message() if hasattr(error, "format_message") else str(error)
        raise UsageError(f"{message.rstrip('.')} (see brats-seg {verb} --help)") from error
    return code if isinstance(code, int) else 0
