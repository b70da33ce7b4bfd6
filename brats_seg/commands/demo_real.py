"""The demo's last part, where real cases are at hand: the bundled model on one of them, scored."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

from brats_seg.data.cases import Case, find_cases
from brats_seg.editions import get_edition
from brats_seg.errors import DataError
from brats_seg.files import read_json

__all__ = ["VARIABLE", "predict_real_case", "real_case"]

VARIABLE = "BRATS_SEG_DATA"
"""Environment variable that names a folder of real cases."""
_MODEL = "starter"
_NO_PATIENT = "For research only. One case says little about a model."


def real_case() -> Case | None:
    """Return the first case with a segmentation of the folder that `BRATS_SEG_DATA` names; None where it is not set.

    Raises:
        DataError: there is no such folder, or no such case in it.
    """
    named = os.environ.get(VARIABLE)
    if not named:
        return None
    try:
        cases = find_cases(Path(named), strict=False).cases
    except DataError as error:
        raise DataError(f"{VARIABLE}: {error}; correct it, or unset it to do without a real case") from error
    found = next((case for case in cases if case.label is not None and not case.missing), None)
    if found is None:
        raise DataError(f"{VARIABLE}={named}: no case with all modalities and a segmentation; unset it to do without")
    return found


def predict_real_case(
    case: Case, out: Path, device: str, say: Callable[[str], None], *, overwrite: bool, quiet: bool
) -> None:
    """Predict a real case with the bundled model into OUT/real, score it, and say its Dice and whether it flatters."""
    from brats_seg.commands.evaluate import evaluate  # noqa: PLC0415 (torch comes with predicting)
    from brats_seg.commands.predict import predict  # noqa: PLC0415
    from brats_seg.inference.likeness import read_reference  # noqa: PLC0415
    from brats_seg.networks.bundled import find_model  # noqa: PLC0415

    predictions, evaluation = out / "real" / "predictions", out / "real" / "evaluation"
    say(f"\n== a real case: {case.name}\n   brats-seg predict {_MODEL} {case.folder} {predictions}\n")
    words = [_MODEL, str(case.folder), str(predictions)]
    predict(words, cases=case.name, device=device, overwrite=overwrite, quiet=quiet)
    evaluate(case.folder, predictions, evaluation, "brats2020", cases=case.name, jobs=1, overwrite=True, quiet=True)
    regions = read_json(evaluation / "summary.json")["regions"]
    means = {name: regions[name]["metrics"]["dice"]["mean"] for name in get_edition(case.edition).region_names}
    dice = ", ".join(f"{name} {mean:.3f}" for name, mean in means.items())
    reference = read_reference(find_model(_MODEL))
    is_known = reference is not None and reference.has_trained_on(case.name)
    say(f"Dice of {case.name}, protocol brats2020: {dice}\n{_warning(is_known)}")


def _warning(is_known: bool) -> str:
    if is_known:
        return f"{_MODEL} was trained on this very case: these numbers flatter it. {_NO_PATIENT}"
    return f"{_MODEL} has not been trained on a case of this name. {_NO_PATIENT}"
