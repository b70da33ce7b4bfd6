"""Evaluation: label maps to scores under a named protocol, for whoever has arrays.

    from brats_seg.evaluation import evaluate_case, summarize

    rows = evaluate_case("case", reference, prediction, "brats2020", "brats2023", spacing_mm=(1.0, 1.0, 1.0))
    rows[0].region, rows[0].lesionwise_dice, rows[0].num_fn
    summarize(rows)["regions"]["ET"]["metrics"]["lesionwise_dice"]["mean"]

Label maps are uint8 in file order (K, J, I). Folders of files: `folders.evaluate_folder`; ranking of several models:
`ranking`. Nothing here imports torch.
"""

from brats_seg.evaluation.evaluate import evaluate_case
from brats_seg.evaluation.protocols import PROTOCOLS, Protocol
from brats_seg.evaluation.records import Row
from brats_seg.evaluation.summary import summarize

__all__ = ["PROTOCOLS", "Protocol", "Row", "evaluate_case", "summarize"]
