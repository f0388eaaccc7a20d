"""Prompts as a user gives them: text with `<image>` markers, and the images they stand for.

Axes: T text tokens, F frames, H and W pixels.
"""

import dataclasses
import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from flamingo_jax.data.media import Fit, decode_media, fitted
from flamingo_jax.data.tokenizer import Tokenizer
from flamingo_jax.errors import UserError

Picture = str | os.PathLike[str] | bytes | Image.Image | np.ndarray
Media = Picture | Sequence[Picture]
"""A path, a file's bytes, a PIL image, uint8 [H, W, 3] or [F, H, W, 3]; or frames of a video."""


@dataclasses.dataclass(frozen=True)
class Prompt:
    """One prompt, read.

    Attributes:
      tokens: ids, the id that starts every sequence first.
      media: uint8 [F, size, size, 3] for each `<image>`.
    """

    tokens: tuple[int, ...]
    media: tuple[np.ndarray, ...]


def read_prompt(text: str, images: Sequence[Media], tokenizer: Tokenizer, size: int) -> Prompt:
    """Tokenizes a text and reads its images.

    Args:
      text: with `<image>` where each image is shown.
      images: in the order of the markers.
      tokenizer: of the model.
      size: side of the vision encoder's input, pixels.

    Raises:
      UserError: the counts of markers and images differ, or an image cannot be read.
    """
    marker, tokens = tokenizer.text.image_token, prompt_tokens(text, tokenizer)
    markers = sum(token in tokenizer.text.image_ids for token in tokens)
    if markers != len(images):
        raise UserError(
            f"The prompt has {markers} {marker} markers but {len(images)} images were given: "
            "give one image for each marker."
        )
    return Prompt(tokens, tuple(read_media(image, size, tokenizer.text.fit) for image in images))


def prompt_tokens(text: str, tokenizer: Tokenizer) -> tuple[int, ...]:
    """Ids of a text with `<image>` markers, what starts a sequence and stands around images too."""
    marker, around = tokenizer.text.image_token, tokenizer.text.around_image
    if around:
        text = text.replace(around, "").replace(marker, f"{around}{marker}{around}")
        text = text.replace(around * 2, around)
    return (*tokenizer.start(), *tokenizer.encode(text))


def read_media(source: Media, size: int, fit: Fit = "pad") -> np.ndarray:
    """An image or a video as uint8 [F, size, size, 3], made square as `fit` says.

    Raises:
      UserError: it cannot be read; the message names it.
    """
    if isinstance(source, str | os.PathLike):
        frames = decode_media(Path(source))
    elif isinstance(source, bytes):
        frames = decode_media(source)
    elif isinstance(source, Image.Image):
        return fitted(source, size, fit)[None]
    elif isinstance(source, np.ndarray):
        frames = source if source.ndim == 4 else source[None]
    elif isinstance(source, Sequence) and source:
        return np.concatenate([read_media(frame, size, fit) for frame in source])
    else:
        raise UserError(f"An image is a path, bytes, a PIL image or an array, not {source!r}.")
    if frames.dtype != np.uint8 or frames.ndim != 4 or frames.shape[-1] != 3 or not frames.size:
        raise UserError(
            "An image array must be uint8 of shape [H, W, 3] or [F, H, W, 3], "
            f"not {frames.dtype} {list(frames.shape)}."
        )
    return np.stack([fitted(Image.fromarray(frame), size, fit) for frame in frames])


def check_lengths(prompts: Sequence[Prompt], new_tokens: Sequence[int], limit: int) -> None:
    """Refuses a prompt that does not fit with what follows it.

    Args:
      prompts: read prompts.
      new_tokens: tokens to be added to each.
      limit: most tokens of a sequence.

    Raises:
      UserError: the message tells the lengths and what to change.
    """
    for number, (prompt, new) in enumerate(zip(prompts, new_tokens, strict=True), 1):
        if len(prompt.tokens) + new > limit:
            raise UserError(
                f"Prompt {number} has {len(prompt.tokens)} tokens and {new} are to follow, but "
                f"max_tokens is {limit}: shorten the prompt, lower max_new_tokens, or raise "
                "max_tokens if the language model was trained for longer texts."
            )


def media_index(tokens: np.ndarray, image_ids: Sequence[int]) -> np.ndarray:
    """φ of arXiv:2204.14198, §2.3: 1-based last medium at or before each token, int32 [..., T]."""
    return np.cumsum(np.isin(tokens, image_ids), axis=-1, dtype=np.int32)
