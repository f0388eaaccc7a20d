"""The benchmark's work on data: image–text pairs from tar shards to batches, timed.

The shards are made here: photograph-like JPEGs with captions, as img2dataset writes them. What the
pipeline does is compared with the bare loop of decoding and resizing the same files, with the same
decoder, in the same process and right before.
"""

import io
import json
import os
import statistics
import tarfile
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageFilter

from flamingo_jax.checkpoints import smollm2
from flamingo_jax.data.datasets import DatasetConfig, MixtureConfig
from flamingo_jax.data.documents import Medium
from flamingo_jax.data.mixture import Mixture, make_iterator
from flamingo_jax.data.pictures import read_picture
from flamingo_jax.data.sources.base import Source
from flamingo_jax.data.sources.opening import open_source
from flamingo_jax.data.tokenizer import Tokenizer

SHARDS, SAMPLES, PHOTOGRAPHS = 4, 1024, 64
"""Tar files, image–text pairs in each, and different images among them."""
PIXELS = (512, 384)
"""Width and height, which img2dataset's usual options give."""
SIZE = 224
"""Side of the images in a batch."""
BATCH, LENGTH = 32, 32

_WORKERS = (0, 1, 2)
_ROUNDS = 5  # of the bare loop and the pipeline in turn, of which the median counts
_SECONDS = 3.0  # of a timing
_REST = 1.0  # seconds before the bare loop, in which worker processes fill their buffers


def measure() -> dict[str, Any]:
    """Images and tokens a second.

    Returns:
      `bare_images_per_s`, of one core; and by number of worker processes `images_per_s`,
      `tokens_per_s` (of text, padding left out) and `of_bare`, the images a second for each core in
      use as a share of the bare loop's, measured right before, the median of several rounds.
    """
    with tempfile.TemporaryDirectory() as folder:
        shards, words = Path(folder) / "shards", Path(folder) / "tokenizer.json"
        write_shards(shards)
        smollm2.write_tokenizer(smollm2.find_gguf(), words)
        tokenizer, source = Tokenizer.load(words), open_source(shards)
        iterators = {count: _batches(shards, tokenizer, count) for count in _WORKERS}
        for iterator in iterators.values():
            next(iterator)  # workers are started
        found: dict[str, Any] = {"bare_images_per_s": 0.0, "workers": {}, "cores": os.cpu_count()}
        rates = []
        for count, iterator in iterators.items():
            cores = min(max(count, 1), os.cpu_count() or 1)
            bare, images, tokens, share = _rounds(source, iterator, tokenizer, cores)
            rates.append(bare)
            found["workers"][str(count)] = {
                "images_per_s": round(images, 1),
                "tokens_per_s": round(tokens, 1),
                "of_bare": round(share, 3),
            }
        found["bare_images_per_s"] = round(statistics.median(rates), 1)
    return found


def write_shards(folder: Path) -> None:
    """Shards as img2dataset writes them: `jpg`, `txt` and `json` of each sample."""
    folder.mkdir()
    rng = np.random.default_rng(0)
    images = [photograph(rng) for _ in range(PHOTOGRAPHS)]
    for shard in range(SHARDS):
        with tarfile.open(folder / f"{shard:05d}.tar", "w") as archive:
            for number in range(SAMPLES):
                key, caption = f"{shard:05d}{number:04d}", _caption(rng)
                told = json.dumps({"caption": caption, "url": f"https://example.org/{key}.jpg"})
                image = images[number % PHOTOGRAPHS]
                parts = {"jpg": image, "txt": caption.encode(), "json": told.encode()}
                for ending, content in parts.items():
                    member = tarfile.TarInfo(f"{key}.{ending}")
                    member.size = len(content)
                    archive.addfile(member, io.BytesIO(content))


def photograph(rng: np.random.Generator) -> bytes:
    """A JPEG with edges, shades and grain; about as large as a photograph of its size."""
    width, height = PIXELS
    coarse = rng.integers(0, 256, (12, 16, 3), np.uint8)
    picture = Image.fromarray(coarse).resize(PIXELS, Image.Resampling.BICUBIC)
    blocks = rng.integers(0, 256, (48, 64, 3), np.uint8)
    edges = Image.fromarray(blocks).resize(PIXELS, Image.Resampling.NEAREST)
    mixed = Image.blend(picture, edges.filter(ImageFilter.GaussianBlur(1.5)), 0.2)
    grain = rng.normal(0, 6, (height, width, 3))
    pixels = np.clip(np.asarray(mixed) + grain, 0, 255).astype(np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "JPEG", quality=90)
    return buffer.getvalue()


def _caption(rng: np.random.Generator) -> str:
    words = ("a", "red", "boat", "on", "the", "lake", "near", "old", "houses", "at", "dawn", "two")
    return " ".join(words[i] for i in rng.integers(0, len(words), 12))


def _batches(shards: Path, tokenizer: Tokenizer, workers: int) -> Mixture:
    pairs = DatasetConfig(
        "pairs", "pairs", BATCH, 1.0, LENGTH, 1, LENGTH, path=str(shards), eoc_weight=1.0
    )
    config = MixtureConfig((pairs,), workers=workers)
    return make_iterator(config, [], tokenizer, 0, image_size=SIZE)


def _rounds(
    source: Source, batches: Iterator[Any], tokenizer: Tokenizer, cores: int
) -> Iterator[float]:
    """Medians of several rounds: the bare loop's rate, the pipeline's two, and its share of it.

    The share is taken in each round, since a shared machine's speed varies from one to the next.
    """
    rounds = []
    for _ in range(_ROUNDS):
        bare = _bare(source)
        images, tokens = _pipeline(batches, tokenizer)
        rounds.append((bare, images, tokens, images / cores / bare))
    return map(statistics.median, zip(*rounds, strict=True))


def _bare(source: Source) -> float:
    """Images a second of decoding and resizing alone."""
    documents = (source[i] for i in range(BATCH))
    contents = [
        item.content
        for document in documents
        for item in document.items
        if isinstance(item, Medium)
    ]
    time.sleep(_REST)
    done, began = 0, time.perf_counter()
    while (seconds := time.perf_counter() - began) < _SECONDS:
        for content in contents:
            read_picture(content, SIZE, "pad")
        done += len(contents)
    return done / seconds


def _pipeline(batches: Iterator[Any], tokenizer: Tokenizer) -> tuple[float, float]:
    """(images a second, tokens a second), after what was made ahead is used up."""
    for _ in range(2 * max(_WORKERS)):
        next(batches)
    images = tokens = 0
    began = time.perf_counter()
    while (seconds := time.perf_counter() - began) < _SECONDS:
        batch = next(batches)["pairs"]
        images += len(batch.tokens_BxT)
        tokens += int((batch.tokens_BxT != tokenizer.pad_id).sum())
    return images / seconds, tokens / seconds
