"""Make a model of the package from a run: `python scripts/bundle_model.py RUN NAME`.

models/NAME gets the run's weights in half precision, what its `reference.json` tells of the training cases, and the
settings of the recipe NAME, which have to be the run's but for machine, folders and inference. The hash that is
printed goes into `brats_seg/networks/bundled.py`.
"""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

from brats_seg.config import config_differences, load_config, to_yaml
from brats_seg.errors import BratsSegError
from brats_seg.files import atomic_folder, hash_of_file
from brats_seg.inference.predict import WEIGHTS, read_run_config
from brats_seg.networks.build import build_network, count_weights
from brats_seg.networks.weights import load_weights, read_description, save_weights

MODELS = Path(__file__).resolve().parent.parent / "models"
FREE = ("data.store", "output", "inference.", "train.device", "train.threads", "train.store_device", "train.layout")
"""Settings in which run and recipe may differ: where it ran, and how it predicts."""


def main() -> None:
    """Check the run against the recipe, and write the folder."""
    if len(sys.argv) != 3:
        raise SystemExit(__doc__)
    run, name = Path(sys.argv[1]), sys.argv[2]
    recipe = load_config(name, ["data.fold=none", f"output={name}"])
    if wrong := [line for line in config_differences(read_run_config(run), recipe) if not line.startswith(FREE)]:
        raise SystemExit(f"{run} was not made by the recipe {name}: {'; '.join(wrong)}")
    own = read_description(run / WEIGHTS)
    network = build_network(own.network_config(), in_channels=len(own.modalities), out_channels=len(own.regions))
    load_weights(run / WEIGHTS, network)
    with atomic_folder(MODELS / name) as folder:
        save_weights(folder / WEIGHTS, network.half(), own)
        shutil.copy(run / "reference.json", folder / "reference.json")
        (folder / "config.yaml").write_text(to_yaml(recipe), encoding="utf-8")
    size_mb = (MODELS / name / WEIGHTS).stat().st_size / 1e6
    print(f"wrote {MODELS / name}: {count_weights(network):,} weights, {size_mb:.1f} MB")
    print(f'next: "{name}": "{hash_of_file(MODELS / name / WEIGHTS)}" in brats_seg/networks/bundled.py')


if __name__ == "__main__":
    try:
        main()
    except BratsSegError as error:
        raise SystemExit(str(error)) from None
