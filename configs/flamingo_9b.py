"""Flamingo-9B as published (arXiv:2204.14198, v2), but for the number of language layers.

    python -m flamingo_jax.describe --config=configs/flamingo_9b.py

Language model 7.1 B, gated cross-attention 1.6 B; in all 9.36 B, of which the paper's 9.3 B is the
sum of the rounded parts. The paper's table gives this size 40 language layers, which contradicts
the counts beside it: at width 4096 they would have 8.9 B parameters, and the ten cross-attention
layers before every fourth of them 2.0 B. The 7.1 B model of Gopher (arXiv:2112.11446, table 1),
whose shapes Chinchilla's family follows, has 32 layers of this width, and these give both counts.
"""

import ml_collections

from configs import flamingo_3b


def get_config() -> ml_collections.ConfigDict:
    """`flamingo_3b.py` with a larger language model and a cross-attention before each 4th layer."""
    config = flamingo_3b.get_config()
    config.update(
        decoder=dict(width=4096, num_layers=32, num_heads=32, num_kv_heads=32, mlp_dim=16_384),
        xattn=dict(num_heads=32, every=4),
    )
    return config
