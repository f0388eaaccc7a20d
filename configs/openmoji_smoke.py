"""Every stage of `openmoji.py` in a few steps, to see that all of it runs.

python -m flamingo_jax.train --config=configs/openmoji_smoke.py --workdir=runs/smoke
"""

from typing import Any

import ml_collections

from configs import openmoji


def get_config() -> ml_collections.ConfigDict:
    """`openmoji.py` with fewer steps and smaller batches."""
    config = openmoji.get_config()
    config.update(
        unroll=False,
        vision_training=dict(steps=6, batch=32, warmup_steps=2, save_every=3),
        loop=dict(steps=6, save_every=3),
        evaluation=dict(
            shots=(0, 4, 8),
            families=("instance_binding", "category", "name"),
            episodes=2,
            queries=2,
        ),
    )
    mixture: Any = config.mixture
    for dataset in mixture.datasets:
        dataset["batch_size"] = min(dataset["batch_size"], 2)
    return config
