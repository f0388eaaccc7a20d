"""Numbers that cannot be used are named before anything is made."""

import dataclasses
from pathlib import Path
from typing import Any

import pytest

from flamingo_jax.checks import check_config, check_decoder, check_drawable
from flamingo_jax.config import RunConfig
from flamingo_jax.data.datasets import MixtureConfig
from flamingo_jax.errors import UserError
from flamingo_jax.models.vit import ViTConfig
from flamingo_jax.parallel.mesh import MeshConfig
from tests.tiny_job import CONFIG, DECODER

EPISODES, VIDEO = CONFIG.mixture.datasets


def changed(section: str, **fields: Any) -> RunConfig:
    part = dataclasses.replace(getattr(CONFIG, section), **fields)
    return dataclasses.replace(CONFIG, **{section: part})


def with_dataset(**fields: Any) -> RunConfig:
    first = dataclasses.replace(EPISODES, **fields)
    return dataclasses.replace(CONFIG, mixture=MixtureConfig((first, VIDEO)))


def with_vit(**fields: Any) -> RunConfig:
    vision = ViTConfig(64, 8, 16, 1, 2, 32)
    return dataclasses.replace(CONFIG, vision=dataclasses.replace(vision, **fields))


@pytest.mark.parametrize(
    "config",
    [CONFIG, with_vit(), changed("vision", image_size=320), changed("resampler", max_frames=0)],
)
def test_a_good_config_passes(config: RunConfig) -> None:
    if config.resampler.max_frames == 0:
        config = dataclasses.replace(config, mixture=MixtureConfig((EPISODES,)))
    check_config(config, 1)


@pytest.mark.parametrize(
    ("config", "message"),
    [
        (dataclasses.replace(CONFIG, dtype="float16"), "dtype must be float32 or bfloat16"),
        (dataclasses.replace(CONFIG, seed=-1), "^seed must be 0 or more, not -1"),
        (changed("vision_training", seed=-1), r"vision_training\.seed must be 0 or more"),
        (changed("loop", steps=0), r"loop\.steps must be at least 1, not 0"),
        (changed("loop", save_every=0), r"loop\.save_every must be at least 1, not 0"),
        (changed("vision_training", log_every=0), r"vision_training\.log_every must be at least 1"),
        (changed("vision_training", batch=1), r"vision_training\.batch must be at least 2, not 1"),
        (changed("vision_training", warmup_steps=5), r"warmup_steps is 5 of 5 steps"),
        (with_vit(image_size=30), r"image_size is 30, which patches of 8 pixels do not fill"),
        (with_vit(num_heads=3), r"vision\.width is 16, which 3 heads cannot share"),
        (changed("resampler", project=False), r"width is 16 and .* features have 8 channels: set"),
        (changed("vision", depths=(1, 2)), r"vision\.widths has 1 entries and vision\.depths 2"),
        (changed("vision", stem=(4, 8)), r"vision\.stem has 2 entries and vision\.stem_strides 1"),
        (changed("xattn", first=3), r"xattn\.first is 3, but the decoder's layers are 0 to 2"),
        (changed("xattn", every=0), r"xattn\.every must be from 1 to 3 layers, not 0"),
        (changed("xattn", every=4), r"xattn\.every must be from 1 to 3 layers, not 4"),
        (changed("mesh", data=0), r"mesh\.data must be at least 1, not 0"),
        (changed("mesh", data=2), "The mesh .*data=2.* has 2 devices but JAX sees 1: lower"),
        (changed("mesh", tensor=0), r"mesh\.tensor must be at least 1, not 0"),
        (changed("mesh", rules={"head_s": ("tensor",)}), r"rules\.head_s: .* mean 'heads'\?"),
        (changed("mesh", rules={"heads": ("tensors",)}), r"rules\.heads: .* mean 'tensor'\?"),
        (changed("loop", max_bad_steps=0), r"loop\.max_bad_steps must be more than 0, not 0"),
        (changed("mixture", workers=-1), r"mixture\.workers must be 0 or more, not -1"),
        (
            dataclasses.replace(with_dataset(batch_size=3), mesh=MeshConfig(data=2)),
            r"datasets\[0\]\.batch_size is 3, which cannot be split into 2 parts over data of",
        ),
        (changed("mixture", datasets=()), "mixture.datasets is empty"),
        (changed("mixture", datasets=(VIDEO, VIDEO)), "has a name twice: video, video"),
        (with_dataset(batch_size=0), r"datasets\[0\]\.batch_size must be at least 1, not 0"),
        (with_dataset(frames=9), r"datasets\[0\]\.frames is 9, but resampler\.max_frames is 8"),
        (
            with_dataset(media=1, families={"same_different": 1.0}),
            r"datasets\[0\]\.media is 1, but same_different shows two images",
        ),
        (with_dataset(weight=-1.0), r"datasets\[0\]\.weight must be 0 or more"),
        (with_dataset(p_next=1.5), r"datasets\[0\]\.p_next must be from 0 to 1"),
        (with_dataset(families={"category": 0.0}), r"datasets\[0\]\.families must have shares"),
    ],
)
def test_a_wrong_number_is_named(config: RunConfig, message: str) -> None:
    with pytest.raises(UserError, match=message) as caught:
        check_config(config, 1)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("config", "message"),
    [
        (changed("vision", image_size=63), r"image_size is 63, but the drawings have 64 .* to 64"),
        (with_vit(), "vision is a ViT, but an NFNet is what is pretrained on the drawings"),
        (with_dataset(kind="interleaved"), "Data set episodes: the drawings make no pages"),
    ],
)
def test_what_the_drawings_cannot_give_is_named(config: RunConfig, message: str) -> None:
    check_drawable(CONFIG)
    check_config(config, 1)
    with pytest.raises(UserError, match=message) as caught:
        check_drawable(config)
    assert "\n" not in str(caught.value)


def test_a_decoder_unlike_the_file_says_where() -> None:
    other = dataclasses.replace(DECODER, num_layers=4, rope_base=7.0)
    check_decoder(DECODER, dataclasses.replace(DECODER), "a.gguf")
    with pytest.raises(UserError, match=r"a\.gguf, where num_layers is 3, not 4; rope_base is "):
        check_decoder(other, DECODER, "a.gguf")


def test_recipes_pass(monkeypatch: pytest.MonkeyPatch) -> None:
    from tests.test_config import RECIPES, configuration, recipe

    monkeypatch.syspath_prepend(str(Path(__file__).parent.parent))
    for path in RECIPES:
        config = configuration.resolve(recipe(path))
        check_config(config, config.mesh.devices)
