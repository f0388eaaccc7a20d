"""Short clips made of drawings, each with a sentence that tells what happens."""

import numpy as np

from flamingo_jax.data.drawings import Drawing
from flamingo_jax.data.media import decode_media, encode_gif, encode_mp4
from flamingo_jax.data.views import transform

_MOVES = {"right": (1, 0), "left": (-1, 0), "down": (0, 1), "up": (0, -1)}


def make_clip(
    first: Drawing, second: Drawing, frames: int, rng: np.random.Generator
) -> tuple[np.ndarray, str]:
    """A clip encoded as a real GIF or MP4 and decoded again, and its description.

    Args:
      first: what is shown.
      second: what it becomes, in the clips where one becomes another.
      frames: F.
      rng: decides on motion and format.

    Returns:
      uint8 [F, H, W, 3], and text such as `red apple moves left`.
    """
    clip, text = _story(first, second, np.linspace(0, 1, frames), rng)
    encode = encode_gif if rng.random() < 0.5 else encode_mp4
    decoded = decode_media(encode(clip), frames)
    if len(decoded) < frames:  # GIF joins equal frames
        decoded = decoded[np.linspace(0, len(decoded) - 1, frames).round().astype(int)]
    return decoded, text


def _story(
    first: Drawing, second: Drawing, times: np.ndarray, rng: np.random.Generator
) -> tuple[np.ndarray, str]:
    name, kind = first.names["en"], rng.integers(4)
    if kind == 0:
        word = list(_MOVES)[int(rng.integers(4))]
        right, down = _MOVES[word]
        reach = [0.6 * (t - 0.5) for t in times]
        clip = [transform(first.image, 0, 0.7, right * r, down * r) for r in reach]
        return np.stack(clip), f"{name} moves {word}"
    if kind == 1:
        word, sign = ("clockwise", 1) if rng.random() < 0.5 else ("anticlockwise", -1)
        clip = [transform(first.image, sign * 90 * t, 0.8, 0, 0) for t in times]
        return np.stack(clip), f"{name} turns {word}"
    if kind == 2:
        word, start, end = ("grows", 0.4, 1.0) if rng.random() < 0.5 else ("shrinks", 1.0, 0.4)
        clip = [transform(first.image, 0, start + (end - start) * t, 0, 0) for t in times]
        return np.stack(clip), f"{name} {word}"
    shown = [(1 - t) * first.image + t * second.image for t in times]
    return np.stack(shown).round().astype(np.uint8), f"{name} becomes {second.names['en']}"
