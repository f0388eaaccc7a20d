"""Clips: what the sentence says is what the frames show, through real files."""

import dataclasses

import numpy as np
import pytest

from flamingo_jax.data import video
from flamingo_jax.data.drawings import Drawing
from flamingo_jax.data.video import make_clip


def drawing(name: str, side: int = 64) -> Drawing:
    """A black bar, longer than wide, right of and above the centre."""
    image = np.full((side, side, 3), 255, np.uint8)
    image[10:40, 36:46] = 0
    return Drawing("a", "a", {"en": name}, "object", "g", None, "train", image)


def dark(frame: np.ndarray) -> np.ndarray:
    return np.clip(255.0 - frame.mean(-1), 0, None) * (frame.mean(-1) < 128)


def centre(frame: np.ndarray) -> tuple[float, float]:
    weight = dark(frame)
    y, x = np.mgrid[: frame.shape[0], : frame.shape[1]]
    return (x * weight).sum() / weight.sum(), (y * weight).sum() / weight.sum()


def clips(count: int = 60, frames: int = 4) -> list[tuple[np.ndarray, str]]:
    other = dataclasses.replace(drawing("ball"), image=drawing("ball").image[::-1])
    return [
        make_clip(drawing("red bar"), other, frames, np.random.default_rng(seed))
        for seed in range(count)
    ]


def test_shapes_sentences_and_motion() -> None:
    seen = set()
    for clip, text in clips():
        assert clip.shape == (4, 64, 64, 3)
        assert clip.dtype == np.uint8
        assert text.startswith("red bar ")
        words = text.removeprefix("red bar ")
        seen.add(words)
        (x0, y0), (x1, y1) = centre(clip[0]), centre(clip[-1])
        areas = [float(dark(frame).sum()) for frame in clip]
        if words.startswith("moves"):
            moved = {"right": x1 - x0, "left": x0 - x1, "down": y1 - y0, "up": y0 - y1}
            assert moved[words.split()[1]] > 10, words
        elif words.startswith("turns"):
            turn = (x0 - 31.5) * (y1 - 31.5) - (y0 - 31.5) * (x1 - 31.5)
            assert (turn > 0) == (words == "turns clockwise")  # y grows downwards
        elif words in ("grows", "shrinks"):
            assert (areas[-1] > 1.5 * areas[0]) == (words == "grows")
        else:
            assert words == "becomes ball"
            assert y1 - y0 > 10  # the other drawing is this one upside down
    assert seen == {
        *("moves right", "moves left", "moves up", "moves down", "grows", "shrinks"),
        *("turns clockwise", "turns anticlockwise", "becomes ball"),
    }


def test_both_formats_are_used(monkeypatch: pytest.MonkeyPatch) -> None:
    kinds = []
    real = video.decode_media

    def decode(content: bytes, frames: int) -> np.ndarray:
        kinds.append("MP4" if content[4:8] == b"ftyp" else content[:3].decode())
        return real(content, frames)

    monkeypatch.setattr(video, "decode_media", decode)
    clips(20)
    assert set(kinds) == {"MP4", "GIF"}


def test_equal_frames_that_a_gif_joins_come_back() -> None:
    blank = Drawing(
        "a", "a", {"en": "x"}, "o", "g", None, "train", np.full((64, 64, 3), 255, np.uint8)
    )
    for seed in range(10):
        clip, _ = make_clip(blank, blank, 5, np.random.default_rng(seed))
        assert clip.shape == (5, 64, 64, 3)
        assert (clip > 240).all()
