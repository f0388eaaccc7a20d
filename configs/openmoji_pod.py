"""`openmoji.py` on many chips: batches that can be split over them, in bfloat16.

python -m flamingo_jax.train --config=configs/openmoji_pod.py:8 --workdir=runs/openmoji_pod

The number after the colon is that of the chips, all of which the mesh's axis `data` has; another
mesh of as many is `--config.mesh.data=2 --config.mesh.fsdp=4`.
"""

from typing import Any

import ml_collections

from configs import openmoji
from flamingo_jax.errors import UserError


def get_config(chips: str = "8") -> ml_collections.ConfigDict:
    """`openmoji.py` with every batch raised to the next multiple of `chips`."""
    if not chips.isdigit() or int(chips) < 1:
        raise UserError(f"configs/openmoji_pod.py:{chips} names no number of chips: write :8.")
    config: Any = openmoji.get_config()
    parts = int(chips)
    for holder, field in (
        (config.vision_training, "batch"),
        *((dataset, "batch_size") for dataset in config.mixture.datasets),
    ):
        holder[field] = -(-holder[field] // parts) * parts
    config.dtype = "bfloat16"
    config.mesh.data = parts
    return config
