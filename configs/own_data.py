"""The main job with data of your own beside the drawings, weighted as the paper weighs its kinds.

    python -m flamingo_jax.train --config=configs/own_data.py:interleaved=pages,pairs=photos \
        --workdir=runs/own

After the colon: kinds and paths, see docs/data.md. Kinds are `interleaved`, `pairs` and `video`.
"""

from typing import Any

import ml_collections

from configs import openmoji
from flamingo_jax.errors import UserError

KINDS = dict(  # windows of M3W, captions and clips as in configs/flamingo_3b.py
    interleaved=dict(
        batch_size=2, weight=1.0, length=256, media=5, max_answer_tokens=256, p_next=0.5
    ),
    pairs=dict(batch_size=4, weight=0.2, length=64, media=1, max_answer_tokens=64),
    video=dict(batch_size=1, weight=0.03, length=64, media=1, max_answer_tokens=64, frames=8),
)


def get_config(sources: str = "") -> ml_collections.ConfigDict:
    """`openmoji.py` with a data set for each KIND=PATH of a list with commas between them."""
    config = openmoji.get_config()
    datasets = []
    for number, source in enumerate(filter(None, sources.split(","))):
        kind, _, path = source.partition("=")
        if kind not in KINDS or not path:
            raise UserError(
                f"configs/own_data.py takes KIND=PATH, pairs=photos for instance, not {source!r}: "
                f"kinds are {', '.join(KINDS)}."
            )
        name = f"own_{kind}_{number}"
        datasets.append(dict(KINDS[kind], name=name, kind=kind, path=path, eoc_weight=1.0))
    mixture: Any = config.mixture
    mixture.update(datasets=(*mixture.datasets, *datasets), workers=0, max_bad_fraction=0.1)
    return config
