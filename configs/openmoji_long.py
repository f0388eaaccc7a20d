"""`openmoji.py` with a budget of three hours on two CPU cores, half of it for the vision encoder.

python -m flamingo_jax.train --config=configs/openmoji_long.py --workdir=runs/openmoji_long
"""

from typing import Any

import ml_collections

from configs import openmoji


def get_config() -> ml_collections.ConfigDict:
    """`openmoji.py`: deeper encoder, stronger augmentation, and more steps, names and questions."""
    config: Any = openmoji.get_config()
    config.vision.update(widths=(64, 128, 384), depths=(1, 2, 3))
    config.vision_training.update(
        steps=4000,
        warmup_steps=200,
        average=0.995,
        towers=dict(image_dropout=0.2, text_dropout=0.2),
        augment=dict(rotation=20.0, zoom=0.4, tint=0.4, erase=0.4),
    )
    episodes, names, *_ = config.mixture.datasets
    episodes.update(
        batch_size=10,
        families=dict(
            category=0.27,
            instance_binding=0.36,
            category_binding=0.24,
            colour=0.08,
            same_different=0.05,
        ),
    )
    names.update(batch_size=3, weight=0.3)
    config.update(
        loop=dict(steps=600, save_every=100),
        optimizer=dict(decay_steps=300),
        evaluation=dict(shots=(0, 1, 2, 4, 8, 16), episodes=50),
    )
    return config
