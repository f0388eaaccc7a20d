"""Logits and greedy tokens of arrays, against the training model and whatever the padding."""

import dataclasses

import jax
import numpy as np
import pytest

from flamingo_jax.data.tokenizer import TextConfig
from flamingo_jax.errors import UserError
from flamingo_jax.inference.arrays import read_rows
from flamingo_jax.inference.handle import Flamingo
from flamingo_jax.models.flamingo import FlamingoModel, causal_context
from flamingo_jax.models.flamingo import Seen as SeenMedia
from flamingo_jax.models.nfnet import normalise
from tests.inference.conftest import SIZE, VOCAB, Tiny

IMAGE, PAD = 1, 0
TEXT = TextConfig(image_id=IMAGE, eoc_id=2, pad_id=PAD, bos_id=0)
TOKENS = np.array([[5, 1, 4, 6, 1, 7, 8], [1, 3, 9, 10, 4, 5, 6]], np.int32)
DRAW = np.random.default_rng(0)
PIXELS = DRAW.integers(0, 256, (2, 2, 1, SIZE, SIZE, 3), dtype=np.uint8)
IMAGES = np.asarray(normalise(PIXELS))


@pytest.fixture(scope="module")
def handle(tiny: Tiny) -> Flamingo:
    return Flamingo.from_variables(tiny.config, tiny.variables, TEXT)


def padded(side: str, extra: int = 3) -> tuple[np.ndarray, np.ndarray]:
    """Tokens with padding on one side, and the mask that says so."""
    width = ((0, 0), (extra, 0)) if side == "left" else ((0, 0), (0, extra))
    return np.pad(TOKENS, width, constant_values=PAD), np.pad(np.ones_like(TOKENS), width)


def test_logits_equal_the_training_models(handle: Flamingo, tiny: Tiny) -> None:
    index = np.cumsum(TOKENS == IMAGE, axis=1)
    expected = jax.jit(
        lambda *inputs: FlamingoModel(tiny.config).apply(*inputs, method="from_pixels")
    )(tiny.variables, TOKENS, PIXELS, index)
    np.testing.assert_allclose(handle.logits(TOKENS, IMAGES), expected, atol=2e-5)


@pytest.mark.parametrize("side", ["left", "right"])
def test_padding_on_either_side_changes_nothing(handle: Flamingo, side: str) -> None:
    tokens, mask = padded(side)
    got = handle.logits(tokens, IMAGES, attention_mask=mask)
    kept = mask.astype(bool)
    expected = handle.logits(TOKENS, IMAGES).reshape(-1, VOCAB)
    np.testing.assert_allclose(got[kept], expected, atol=1e-5)
    assert not got[~kept].any()


@pytest.mark.slow
def test_a_mask_of_media_is_what_tokens_see(handle: Flamingo, tiny: Tiny) -> None:
    """Both, none or the later of two images, against the language model called with that mask."""
    mask = DRAW.random((2, 7, 2)) < 0.5
    model = FlamingoModel(tiny.config)
    features = model.apply(tiny.variables, PIXELS.reshape(-1, SIZE, SIZE, 3), method="encode")
    media = model.apply(
        tiny.variables,
        np.asarray(features).reshape(2, 2, 1, *features.shape[1:]),
        method="resample",
    )
    expected = jax.jit(
        lambda v, t, s: model.apply(v, t, s, method=lambda m, t, s: m.language(t, s))
    )(tiny.variables, TOKENS, SeenMedia(media, mask, causal_context(2, 7)))
    np.testing.assert_allclose(handle.logits(TOKENS, IMAGES, mask), expected, atol=2e-5)
    tokens, real = padded("left")
    wide = np.pad(mask, ((0, 0), (3, 0), (0, 0)))
    got = handle.logits(tokens, IMAGES, wide, real)
    np.testing.assert_allclose(got[:, 3:], expected, atol=2e-5)


def test_no_images_leave_the_language_model(handle: Flamingo) -> None:
    text = np.where(TOKENS == IMAGE, 9, TOKENS)
    none = np.zeros((2, 0, 1, SIZE, SIZE, 3), np.float32)
    np.testing.assert_array_equal(handle.logits(text, none), handle.logits(text, IMAGES))
    masked = handle.logits(TOKENS, none, np.zeros((2, 7, 0), bool))
    np.testing.assert_array_equal(masked, handle.logits(TOKENS, IMAGES, np.zeros((2, 7, 2), bool)))
    tokens, real = padded("left")
    masked = handle.logits(tokens, none, np.zeros((2, 10, 0), bool), real)[:, 3:]
    np.testing.assert_allclose(masked, handle.logits(TOKENS, none, np.zeros((2, 7, 0))), atol=1e-5)


@pytest.mark.parametrize("side", ["left", "right"])
def test_greedy_tokens_are_the_uncached_models(handle: Flamingo, side: str) -> None:
    expected = TOKENS
    for _ in range(6):
        best = handle.logits(expected, IMAGES)[:, -1].argmax(-1)
        expected = np.concatenate([expected, best[:, None].astype(np.int32)], axis=1)
        assert not (best == IMAGE).any()
    tokens, mask = padded(side)
    got = handle.generate_tokens(tokens, IMAGES, 6, mask)
    np.testing.assert_array_equal(got, expected[:, TOKENS.shape[1] :])


def test_a_model_without_tokenizer_says_so(handle: Flamingo) -> None:
    with pytest.raises(UserError, match="without a tokenizer: use generate_tokens"):
        handle.generate(["a"], [[]])


def test_all_earlier_images_are_seen_where_the_config_says_so(tiny: Tiny) -> None:
    xattn = dataclasses.replace(tiny.config.xattn, sees="all")
    config = dataclasses.replace(tiny.config, xattn=xattn)
    everything = Flamingo.from_variables(config, tiny.variables, TEXT)
    last = Flamingo.from_variables(tiny.config, tiny.variables, TEXT)
    number = np.cumsum(TOKENS == IMAGE, axis=1)
    mask = number[..., None] >= np.arange(1, 3)
    np.testing.assert_allclose(
        everything.logits(TOKENS, IMAGES), last.logits(TOKENS, IMAGES, mask), atol=1e-5
    )
    new = everything.generate_tokens(TOKENS, IMAGES, 2)
    longer = np.concatenate([TOKENS, new[:, :1]], axis=1)
    np.testing.assert_array_equal(everything.logits(longer, IMAGES)[:, -1].argmax(-1), new[:, 1])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"tokens": TOKENS.astype(np.float32)}, r"tokens must be integers \[B, T\]"),
        ({"tokens": TOKENS[0]}, r"tokens must be integers \[B, T\]"),
        ({"tokens": TOKENS + VOCAB}, "is not in the vocabulary of 11 tokens"),
        ({"images": IMAGES[:, :1]}, "2 media tokens but images holds 1"),
        ({"images": IMAGES[:1]}, r"must be \[B, N, F, H, W, 3\] with B = 2"),
        ({"attention_mask": np.ones((2, 3))}, "attention_mask is"),
        ({"attention_mask": np.zeros((2, 7))}, "a row without a single token"),
        ({"media_mask": np.ones((2, 7, 5))}, "media_mask is"),
        ({"media_mask": np.ones((2, 7, 0))}, r"media_mask is \[2, 7, 0\], not .* \[2, 7, 2\]"),
        ({"images": IMAGES[:, :0], "media_mask": np.ones((2, 7, 1))}, r"not .* = \[2, 7, 0\]"),
    ],
)
def test_arrays_that_cannot_be_used(handle: Flamingo, change: dict, message: str) -> None:
    with pytest.raises(UserError, match=message):
        handle.logits(**{"tokens": TOKENS, "images": IMAGES, **change})


def test_rows_keep_their_order_and_count_their_media() -> None:
    rows = read_rows(np.array([[0, 1, 7, 0, 1]]), np.array([[0, 1, 1, 0, 1]]), (IMAGE,), VOCAB)
    np.testing.assert_array_equal(rows.tokens_BxT, [[1, 7, 1, 0, 0]])
    np.testing.assert_array_equal(rows.length_B, [3])
    np.testing.assert_array_equal(rows.media_index_BxT[0, :3], [1, 1, 2])
