"""Drawings of two artists: the same emojis, on the main job's sides of the split."""

import dataclasses
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from flamingo_jax.data.openmoji.catalogue import catalogue, split_of
from flamingo_jax.errors import UserError
from flamingo_jax.evaluation.benchmarks import emoji
from flamingo_jax.evaluation.benchmarks.emoji import NotoEmoji, Openmoji


@pytest.fixture
def few(monkeypatch: pytest.MonkeyPatch) -> None:
    """The catalogue's first emojis of each category, and some that are not asked."""
    entries = catalogue()[::60]
    monkeypatch.setattr(emoji, "catalogue", lambda: entries)


@pytest.mark.usefixtures("few")
def test_drawings_are_the_main_jobs_and_on_its_sides(tmp_path: Path) -> None:
    sides = {e.code: (split_of(e.base), e.category) for e in emoji.catalogue()}
    asked = {code for code, (_, word) in sides.items() if "-" not in code and word != "flag"}
    found = {split: Openmoji().read(tmp_path, split) for split in Openmoji.splits}
    assert {e.id for examples in found.values() for e in examples} == asked
    for split, examples in found.items():
        for example in examples:
            assert (split, example.answers[0]) == sides[example.id]
            assert example.answers[0] in example.candidates
    assert Image.open(found["train"][0].media[0].path).size == (64, 64)


@pytest.mark.usefixtures("few")
def test_another_artists_font_is_asked_for(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"NotoColorEmoji\.ttf, which is not there"):
        NotoEmoji().read(tmp_path, "test")
    assert list(tmp_path.iterdir()) == []


def test_a_glyph_is_drawn_whole_on_white(tmp_path: Path, monkeypatch) -> None:
    """With a font that any machine has: Pillow's own."""
    font = emoji.ImageFont.load_default(64)
    monkeypatch.setattr(emoji, "_font", lambda path: font)
    entry = next(e for e in catalogue() if "-" not in e.code)
    picture = NotoEmoji().draw(tmp_path, dataclasses.replace(entry, code="0041"))
    assert picture is not None
    dark = np.asarray(picture.convert("L")) < 128
    assert 0.1 < dark.mean() < 0.7
    assert dark.any(axis=0).mean() > 0.8
    assert NotoEmoji().draw(tmp_path, dataclasses.replace(entry, code="0020")) is None
