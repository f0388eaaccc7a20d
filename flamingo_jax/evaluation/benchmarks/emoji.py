"""The main job's drawings, and the same things drawn by another artist.

Both ask for one of nine categories, of the same emojis: those of a single code point whose bases
the main job has kept for its test; supports are of the bases that it trains on. What differs
between the two figures is the hand that drew.
"""

import abc
import functools
import io
import json
from collections.abc import Iterator
from pathlib import Path

from PIL import Image, ImageDraw, ImageFont

from flamingo_jax.checkpoints.files import new_folder
from flamingo_jax.data.openmoji.catalogue import CATEGORIES, Entry, catalogue, split_of
from flamingo_jax.evaluation.benchmark import Example, File, Media
from flamingo_jax.evaluation.benchmarks.kinds import Classification
from flamingo_jax.evaluation.benchmarks.published import read_json

_FONT_SIZE = 109  # the only one that its bitmaps have
_WORDS = tuple(word for word in CATEGORIES.values() if word != "flag")


class Emoji(Classification):
    """One artist's drawings; they are written below the data folder when they are first read."""

    task = "categories of drawings"
    query, paper_query = "test", "test"
    splits = ("train", "validation", "test")
    files = ()

    def read(self, data_dir: Path, split: str) -> list[Example]:
        """See `Benchmark.read`."""
        self.check(data_dir, split)
        folder = data_dir / self.name
        if not folder.is_dir():
            with new_folder(folder) as part:
                self._write(data_dir, part)
        return super().read(data_dir, split)

    def examples(self, data_dir: Path, split: str) -> Iterator[Example]:
        for row in read_json(data_dir / self.name / "drawings.json"):
            if row["split"] == split:
                shown = (Media(data_dir / self.name / f"{row['code']}.png"),)
                words = (row["category"],)
                yield Example(row["code"], shown, answers=words, candidates=_WORDS)

    def _write(self, data_dir: Path, folder: Path) -> None:
        rows = []
        for entry in catalogue():
            if "-" in entry.code or entry.category not in _WORDS:
                continue
            picture = self.draw(data_dir, entry)
            if picture is not None:
                picture.save(folder / f"{entry.code}.png")
                about = {"code": entry.code, "category": entry.category}
                rows.append({**about, "split": split_of(entry.base)})
        (folder / "drawings.json").write_text(json.dumps(rows), encoding="utf-8")

    @abc.abstractmethod
    def draw(self, data_dir: Path, entry: Entry) -> Image.Image | None:
        """An emoji as a picture on white; None if the artist has not drawn it."""


class Openmoji(Emoji):
    """OpenMoji, which the main job trains on (CC BY-SA 4.0)."""

    name, title = "openmoji", "OpenMoji"

    def draw(self, data_dir: Path, entry: Entry) -> Image.Image | None:
        from flamingo_jax.data.openmoji.builder import render

        return Image.open(io.BytesIO(render(str(entry.svg))))


class NotoEmoji(Emoji):
    """Google's Noto Color Emoji (SIL Open Font License 1.1)."""

    name, title = "noto_emoji", "Noto Emoji"
    files = (
        File(
            "NotoColorEmoji.ttf",
            "Debian's fonts-noto-color-emoji: /usr/share/fonts/truetype/noto/NotoColorEmoji.ttf",
        ),
    )

    def draw(self, data_dir: Path, entry: Entry) -> Image.Image | None:
        font = _font(data_dir / "NotoColorEmoji.ttf")
        character = chr(int(entry.code, 16))
        box = font.getbbox(character)
        if font.getmask(character).getbbox() is None:
            return None
        picture = Image.new("RGB", (round(box[2] - box[0]), round(box[3] - box[1])), "white")
        ImageDraw.Draw(picture).text(
            (-box[0], -box[1]), character, "black", font, embedded_color=True
        )
        return picture


@functools.cache
def _font(path: Path) -> ImageFont.FreeTypeFont:
    return ImageFont.truetype(str(path), _FONT_SIZE)
