"""A random model small enough to run prompts one by one."""

import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from flamingo_jax.models.decoder import DecoderConfig
from flamingo_jax.models.flamingo import FlamingoConfig, FlamingoModel
from flamingo_jax.models.resampler import ResamplerConfig
from flamingo_jax.models.xattn import CrossAttentionConfig

VOCAB, END, P, C = 40, 5, 4, 6


def tiny_config(vocab: int = VOCAB) -> FlamingoConfig:
    return FlamingoConfig(
        decoder=DecoderConfig(vocab, 16, 4, 4, 2, 4, 32),
        resampler=ResamplerConfig(16, 1, 3, 2, 8),
        xattn=CrossAttentionConfig(2, 8, 1, 2, alpha_init=0.9, alpha_dense_init=0.5),
    )


@functools.cache
def tiny_model() -> tuple[FlamingoModel, Any]:
    """The model and its variables, with an embedding that makes its answers differ."""
    model = FlamingoModel(tiny_config())
    features = jnp.zeros((1, 1, 1, P, C))
    tokens = jnp.zeros((1, 2), jnp.int32)
    variables = jax.jit(model.init)(jax.random.key(0), tokens, features, tokens)
    embedding = jax.random.normal(jax.random.key(1), (VOCAB, 16))
    variables["frozen"]["language"]["embedding"] = embedding
    return model, variables


@functools.cache
def tiny_apply() -> Any:
    """The model's jitted forward pass."""
    return jax.jit(tiny_model()[0].apply)


def random_features(keys: list[int], seed: int = 0) -> dict[int, np.ndarray]:
    rng = np.random.default_rng(seed)
    return {key: rng.normal(size=(1, P, C)).astype(np.float32) for key in keys}
