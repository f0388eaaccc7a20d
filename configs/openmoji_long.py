"""`openmoji.py` with a budget of three hours on two CPU cores, half of it for the vision encoder.

python -m flamingo_jax.train --config=configs/openmoji_long.py --workdir=runs/openmoji_long
"""

import ml_collections

from configs import openmoji


def get_config() -> ml_collections.ConfigDict:
    """`openmoji.py` with more steps, stronger changes of the drawings, and more questions."""
    config = openmoji.get_config()
    config.update(
        vision_training=dict(
            steps=7500,
            warmup_steps=200,
            average=0.995,
            towers=dict(text_dropout=0.2),
            augment=dict(rotation=20.0, zoom=0.4, tint=0.4, erase=0.4),
        ),
        loop=dict(steps=720, save_every=100),
        optimizer=dict(decay_steps=300),
        evaluation=dict(shots=(0, 1, 2, 4, 8, 16), episodes=50),
    )
    return config
