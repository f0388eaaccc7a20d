"""A tiny random Flamingo, in stacked variables and unstacked weights."""

from typing import Any, NamedTuple

import jax
import numpy as np
import pytest
import tokenizers

from flamingo_jax.data.tokenizer import Tokenizer
from flamingo_jax.inference.cache import PromptBatch
from flamingo_jax.inference.layers import Weights, unstack
from flamingo_jax.models.decoder import DecoderConfig
from flamingo_jax.models.flamingo import FlamingoConfig, FlamingoModel
from flamingo_jax.models.nfnet import VisionConfig
from flamingo_jax.models.resampler import ResamplerConfig
from flamingo_jax.models.xattn import CrossAttentionConfig

VOCAB, N, P, C, SIZE = 11, 3, 4, 5, 8


class Tiny(NamedTuple):
    config: FlamingoConfig
    variables: dict[str, Any]
    weights: Weights
    prompt: PromptBatch
    features_BxNxFxPxC: np.ndarray


def tiny_config(alpha: float, dtype: str = "float32") -> FlamingoConfig:
    return FlamingoConfig(
        vision=VisionConfig(SIZE, (4,), (2,), (8,), (1,), (2,), features=C),
        decoder=DecoderConfig(VOCAB, 16, 6, 4, 2, 4, 32),
        resampler=ResamplerConfig(16, 1, 4, 2, 8),
        xattn=CrossAttentionConfig(
            2, 8, first=1, every=2, alpha_init=alpha, alpha_dense_init=alpha
        ),
        dtype=dtype,
    )


def build(alpha: float, dtype: str = "float32") -> Tiny:
    config = tiny_config(alpha, dtype)
    model = FlamingoModel(config)
    draw = np.random.default_rng(0)
    features = draw.normal(size=(2, N, 1, P, C)).astype(np.float32)
    index = np.array([[0, 1, 1, 1, 2, 2, 2, 3], [0, 1, 1, 1, 1, 0, 0, 0]], np.int32)
    tokens = draw.integers(3, VOCAB, index.shape, dtype=np.int32)
    images = np.zeros((2, N, 1, SIZE, SIZE, 3), np.uint8)
    shapes = jax.eval_shape(
        lambda key: model.init(key, tokens, images, index, method="from_pixels"), jax.random.key(0)
    )
    variables = jax.tree_util.tree_map_with_path(
        lambda path, leaf: _initial(jax.tree_util.keystr(path), leaf.shape, draw, alpha), shapes
    )
    media = jax.jit(lambda v, f: model.apply(v, f, method="resample"))(variables, features)
    assert isinstance(media, jax.Array)
    prompt = PromptBatch(tokens, np.array([8, 5], np.int32), index, media)
    weights = unstack(config, variables["params"], variables["frozen"])
    return Tiny(config, variables, weights, prompt, features)


def _initial(name: str, shape: tuple[int, ...], draw: Any, alpha: float) -> np.ndarray:
    if "alpha" in name:
        return np.full(shape, alpha, np.float32)
    scale = 0.5 if "embedding" in name else 0.25
    return (draw.normal(size=shape) * scale + ("scale" in name)).astype(np.float32)


@pytest.fixture(scope="package")
def tiny() -> Tiny:
    return build(0.8)


def row(prompt: PromptBatch, b: int) -> PromptBatch:
    """One prompt of a batch, without padding."""
    length = int(np.asarray(prompt.length_B)[b])
    return PromptBatch(
        prompt.tokens_BxT[b : b + 1, :length],
        prompt.length_B[b : b + 1],
        prompt.media_index_BxT[b : b + 1, :length],
        prompt.media_BxNxRxD[b : b + 1],
    )


def extended(tiny: Tiny, b: int, ids: list[int]) -> tuple[np.ndarray, np.ndarray]:
    """Tokens and media index [1, T] of prompt b with a continuation."""
    one = row(tiny.prompt, b)
    tokens = np.concatenate([one.tokens_BxT[0], np.array(ids, np.int32)])[None]
    index = np.asarray(one.media_index_BxT)
    return tokens, np.concatenate([index, np.repeat(index[:, -1:], len(ids), 1)], axis=1)


@pytest.fixture(scope="package")
def next_log_probs(tiny: Tiny):
    """Uncached reference: (row, continuation) -> log p of the next token, by the training model."""
    model = FlamingoModel(tiny.config)
    apply = jax.jit(model.apply)
    length = tiny.prompt.tokens_BxT.shape[1] + 8

    def of(b: int, ids: list[int]) -> np.ndarray:
        tokens, index = extended(tiny, b, ids)
        pad = ((0, 0), (0, length - tokens.shape[1]))
        features = tiny.features_BxNxFxPxC[b : b + 1]
        logits = apply(tiny.variables, np.pad(tokens, pad), features, np.pad(index, pad))
        return np.asarray(jax.nn.log_softmax(logits[0, tokens.shape[1] - 1]))

    return of


def quadrants(images_MxHxWx3: np.ndarray) -> np.ndarray:
    """A stand-in for the vision encoder: mean colours of the four quadrants, [M, P, C]."""
    M, H, W, _ = images_MxHxWx3.shape
    blocks = images_MxHxWx3.reshape(M, 2, H // 2, 2, W // 2, 3).mean((2, 4)).reshape(M, P, 3)
    return np.pad(blocks / 64 - 2, ((0, 0), (0, 0), (0, C - 3))).astype(np.float32)


def word_tokenizer() -> tokenizers.Tokenizer:
    """Words a to h, and the three special tokens."""
    words = ["<|endoftext|>", "<image>", "<|endofchunk|>", *"abcdefgh"]
    model = tokenizers.models.WordLevel({word: i for i, word in enumerate(words)}, "a")
    tokenizer = tokenizers.Tokenizer(model)
    tokenizer.pre_tokenizer = tokenizers.pre_tokenizers.Whitespace()
    tokenizer.add_special_tokens(words[:3])
    return tokenizer


@pytest.fixture(scope="package")
def tokenizer() -> Tokenizer:
    return Tokenizer(word_tokenizer())
