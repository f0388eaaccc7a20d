"""The TFDS builder `openmoji`: renders the drawings and writes ArrayRecord, without TensorFlow."""

import hashlib
import io
import json
import logging
from collections.abc import Iterator
from typing import Any

import numpy as np
import resvg_py
import tensorflow_datasets as tfds
from PIL import Image
from tqdm import tqdm

from flamingo_jax.data.openmoji.catalogue import CREDIT, Entry, catalogue, split_of

SIZE = 64
"""Side of a rendered drawing, pixels."""

_log = logging.getLogger(__name__)


class Openmoji(tfds.core.GeneratorBasedBuilder):
    """OpenMoji drawings, each with its code point, names by language, category and group."""

    VERSION = tfds.core.Version("1.0.0")

    def _info(self) -> tfds.core.DatasetInfo:
        text = tfds.features.Text()
        features: dict[str, Any] = {
            "image": tfds.features.Image(shape=(SIZE, SIZE, 3), encoding_format="png"),
            **dict.fromkeys(("code", "base", "names", "category", "group"), text),
        }
        return tfds.core.DatasetInfo(
            builder=self,
            description=f"{self.__doc__} {CREDIT}",
            features=tfds.features.FeaturesDict(features),
            homepage="https://openmoji.org",
            license="CC BY-SA 4.0",
        )

    def _split_generators(self, dl_manager: Any) -> dict[str, Any]:
        del dl_manager  # everything is in installed packages
        rows = list(rendered())
        same = merged_bases([(entry.base, png) for entry, png in rows])
        parts: dict[str, list[tuple[Entry, str, bytes]]] = {}
        for entry, png in rows:
            base = same[entry.base]
            parts.setdefault(split_of(base), []).append((entry, base, png))
        return {split: self._generate_examples(part) for split, part in parts.items()}

    def _generate_examples(
        self, rows: list[tuple[Entry, str, bytes]]
    ) -> Iterator[tuple[str, dict[str, Any]]]:
        for entry, base, png in rows:
            yield (
                entry.code,
                {
                    "image": io.BytesIO(png),
                    "code": entry.code,
                    "base": base,
                    "names": json.dumps(entry.names, ensure_ascii=False),
                    "category": entry.category,
                    "group": entry.group,
                },
            )


def rendered() -> Iterator[tuple[Entry, bytes]]:
    """Every catalogue entry with its PNG; drawings that cannot be rendered are counted and left."""
    failed = 0
    for entry in tqdm(catalogue(), "Rendering drawings", unit="drawing"):
        try:
            yield entry, render(str(entry.svg))
        except Exception as error:  # the renderer raises its own bare types
            failed += 1
            _log.debug("%s: %s", entry.svg, error)
    if failed:
        _log.warning("%d drawings could not be rendered and were left out.", failed)


def render(svg_path: str) -> bytes:
    """An SVG file on white, SIZE x SIZE pixels, as an RGB PNG."""
    svg = resvg_py.svg_to_bytes(svg_path=svg_path, width=SIZE, height=SIZE, background="white")
    buffer = io.BytesIO()
    Image.open(io.BytesIO(bytes(svg))).convert("RGB").save(buffer, "PNG")
    return buffer.getvalue()


def merged_bases(rows: list[tuple[str, bytes]]) -> dict[str, str]:
    """Each base's representative, one for all bases that share a picture pixel for pixel.

    Some emojis are drawn alike (flags of territories); they must not lie on two sides of a split.
    """
    parent = {base: base for base, _ in rows}

    def root(base: str) -> str:
        while parent[base] != base:
            base = parent[base]
        return base

    first: dict[bytes, str] = {}
    for base, png in rows:
        pixels = np.asarray(Image.open(io.BytesIO(png)).convert("RGB")).tobytes()
        other = first.setdefault(hashlib.blake2b(pixels, digest_size=16).digest(), base)
        low, high = sorted((root(base), root(other)))
        parent[high] = low
    return {base: root(base) for base in parent}
