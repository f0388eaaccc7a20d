"""The common configuration of the speed comparison with other Flamingo implementations.

    python -m flamingo_jax.benchmark --config=configs/benchmark_common.py

An MPT-like language model and a CLIP ViT, both frozen and random, under OpenFlamingo's resampler
and gated cross-attention: 68.6 M parameters, 16.0 M of them trained.
"""

import ml_collections


def get_config() -> ml_collections.ConfigDict:
    """Fields of `flamingo_jax.speed.workload.BenchmarkConfig`."""
    config = ml_collections.ConfigDict()
    config.seed = 0
    config.dtype = "float32"
    config.unroll = True
    config.remat = "dots"  # 450 MB of intermediate values instead of 493
    config.vision = dict(
        image_size=224, patch_size=16, width=384, num_layers=6, num_heads=6, mlp_dim=1536
    )
    config.decoder = dict(
        vocab_size=32_000,
        width=512,
        num_layers=8,
        num_heads=8,
        num_kv_heads=8,
        head_dim=64,
        mlp_dim=2048,
        norm="layer",
        positions="alibi",
        mlp="gelu",
    )
    config.resampler = dict(
        width=384,
        num_layers=2,
        num_latents=64,
        num_heads=8,
        head_dim=64,
        mlp_multiplier=4,
        max_frames=0,
        project=False,
        activation="gelu",
        norm_eps=1e-5,
    )
    config.xattn = dict(
        num_heads=8,
        head_dim=64,
        first=1,
        every=2,
        mlp_multiplier=4,
        activation="gelu",
        norm_eps=1e-5,
    )
    config.optimizer = dict(learning_rate=1e-4, gate_learning_rate=1e-4, warmup_steps=0)
    config.work = dict(batch=4, tokens=128, images=2, prompt=64, new_tokens=64, repeats=5)
    config.scaling = dict(  # another, smaller model: flamingo_jax.speed.workload.ScalingConfig
        devices=(1, 2, 4, 8),
        tokens=(64, 128, 256),
        images=(1, 2, 4),
        layers=(4, 8, 16),
        remat=("none", "dots", "full"),
        width=128,
        vocab_size=2048,
        image_size=64,
        batch=8,
        repeats=3,
    )
    return config
