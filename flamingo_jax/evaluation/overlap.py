"""Were the evaluation's images trained on? Perceptual hashes of both, compared.

A hash is 64 bits of the signs of an image's lowest frequencies, which survive another size,
compression or format.
"""

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from tqdm import tqdm

from flamingo_jax.checkpoints.files import replaced
from flamingo_jax.data.drawings import load_drawings
from flamingo_jax.data.hashes import perceptual_hash
from flamingo_jax.evaluation.benchmark import Example, Media

DISTANCE = 2
"""Bits in which two hashes of one image may differ."""
_LISTED = 20
_ROWS = 1 << 22  # pairs compared at once


@dataclasses.dataclass(frozen=True)
class Overlap:
    """What a benchmark's queries share with the training images.

    Attributes:
      benchmark: its name.
      queries: number of them.
      shared: those with an image within `DISTANCE` of one that was trained on.
      examples: ids of the first of these.
      training_images: hashes that they were compared with.
    """

    benchmark: str
    queries: int
    shared: int
    examples: tuple[str, ...]
    training_images: int

    def to_json(self) -> dict[str, Any]:
        """Plain data."""
        return dataclasses.asdict(self)


def medium_hash(frames_FxHxWx3: np.ndarray) -> int:
    """The perceptual hash of an image, uint8; of a clip, that of its middle frame."""
    return perceptual_hash(Image.fromarray(frames_FxHxWx3[len(frames_FxHxWx3) // 2]))


def drawing_hashes(folder: Path) -> np.ndarray:
    """Hashes, uint64 [N], of the drawings that a run in `folder` trained on; none without any."""
    if not (folder / "data").is_dir() or not (folder / "checkpoints").is_dir():  # none, or no run
        return np.zeros(0, np.uint64)
    shown = [d.image for d in load_drawings(folder / "data") if d.split == "train"]
    hashes = (medium_hash(image[None]) for image in tqdm(shown, "Hashes of the training set"))
    return np.fromiter(hashes, np.uint64)


def query_hashes(queries: Sequence[Example], read: Any, title: str) -> dict[Media, int]:
    """Hashes of all media of the queries; `read`: a medium -> uint8 [F, H, W, 3]."""
    media = dict.fromkeys(medium for query in queries for medium in query.media)
    return {m: medium_hash(read(m)) for m in tqdm(media, f"Hashes of {title}", leave=False)}


def write_hashes(path: Path, hashes: Mapping[Media, int]) -> None:
    """Writes a file of hashes and the names of their images, whole or not at all."""
    with replaced(path) as part, part.open("w", encoding="utf-8") as file:
        file.writelines(f"{value:016x} {medium.path.name}\n" for medium, value in hashes.items())


def overlap(
    benchmark: str, queries: Sequence[Example], hashes: Mapping[Media, int], training: np.ndarray
) -> Overlap:
    """Counts queries whose images are near one of the `training` hashes, uint64 [N]."""
    found = near(np.fromiter(hashes.values(), np.uint64, len(hashes)), training)
    trained_on = {medium for medium, hit in zip(hashes, found, strict=True) if hit}
    shared = [query.id for query in queries if trained_on & set(query.media)]
    return Overlap(benchmark, len(queries), len(shared), tuple(shared[:_LISTED]), len(training))


def near(hashes: np.ndarray, others: np.ndarray) -> np.ndarray:
    """Whether each of `hashes` differs from one of `others` in few bits, bool [n]."""
    known = np.unique(others)
    found = np.isin(hashes, known)
    step = max(1, _ROWS // max(1, len(known)))
    for start in range(0, len(hashes) if len(known) else 0, step):
        part = slice(start, start + step)
        differing = np.bitwise_count(hashes[part, None] ^ known)
        found[part] |= (differing <= DISTANCE).any(axis=1)
    return found
