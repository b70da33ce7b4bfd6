"""All folds of a division: one after another, or each on a device of its own; then their held-out cases together."""

from __future__ import annotations

import csv
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tqdm import tqdm

from brats_seg.config import RunConfig, parse_config, to_yaml
from brats_seg.errors import ConfigError, WorkError
from brats_seg.files import make_output_folder, write_text

__all__ = ["FoldProcess", "devices_of_folds", "join_validation", "of_fold", "train_folds_apart"]

_LOOK_EVERY_S = 0.5


def of_fold(config: RunConfig, fold: int) -> RunConfig:
    """Return the configuration of one fold of a `data.fold=all`: its number, and its folder within the output."""
    values = config.model_dump(mode="json")
    values["data"]["fold"] = fold
    values["output"] = str(Path(config.output) / f"fold{fold}")
    return parse_config(values)


def devices_of_folds(config: RunConfig) -> list[str]:
    """Return the devices that train folds at the same time; one or none means one fold after another.

    `train.device` may name several, as in `cuda:0,cuda:1`; `auto` with data.fold=all takes every GPU there is.

    Raises:
        ConfigError: several devices for one fold.
    """
    names = [name.strip() for name in config.train.device.split(",")]
    if len(names) > 1 and config.data.fold != "all":
        raise ConfigError(
            f"train.device={config.train.device}: several devices train several folds, and data.fold="
            f"{config.data.fold} is one; use data.fold=all, or torchrun to train one fold on several GPUs"
        )
    if config.data.fold == "all" and names == ["auto"]:
        import torch  # noqa: PLC0415 (comes with training)

        return [f"cuda:{number}" for number in range(torch.cuda.device_count())]
    return names


@dataclass
class FoldProcess:
    """A fold that trains in a process of its own."""

    fold: int
    device: str
    process: subprocess.Popen[bytes]
    run: Path
    log: Path

    def last_step(self) -> int:
        """Return the last step of the run's metrics.csv; 0 where there is none."""
        try:
            with (self.run / "metrics.csv").open(encoding="utf-8") as file:
                return max((int(row["step"]) for row in csv.DictReader(file) if row["step"].isdigit()), default=0)
        except (OSError, TypeError):
            return 0


def train_folds_apart(
    config: RunConfig, devices: Sequence[str], flags: Sequence[str], *, is_silent: bool, is_quiet: bool
) -> None:
    """Train every fold in a process of its own, one at a time on each device; `foldK.log` holds what each says.

    Args:
        config: of all folds, whole paths.
        devices: one fold trains on each at a time.
        flags: options of `brats-seg train` that each fold gets.
        is_silent: no bar.
        is_quiet: no lines.

    Raises:
        WorkError: folds failed; names each with its last line. The others were trained to their end.
    """
    output = make_output_folder(Path(config.output))
    waiting, free = list(range(config.data.num_folds)), list(devices)
    running: list[FoldProcess] = []
    failed: list[str] = []
    done = 0
    with (
        tempfile.TemporaryDirectory(prefix="brats-seg-folds-") as recipes,
        tqdm(total=config.data.num_folds * config.train.steps, unit="step", disable=is_silent, smoothing=0.05) as bar,
    ):
        try:
            while waiting or running:
                while waiting and free:
                    one = _start(of_fold(config, waiting.pop(0)), free.pop(0), Path(recipes), flags, len(devices))
                    running.append(one)
                    if not is_quiet:
                        bar.write(f"fold {one.fold} trains on {one.device}; it tells in {one.log}")
                time.sleep(_LOOK_EVERY_S)
                for one in [one for one in running if one.process.poll() is not None]:
                    running.remove(one)
                    free.append(one.device)
                    done += config.train.steps
                    failed += _told_at_end(one, bar, is_quiet=is_quiet)
                bar.update(done + sum(one.last_step() for one in running) - bar.n)
        finally:
            for one in running:
                one.process.terminate()
                one.process.wait()
    if failed:
        raise WorkError(
            f"{output}: {len(failed)} of {config.data.num_folds} folds failed ({'; '.join(sorted(failed))}); "
            "mend the cause and repeat with --resume"
        )


def _start(config: RunConfig, device: str, recipes: Path, flags: Sequence[str], num_devices: int) -> FoldProcess:
    fold, run = int(config.data.fold), Path(config.output)
    recipe = recipes / f"fold{fold}.yaml"
    write_text(recipe, to_yaml(config))
    environment = dict(os.environ)
    if device == "cpu":  # two threads a core would be several times slower than one
        threads = max(1, len(os.sched_getaffinity(0)) // num_devices) if hasattr(os, "sched_getaffinity") else 1
        environment["OMP_NUM_THREADS"] = str(threads)
    log = run.parent / f"{run.name}.log"
    with log.open("ab") as file:
        process = subprocess.Popen(
            [sys.executable, "-m", "brats_seg", "train", str(recipe), "--device", device, *flags],
            stdin=subprocess.DEVNULL,
            stdout=file,
            stderr=subprocess.STDOUT,
            env=environment,
        )
    return FoldProcess(fold, device, process, run, log)


def _told_at_end(one: FoldProcess, bar: tqdm[Any], *, is_quiet: bool) -> list[str]:
    """Say how a fold ended; return why, in a list, if it failed."""
    if one.process.returncode == 0:
        if not is_quiet:
            bar.write(f"fold {one.fold}: trained; wrote {one.run}")
        return []
    lines = one.log.read_text(encoding="utf-8", errors="replace").strip().splitlines() or ["said nothing"]
    return [f"fold {one.fold}: exit code {one.process.returncode}, {lines[-1]}"]


def join_validation(output: Path, num_folds: int) -> None:
    """Join the folds' held-out label maps and scores: every case was predicted by the run that never saw it."""
    joined = make_output_folder(output / "validation")
    tables, names = [], []
    for fold in range(num_folds):
        source = output / f"fold{fold}" / "validation"
        names += (source / "cases.txt").read_text(encoding="utf-8").split("\n")[:-1]
        tables.append((source / "cases.csv").read_text(encoding="utf-8").splitlines(keepends=True))
        for path in source.glob("*.nii.gz"):
            shutil.copyfile(path, joined / path.name)
    write_text(joined / "cases.csv", "".join([tables[0][0], *(row for table in tables for row in table[1:])]))
    write_text(joined / "cases.txt", "".join(f"{name}\n" for name in names))
    print(f"wrote {joined} (all {num_folds} folds, {len(names)} cases)")
    print(f"next: brats-seg predict {output} DATA OUT (all folds together)")
