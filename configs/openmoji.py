"""The main job: few-shot Flamingo on OpenMoji drawings over SmolLM2-135M, on two CPU cores.

    python -m flamingo_jax.train --config=configs/openmoji.py --workdir=runs/openmoji

Two things differ from the paper, because a few hundred steps do not forgive what its 500,000 do:
the attention gates start slightly open (`alpha_init`), and what the cross-attention adds is scaled
by the hidden state that it is added to (`relative`). docs/training.md tells more.
"""

import ml_collections


def get_config() -> ml_collections.ConfigDict:
    """The whole recipe; every field of `flamingo_jax.config.RunConfig` can be changed."""
    config = ml_collections.ConfigDict()
    config.seed = 0
    config.dtype = "float32"
    config.unroll = True  # a step takes 4.8 s, not 5.6; compiling 80 s, not 40

    config.vision = dict(
        image_size=64,
        stem=(24, 48),
        stem_strides=(2, 2),
        widths=(64, 128, 256),
        depths=(1, 2, 2),
        strides=(1, 2, 2),
        bottleneck=0.5,
        group_width=None,
        se_ratio=0.5,
        alpha=0.2,
        features=256,
    )
    config.vision_training = dict(
        steps=760,
        batch=128,
        learning_rate=2e-3,
        warmup_steps=50,
        weight_decay=0.05,
        clip=0.1,
        average=0.98,
        other_language=0.3,
        with_group=0.5,
        towers=dict(
            embedding=128, text_hidden=512, image_dropout=0.1, text_dropout=0.1, temperature=0.1
        ),
        augment=dict(
            rotation=15.0,
            zoom=0.3,
            stretch=0.2,
            shift=0.12,
            flip=0.5,
            hue=20.0,
            colour=0.3,
            tint=0.3,
            erase=0.25,
        ),
        log_every=20,
        save_every=100,
        seed=0,
    )

    config.decoder = dict(  # SmolLM2-135M
        vocab_size=49152,
        width=576,
        num_layers=30,
        num_heads=9,
        num_kv_heads=3,
        head_dim=64,
        mlp_dim=1536,
        rope_base=100_000.0,
        norm_eps=1e-5,
    )
    config.resampler = dict(
        width=256,
        num_layers=2,
        num_latents=16,
        num_heads=4,
        head_dim=64,
        mlp_multiplier=4,
        max_frames=8,
    )
    config.xattn = dict(
        num_heads=9,
        head_dim=64,
        first=0,
        every=6,
        mlp_multiplier=4,
        alpha_init=0.25,
        alpha_dense_init=0.0,
        relative=True,
    )

    config.mixture = dict(
        datasets=(
            dict(
                name="episodes",
                kind="episodes",
                batch_size=12,
                weight=1.0,
                length=44,
                media=6,
                max_answer_tokens=24,
                frames=1,
                families=dict(
                    category=0.28,
                    instance_binding=0.46,
                    category_binding=0.14,
                    colour=0.07,
                    same_different=0.05,
                ),
                p_next=0.2,
                eoc_weight=0.1,
            ),
            dict(
                name="names",
                kind="episodes",
                batch_size=1,
                weight=0.2,
                length=64,
                media=6,
                max_answer_tokens=32,
                frames=1,
                families=dict(name=1.0),
                p_next=0.2,
                eoc_weight=0.1,
            ),
            dict(
                name="pairs",
                kind="pairs",
                batch_size=2,
                weight=0.1,
                length=24,
                media=1,
                max_answer_tokens=16,
                frames=1,
                families=dict(),
                p_next=0.2,
                eoc_weight=0.1,
            ),
            dict(
                name="video",
                kind="video",
                batch_size=1,
                weight=0.05,
                length=32,
                media=1,
                max_answer_tokens=24,
                frames=4,
                families=dict(),
                p_next=0.2,
                eoc_weight=0.1,
            ),
        )
    )

    config.optimizer = dict(
        learning_rate=2e-3,
        gate_learning_rate=3e-3,
        warmup_steps=15,
        decay_steps=60,
        weight_decay=0.1,
        clip_norm=1.0,
        b1=0.9,
        b2=0.98,
    )
    config.loop = dict(steps=185, log_every=1, save_every=50)
    config.mesh = dict(slice=1, data=1, fsdp=1, tensor=1)
    config.evaluation = dict(
        shots=(0, 4, 8, 16),
        families=(
            "instance_binding",
            "category_binding",
            "colour_binding",
            "category",
            "name",
            "colour",
            "same_different",
        ),
        episodes=25,
        queries=8,
        seed=0,
        language_shots=8,
        gallery_shots=4,
        batch=1,  # on a CPU a sequence takes as long alone, and none is padding
        tokens=384,
        media=48,
        logits=192,
        targets=768,
    )
    return config
