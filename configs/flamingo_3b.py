"""Flamingo-3B as published (arXiv:2204.14198, v2); 9B and 80B change a few fields of this recipe.

    python -m flamingo_jax.describe --config=configs/flamingo_3b.py

NFNet-F6 435 M, Perceiver Resampler 194 M, language model 1.4 B, gated cross-attention 1.2 B: 3.2 B.
Where the paper leaves a detail open, a comment says what is chosen here and why. Most are decided
by the paper's own table of parameters: each choice below gives its counts at all three sizes.

The data sets are not public: the recipe tells what the published run was made of. Batch sizes are
those of the ablations, the only ones that the paper tells.
"""

import copy
from typing import Any

import ml_collections

PAIR = dict(media=1, frames=1, families=dict(), p_next=0.0, eoc_weight=1.0)
"""An image before its text. The end of the chunk is a token like any other."""

M3W: dict[str, Any] = dict(
    name="m3w",
    kind="interleaved",
    batch_size=256,
    weight=1.0,
    length=256,
    media=5,
    max_answer_tokens=256,
    frames=1,
    families=dict(),
    p_next=0.5,
    eoc_weight=1.0,
)
ALIGN: dict[str, Any] = dict(
    PAIR, name="align", kind="pairs", batch_size=512, weight=0.2, length=32, max_answer_tokens=32
)
LTIP: dict[str, Any] = dict(
    PAIR, name="ltip", kind="pairs", batch_size=512, weight=0.2, length=64, max_answer_tokens=64
)
VTP: dict[str, Any] = dict(  # one frame a second
    PAIR,
    name="vtp",
    kind="video",
    batch_size=64,
    weight=0.03,
    length=32,
    max_answer_tokens=32,
    frames=8,
)


def get_config() -> ml_collections.ConfigDict:
    """The whole recipe; every field of `flamingo_jax.config.RunConfig` can be changed."""
    config = ml_collections.ConfigDict()
    config.seed = 0
    # Activations, gradients and what is frozen; trained parameters are float32 (appendix B.1.2).
    config.dtype = "bfloat16"

    config.vision = dict(  # NFNet-F6; 435 M is its count with the last 1x1 convolution, to 3072
        image_size=320,
        stem=(16, 32, 64, 128),
        stem_strides=(2, 1, 1, 2),
        widths=(256, 512, 1536, 1536),
        depths=(7, 14, 42, 21),
        strides=(1, 2, 2, 2),
        bottleneck=0.5,
        group_width=128,
        se_ratio=0.5,
        alpha=0.2,
        gain_init=0.0,
        features=3072,
    )
    # Appendix B.1.3, as far as there are fields for it: the paper's rate falls linearly, its text
    # encoder is a BERT, and it trains on 288 pixels.
    config.vision_training = dict(
        steps=1_200_000,
        batch=16_384,
        learning_rate=1e-3,
        warmup_steps=0,
        weight_decay=0.0,
        clip=0.01,
        average=0.0,
        languages=("en",),
        other_language=0.0,
        with_group=0.0,
        towers=dict(
            embedding=1376, text_hidden=3072, image_dropout=0.0, text_dropout=0.0, temperature=0.07
        ),
        # Flips and changes of colour, of strengths that are not published.
        augment=dict(
            rotation=0.0,
            zoom=0.0,
            stretch=0.0,
            shift=0.0,
            flip=0.5,
            hue=20.0,
            colour=0.3,
            tint=0.0,
            erase=0.0,
        ),
        log_every=100,
        save_every=5000,
        seed=0,
    )

    # Chinchilla 1.4B. The relative positions of Transformer-XL, which Gopher has, make 13 D² of
    # parameters a layer: 1.37 B here; any other positions make 12 D² and 1.27 B. The output
    # projection is the token embedding: one of its own would make the 9B's language model 7.2 B,
    # not 7.1 B. No biases: too few to be seen in the counts, and RMSNorm has none.
    config.decoder = dict(
        vocab_size=32_000,
        width=2048,
        num_layers=24,
        num_heads=16,
        num_kv_heads=16,
        head_dim=128,
        mlp_dim=8192,
        norm="rms",
        positions="relative",
        mlp="gelu",
        tied=True,
    )
    config.language = "frozen"
    # Heads of 128, as version 1 of the paper has them. Version 2 says 96 here, which would make
    # 175 M; 128, with a projection of the features to 1536, makes the table's 194 M.
    config.resampler = dict(
        width=1536,
        num_layers=6,
        num_latents=64,
        num_heads=16,
        head_dim=128,
        mlp_multiplier=4,
        max_frames=8,
        project=True,
        kind="perceiver",
        activation="squared_relu",
    )
    # The latents are projected to D once, before the keys and values of all layers: 12 D² a layer.
    # Keys and values of the 1536 wide latents themselves would make 8.4 B of the 80B's 10 B.
    config.xattn = dict(
        num_heads=16,
        head_dim=128,
        first=0,
        every=1,
        mlp_multiplier=4,
        conditioning="gated_xattn_dense",
        gating=True,
        sees="last",
        project_media=True,
        alpha_init=0.0,
        alpha_dense_init=0.0,
        relative=False,
        activation="squared_relu",
    )

    datasets = copy.deepcopy((M3W, ALIGN, LTIP, VTP))  # who changes this config changes its own
    config.mixture = dict(datasets=datasets, schedule="accumulate")
    config.optimizer = dict(  # Adam's decays are not published: the usual ones
        learning_rate=1e-4,
        gate_learning_rate=1e-4,
        warmup_steps=5000,
        decay_steps=0,
        weight_decay=0.1,
        clip_norm=1.0,
        b1=0.9,
        b2=0.999,
    )
    config.loop = dict(steps=500_000, log_every=100, save_every=5000)
    config.remat = "full"
    config.features = "in_step"
    config.mesh = dict(
        slice=1,
        data=1,
        fsdp=1,
        tensor=1,
        rules=dict(
            batch=("slice", "data", "fsdp"),
            images=("slice", "data", "fsdp", "tensor"),
            embed=("fsdp",),
            channels=("fsdp",),
            vocab=("tensor",),
            heads=("tensor",),
            kv_heads=("tensor",),
            mlp=("tensor",),
        ),
    )
    config.evaluation = dict(shots=(0, 4, 8, 16, 32), language_shots=8, gallery_shots=4)
    return config
