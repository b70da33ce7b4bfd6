"""Evaluation: label maps to scores under a named protocol, for whoever has arrays.

    from brats_seg.evaluation import evaluate_case, summarize

    rows = evaluate_case("case", reference, prediction, "brats2020", "brats2023", spacing_mm=(1.0, 1.0, 1.0))
    rows[0].region, rows[0].lesionwise_dice, rows[0].num_fn
    summarize(rows)["regions"]["ET"]["metrics"]["lesionwise_dice"]["mean"]

Label maps are uint8 in file order (K, J, I). Folders of files: `folders.evaluate_folder`; ranking of several models:
`ranking`. Nothing here imports torch.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from brats_seg.evaluation.evaluate import evaluate_case
    from brats_seg.evaluation.protocols import PROTOCOLS, Protocol
    from brats_seg.evaluation.records import Row
    from brats_seg.evaluation.summary import summarize

__all__ = ["PROTOCOLS", "Protocol", "Row", "evaluate_case", "summarize"]

_MODULES = {
    "PROTOCOLS": "protocols",
    "Protocol": "protocols",
    "Row": "records",
    "evaluate_case": "evaluate",
    "summarize": "summary",
}


def __getattr__(name: str) -> Any:
    """Return what is asked for, imported then: whoever looks for label maps need not wait for SciPy."""
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_MODULES[name]}"), name)
