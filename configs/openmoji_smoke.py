"""Every stage of `openmoji.py` in a few steps, to see that all of it runs.

python -m flamingo_jax.train --config=configs/openmoji_smoke.py --workdir=runs/smoke
"""

import ml_collections

from configs import openmoji


def get_config() -> ml_collections.ConfigDict:
    """`openmoji.py` with fewer steps and smaller batches."""
    config = openmoji.get_config()
    config.vision_training.steps = 6
    config.vision_training.batch = 32
    config.vision_training.save_every = 3
    config.loop.steps = 6
    config.loop.save_every = 3
    return config
