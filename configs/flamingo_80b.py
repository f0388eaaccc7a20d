"""Flamingo-80B as published (arXiv:2204.14198, v2): Chinchilla 70B under it.

    python -m flamingo_jax.describe --config=configs/flamingo_80b.py

Language model 70 B, gated cross-attention 9.7 B, which the paper calls 10 B; in all 80 B.
"""

import ml_collections

from configs import flamingo_3b


def get_config() -> ml_collections.ConfigDict:
    """`flamingo_3b.py` with Chinchilla 70B and a cross-attention before each 7th layer."""
    config = flamingo_3b.get_config()
    config.update(
        decoder=dict(width=8192, num_layers=80, num_heads=64, num_kv_heads=64, mlp_dim=32_768),
        xattn=dict(num_heads=64, every=7),
    )
    return config
