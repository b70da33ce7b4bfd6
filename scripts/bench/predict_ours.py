"""Our side of bench_predict: a process that holds a model of random weights and predicts one case a turn."""

from __future__ import annotations

import resource
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import measure

Answer = dict[str, Any]


class Ours:
    """A model that is loaded at the first turn; each later one is a case, from NIfTI to NIfTI."""

    def __init__(self) -> None:
        self._ensembles: dict[tuple[str, str], Any] = {}
        self._device = ""

    def __call__(self, what: str, **task: Any) -> Answer:
        """Do what a turn asks for."""
        return {"start": self._start, "load": self._load, "case": self._case}[what](**task)

    def _start(self, run: str, device: str, threads: int) -> Answer:
        from brats_seg.commands.process import prepare_process

        prepare_process()  # as the command does
        import torch

        torch.set_num_threads(threads)
        self._device = device
        ensemble = self._of(run, "none")
        return {"compute": str(ensemble), "weights": sum(p.numel() for p in ensemble.first.network.parameters())}

    def _load(self, run: str, tta: str) -> Answer:
        self._of(run, tta)
        return {}

    def _of(self, run: str, tta: str) -> Any:
        from brats_seg.inference.ensemble import find_members, load_ensemble

        if (run, tta) not in self._ensembles:
            self._ensembles[run, tta] = load_ensemble(find_members([run], [f"inference.tta={tta}"]), self._device)
        return self._ensembles[run, tta]

    def _case(self, run: str, name: str, edition: str, images: Mapping[str, str], tta: str, out: str) -> Answer:
        from brats_seg.data.cases import Case, ImageFile
        from brats_seg.inference.model import as_prediction
        from brats_seg.inference.reading import read_case
        from brats_seg.preprocessing import transforms

        files = {modality: ImageFile(Path(path)) for modality, path in images.items()}
        case = Case(name, name, None, edition, Path(out), files, None)
        ensemble = self._of(run, tta)
        with _Clock(transforms, "read_stack") as reading:
            begun = time.perf_counter()
            prepared = read_case(case, ensemble.reference)
            read = time.perf_counter()
        probabilities = ensemble.probabilities(prepared.image, prepared.mean, prepared.sd).cpu()
        computed = time.perf_counter()
        made = as_prediction(ensemble, prepared, probabilities, edition)
        pasted = time.perf_counter()
        made.save(Path(out) / f"{name}.nii.gz")
        return {
            "read": reading.seconds,
            "prepare": read - begun - reading.seconds,
            "network": computed - read,
            "paste": pasted - computed,
            "write": time.perf_counter() - pasted,
            "peak_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3,
        }


class _Clock:
    """Sums up the seconds that a function of a module takes."""

    def __init__(self, module: Any, name: str) -> None:
        self._module, self._name, self._own = module, name, getattr(module, name)
        self.seconds = 0.0

    def _timed(self, *given: Any, **named: Any) -> Any:
        begun = time.perf_counter()
        try:
            return self._own(*given, **named)
        finally:
            self.seconds += time.perf_counter() - begun

    def __enter__(self) -> _Clock:
        setattr(self._module, self._name, self._timed)
        return self

    def __exit__(self, *_: object) -> None:
        setattr(self._module, self._name, self._own)


if __name__ == "__main__":
    measure.serve(Ours())
