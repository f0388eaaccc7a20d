"""A random model and a small tokenizer, small enough to run prompts one by one."""

import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import tokenizers
from tokenizers import models, pre_tokenizers

from flamingo_jax.data.tokenizer import Tokenizer
from flamingo_jax.inference.handle import Flamingo
from flamingo_jax.models.decoder import DecoderConfig
from flamingo_jax.models.flamingo import FlamingoConfig, FlamingoModel
from flamingo_jax.models.nfnet import VisionConfig
from flamingo_jax.models.resampler import ResamplerConfig
from flamingo_jax.models.xattn import CrossAttentionConfig

VOCAB, END, SIZE = 40, 5, 16
VISION = VisionConfig(
    image_size=SIZE,
    stem=(4,),
    stem_strides=(2,),
    widths=(8,),
    depths=(1,),
    strides=(2,),
    features=6,
)
P, C = (SIZE // 4) ** 2, 6


def tiny_tokenizer() -> Tokenizer:
    """Whole words up to id 39; every other word is id 6."""
    words = ["<|endoftext|>", "a", "b", "c", "<image>", "<|endofchunk|>", "?", "Output", ":"]
    words += [f"w{i}" for i in range(len(words), VOCAB)]
    model = models.WordLevel({word: i for i, word in enumerate(words)}, unk_token="?")
    tokenizer = tokenizers.Tokenizer(model)
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.add_special_tokens(["<|endoftext|>", "<image>", "<|endofchunk|>"])
    return Tokenizer(tokenizer)


@functools.cache
def tiny_variables() -> tuple[FlamingoConfig, Any]:
    """Config and variables, with an embedding that makes the answers differ."""
    config = FlamingoConfig(
        vision=VISION,
        decoder=DecoderConfig(VOCAB, 16, 4, 4, 2, 4, 32),
        resampler=ResamplerConfig(16, 1, 3, 2, 8),
        xattn=CrossAttentionConfig(2, 8, 1, 2, alpha_init=0.9, alpha_dense_init=0.5),
    )
    images = jnp.zeros((1, 1, 1, SIZE, SIZE, 3), jnp.uint8)
    tokens = jnp.zeros((1, 2), jnp.int32)
    init = functools.partial(FlamingoModel(config).init, method="from_pixels")
    variables = jax.jit(init)(jax.random.key(0), tokens, images, tokens)
    embedding = jax.random.normal(jax.random.key(1), (VOCAB, 16))
    variables["frozen"]["language"]["vocabulary"]["embedding"] = embedding
    return config, variables


def tiny_handle() -> Flamingo:
    return Flamingo.from_variables(*tiny_variables(), tiny_tokenizer())


@functools.cache
def tiny_apply() -> Any:
    """The training model's jitted forward pass."""
    return jax.jit(FlamingoModel(tiny_variables()[0]).apply)


def random_features(keys: list[int], seed: int = 0) -> dict[int, np.ndarray]:
    rng = np.random.default_rng(seed)
    return {key: rng.normal(size=(1, P, C)).astype(np.float32) for key in keys}
