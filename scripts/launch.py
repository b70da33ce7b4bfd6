"""torchrun for brats_seg: a run's own error stays the one line that the run has printed, and its exit code the run's.

    python scripts/launch.py --standalone --nproc-per-node 4 -m brats_seg train default data.store=STORE output=RUN

Takes torchrun's own options. torchrun itself prints thirty lines about every failure, and ends with exit code 1.
"""

from __future__ import annotations

import logging
import os
import sys


def main() -> int:
    os.environ.setdefault("OMP_NUM_THREADS", "1")  # as torchrun does, with a warning
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
    from torch.distributed.run import main as torchrun

    for name in list(logging.root.manager.loggerDict):
        if name.startswith("torch.distributed"):
            logging.getLogger(name).setLevel(logging.CRITICAL)
    try:
        torchrun(sys.argv[1:])
    except ChildFailedError as error:
        rank, failure = error.get_first_failure()
        if failure.exitcode < 0:
            print(f"error: process {rank} was ended by signal {-failure.exitcode}", file=sys.stderr)
        return failure.exitcode if failure.exitcode > 0 else 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
