"""Token ids and images as arrays: checked, and laid out as the programs of this room want them.

Rows may be padded on either side. Inside, padding stands on the right and positions count real
tokens only, so that a row's result depends neither on its neighbours nor on where its padding is.

Axes: B batch, T text tokens, N media, F frames, H and W pixels, P grid positions, C feature
channels, R latents a medium, D width, V vocabulary.
"""

import dataclasses
import functools
from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np

from flamingo_jax.errors import UserError
from flamingo_jax.inference.cache import PromptBatch, round_up
from flamingo_jax.inference.layers import Weights, forward
from flamingo_jax.models.decoder import DecoderConfig
from flamingo_jax.models.flamingo import FlamingoConfig, FlamingoModel, causal_context
from flamingo_jax.models.vit import ViTConfig
from flamingo_jax.models.xattn import media_mask

Array = jax.Array
HostOrDevice = jax.Array | np.ndarray


@dataclasses.dataclass(frozen=True)
class Rows:
    """Sequences with their padding on the right.

    Attributes:
      tokens_BxT: int32.
      length_B: int32 tokens that are not padding.
      order_BxT: int32, where each place of a row was before.
      media_index_BxT: int32 number of media tokens at or before each token (φ of §2.3).
    """

    tokens_BxT: np.ndarray
    length_B: np.ndarray
    order_BxT: np.ndarray
    media_index_BxT: np.ndarray


def read_rows(
    tokens: HostOrDevice,
    attention_mask: HostOrDevice | None,
    image_ids: Sequence[int],
    vocab_size: int,
) -> Rows:
    """Checks token ids [B, T] and brings their padding to the right.

    Args:
      tokens: integers [B, T].
      attention_mask: bool [B, T], False at padding; None for none.
      image_ids: ids of media tokens.
      vocab_size: ids that there are.

    Raises:
      UserError: shapes, types or ids that cannot be used.
    """
    tokens_BxT = np.asarray(tokens)
    if tokens_BxT.ndim != 2 or not tokens_BxT.size or tokens_BxT.dtype.kind not in "iu":
        raise UserError(
            f"tokens must be integers [B, T], not {tokens_BxT.dtype} {list(tokens_BxT.shape)}."
        )
    low, high = int(tokens_BxT.min()), int(tokens_BxT.max())
    if low < 0 or high >= vocab_size:
        wrong = low if low < 0 else high
        raise UserError(f"Token id {wrong} is not in the vocabulary of {vocab_size} tokens.")
    real_BxT = np.ones(tokens_BxT.shape, bool)
    if attention_mask is not None:
        real_BxT = np.asarray(attention_mask).astype(bool)
        if real_BxT.shape != tokens_BxT.shape:
            raise UserError(
                f"attention_mask is {list(real_BxT.shape)}, tokens are {list(tokens_BxT.shape)}: "
                "give one value for each token."
            )
    if not real_BxT.any(axis=1).all():
        raise UserError("attention_mask leaves a row without a single token.")
    order_BxT = np.argsort(~real_BxT, axis=1, kind="stable")
    media_BxT = np.cumsum(np.isin(tokens_BxT, image_ids) & real_BxT, axis=1, dtype=np.int32)
    return Rows(
        np.take_along_axis(tokens_BxT, order_BxT, axis=1).astype(np.int32),
        real_BxT.sum(axis=1, dtype=np.int32),
        order_BxT,
        np.take_along_axis(media_BxT, order_BxT, axis=1),
    )


def read_images(images: HostOrDevice, batch: int, asked: int, config: FlamingoConfig) -> np.ndarray:
    """Checks images [B, N, F, H, W, 3].

    Args:
      images: float32, normalised.
      batch: B.
      asked: most media tokens of a row.
      config: of the model.

    Raises:
      UserError: shapes that cannot be used, or fewer images than media tokens.
    """
    pixels = np.asarray(images, np.float32)
    if pixels.ndim != 6 or pixels.shape[-1] != 3 or len(pixels) != batch or 0 in pixels.shape[2:]:
        raise UserError(
            f"images must be [B, N, F, H, W, 3] with B = {batch}, not {list(pixels.shape)}."
        )
    size = config.vision.image_size
    if isinstance(config.vision, ViTConfig) and pixels.shape[3:5] != (size, size):
        raise UserError(
            f"images are {pixels.shape[3]} x {pixels.shape[4]} pixels, the vision encoder takes "
            f"{size} x {size}: resize them."
        )
    if asked > pixels.shape[1]:
        raise UserError(
            f"A row has {asked} media tokens but images holds {pixels.shape[1]} media: give one "
            "for each."
        )
    return pixels


def read_mask(seen: HostOrDevice, rows: Rows, num_media: int) -> np.ndarray:
    """Checks who sees which media and follows the rows' order, bool [B, T, N], N as in `latents`.

    Args:
      seen: bool [B, T, N], by the tokens' places.
      rows: the tokens.
      num_media: N.

    Raises:
      UserError: `seen` has another shape.
    """
    given_BxTxN = np.asarray(seen).astype(bool)
    shape = (*rows.tokens_BxT.shape, num_media)
    if given_BxTxN.shape != shape:
        raise UserError(f"media_mask is {list(given_BxTxN.shape)}, not [B, T, N] = {list(shape)}.")
    ordered = np.take_along_axis(given_BxTxN, rows.order_BxT[..., None], axis=1)
    return ordered if num_media else np.zeros((*shape[:2], 1), bool)


def check_positions(rows: Rows, new_tokens: int, config: DecoderConfig) -> None:
    """Makes sure that learned positions reach to the end of every row and what follows it.

    Raises:
      UserError: a row is too long.
    """
    longest = int(rows.length_B.max())
    if config.positions == "learned" and longest + new_tokens > config.max_positions:
        follow = f" and {new_tokens} are to follow" if new_tokens else ""
        raise UserError(
            f"A row has {longest} tokens{follow}, but the language model has learned positions "
            f"for {config.max_positions} only: take fewer."
        )


@functools.partial(jax.jit, static_argnames="config")
def latents(
    config: FlamingoConfig, vision: HostOrDevice, resampler: HostOrDevice, images: HostOrDevice
) -> Array:
    """media_BxNxRxD of normalised images_BxNxFxHxWx3; of a blank one a row if N is 0."""
    if not images.shape[1]:
        images = jnp.zeros((len(images), 1, *images.shape[2:]), images.dtype)
    B, N, F, *size = images.shape
    model = FlamingoModel(config)
    variables = {"params": {"resampler": resampler}, "frozen": {"vision": vision}}
    flat = images.reshape(B * N * F, *size)
    features = model.apply(variables, flat, True, method="encode")
    assert isinstance(features, jax.Array)
    features_BxNxFxPxC = features.reshape(B, N, F, *features.shape[1:])
    media = model.apply(variables, features_BxNxFxPxC, method="resample")
    assert isinstance(media, jax.Array)
    return media


def prompt_batch(rows: Rows, media_BxNxRxD: Array, pad_id: int) -> PromptBatch:
    """Rows as prompts, their padding extended to a length that programs are kept for."""
    extra = round_up(rows.tokens_BxT.shape[1]) - rows.tokens_BxT.shape[1]
    pad = ((0, 0), (0, extra))
    return PromptBatch(
        np.pad(rows.tokens_BxT, pad, constant_values=pad_id),
        rows.length_B,
        np.pad(rows.media_index_BxT, pad, mode="edge"),
        media_BxNxRxD,
    )


def array_logits(
    config: FlamingoConfig,
    weights: Weights,
    rows: Rows,
    media_BxNxRxD: Array,
    seen_BxTxN: np.ndarray | None,
) -> np.ndarray:
    """Next-token logits float32 [B, T, V] at the places that the tokens had; zeros at padding.

    Args:
      config: of the model.
      weights: its weights.
      rows: the tokens.
      media_BxNxRxD: latents of the media.
      seen_BxTxN: bool, the media that each token sees, from `read_mask`; None for φ.
    """
    B, T = rows.tokens_BxT.shape
    if seen_BxTxN is None:
        index, N = jnp.asarray(rows.media_index_BxT), media_BxNxRxD.shape[1]
        seen_BxTxN = np.asarray(media_mask(index, N, config.xattn.sees))
    extra = ((0, 0), (0, round_up(T) - T))
    found = np.asarray(
        sequence_logits(
            config,
            weights,
            np.pad(rows.tokens_BxT, extra),
            media_BxNxRxD,
            np.pad(seen_BxTxN, (*extra, (0, 0))),
        )
    )
    logits_BxTxV = np.zeros((B, T, found.shape[-1]), np.float32)
    for b, length in enumerate(rows.length_B):
        logits_BxTxV[b, rows.order_BxT[b, :length]] = found[b, :length]
    return logits_BxTxV


@functools.partial(jax.jit, static_argnames="config")
def sequence_logits(
    config: FlamingoConfig,
    weights: Weights,
    tokens_BxT: HostOrDevice,
    media_BxNxRxD: Array,
    mask_BxTxN: HostOrDevice,
) -> Array:
    """Next-token logits, float32 [B, T, V], of sequences padded on the right."""
    context = causal_context(*tokens_BxT.shape)
    tokens, mask = jnp.asarray(tokens_BxT), jnp.asarray(mask_BxTxN)
    return forward(config, weights, tokens, media_BxNxRxD, mask, context)[0]
