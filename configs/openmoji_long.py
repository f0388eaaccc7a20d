"""`openmoji.py` with a budget of three hours on two CPU cores, half of it for the vision encoder.

python -m flamingo_jax.train --config=configs/openmoji_long.py --workdir=runs/openmoji_long
"""

import ml_collections

from configs import openmoji


def get_config() -> ml_collections.ConfigDict:
    """`openmoji.py` with more steps."""
    config = openmoji.get_config()
    config.update(
        vision_training=dict(steps=4000, warmup_steps=200, average=0.99),
        loop=dict(steps=1500, save_every=100),
        optimizer=dict(decay_steps=300),
    )
    return config
