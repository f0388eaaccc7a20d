"""How fast pages are extracted, beside a parser that only builds their trees."""

import io
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import numpy as np
from PIL import Image
from selectolax.lexbor import LexborHTMLParser

from flamingo_jax.data.web import charset, html, inputs
from flamingo_jax.data.web.extraction import extract
from flamingo_jax.data.web.run import RunnerConfig, run
from flamingo_jax.data.web.settings import Settings

_PARAGRAPHS, _IMAGES, _SIDE = 20, 3, 320


def extraction_speed(pages: int = 500, folder: Path | None = None) -> list[dict]:
    """Times each stage on the same pages, all in one process.

    Args:
      pages: how many are made up, of 20 paragraphs and 3 photograph-like JPEGs of 320 pixels.
      folder: pages to time instead.

    Returns:
      Rows with `stage`, `pages_per_s` and `share_of_parsing`, the pages a second by those of bare
      parsing: `parse` builds the tree; `read` decodes the charset and finds texts and references;
      `extract` looks up, decodes and judges the images too; `beam` is the whole command's work,
      with duplicates and writing, on one worker.
    """
    with tempfile.TemporaryDirectory() as made:
        where = folder or _made_up(Path(made) / "pages", pages)
        units = inputs.units([str(where)])
        contents = [path.read_bytes() for unit in units for path in unit.pages or ()]
        texts = [charset.decode(content) for content in contents]

        def whole() -> None:
            output = Path(made) / "output"
            output.mkdir()
            run(units, Settings(), output, RunnerConfig())

        stages: dict[str, Callable[[], object]] = {
            "parse": lambda: [LexborHTMLParser(text) for text in texts],
            "read": lambda: [html.read(charset.decode(content)) for content in contents],
            "extract": lambda: [list(extract(unit, Settings(), Counter())) for unit in units],
            "beam": whole,
        }
        rates = {name: len(contents) / _seconds(stage) for name, stage in stages.items()}
    return [
        {
            "stage": name,
            "pages_per_s": round(rate, 1),
            "share_of_parsing": round(rate / rates["parse"], 3),
        }
        for name, rate in rates.items()
    ]


def _seconds(stage: Callable[[], object]) -> float:
    """CPU seconds of this process: other work on the machine does not count."""
    began = time.process_time()
    stage()
    return time.process_time() - began


def _made_up(folder: Path, pages: int) -> Path:
    folder.mkdir()
    draw = np.random.default_rng(0)
    for page in range(pages):
        parts = [f"<nav>{'<a href=x>Link</a> ' * 20}</nav><main><h1>Page {page}</h1>"]
        for paragraph in range(_PARAGRAPHS):
            words = " ".join(f"word{word}" for word in draw.integers(0, 20_000, 60))
            parts.append(f'<p class="text">{words} <a href="{paragraph}.html">more</a>.</p>')
            if paragraph < _IMAGES:
                parts.append(f'<figure><img src="{page}-{paragraph}.jpg"></figure>')
                (folder / f"{page}-{paragraph}.jpg").write_bytes(_photograph(draw))
        (folder / f"{page}.html").write_text("".join(parts), encoding="utf-8")
    return folder


def _photograph(draw: np.random.Generator) -> bytes:
    coarse = Image.fromarray(draw.integers(0, 256, (24, 24, 3), np.uint8))
    buffer = io.BytesIO()
    coarse.resize((_SIDE, _SIDE), Image.Resampling.BICUBIC).save(buffer, "JPEG", quality=85)
    return buffer.getvalue()
