"""Flamingo on the figures of a manual: pages, their captioned figures, and the main job's pairs.

    python -m flamingo_jax.data.extract --config=configs/data/gimp_help.py --output=runs/gimp_help
    python -m flamingo_jax.train --config=configs/gimp_manual.py --workdir=runs/gimp_manual

A quarter of the pages is held out. At the end the loss on the captions of their figures is measured
with the figures, with figures of other pages in their place, and with white images.
"""

from typing import Any

import ml_collections

from configs import openmoji

PAGES = "runs/gimp_help"


def get_config() -> ml_collections.ConfigDict:
    """`openmoji.py` with other data, a few more steps, and less that is asked of it at the end."""
    config: Any = openmoji.get_config()
    own = dict(path=PAGES, held_out=4, eoc_weight=0.1)
    pairs = next(dataset for dataset in config.mixture.datasets if dataset["name"] == "pairs")
    config.mixture.datasets = (
        dict(
            name="pages",
            kind="interleaved",
            batch_size=1,
            weight=0.5,
            length=256,
            media=5,
            max_answer_tokens=256,
            p_next=0.5,
            **own,
        ),
        dict(
            name="figures",
            kind="pairs",
            batch_size=8,
            weight=1.0,
            length=32,
            media=1,
            max_answer_tokens=32,
            **own,
        ),
        pairs,
    )
    config.loop.steps = 240
    config.evaluation.update(
        shots=(0, 4), families=("category",), episodes=10, queries=4, language_shots=4
    )
    return config
