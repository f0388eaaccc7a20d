"""RICES: the supports most similar to a query (arXiv:2109.05014; arXiv:2204.14198, B.1.5).

Similarity is the cosine of the vision encoder's features, averaged over the grid and over frames.
The least similar support comes first and the most similar stands right before the query, because a
language model leans on what it read last.

Axes: S supports, C feature channels, K shots.
"""

import collections
import functools
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from flamingo_jax.checkpoints.files import replaced
from flamingo_jax.errors import UserError
from flamingo_jax.evaluation.benchmark import Example
from flamingo_jax.evaluation.latents import CHUNK, LatentStore
from flamingo_jax.evaluation.records import checkpoint_hash
from flamingo_jax.evaluation.stages import Choose

_SAVED_EVERY = 256  # new features, so that a stopped run loses little


class Retrieval:
    """Chooses supports, with the features of those seen before from disk."""

    def __init__(self, latents: LatentStore, cache_dir: Path, vision: Any) -> None:
        """`cache_dir`: of the features' files, one for each vision encoder, `vision`."""
        self._latents, self._folder, self._vision = latents, cache_dir, vision
        self._path: Path | None = None
        self._known: dict[bytes, np.ndarray] = {}

    def chooser(self, supports: Sequence[Example], shots: int) -> Choose:
        """From a query to its `shots` most similar supports, none of which shows a file of its."""
        showing: dict[Path, list[int]] = collections.defaultdict(list)
        for number, support in enumerate(supports):
            for medium in support.media:
                showing[medium.path].append(number)

        @functools.cache
        def index() -> SimilarityIndex:
            return SimilarityIndex(self._features(supports))

        def choose(query: Example) -> list[Example]:
            excluded = np.zeros(len(supports), bool)
            for medium in query.media:
                excluded[showing.get(medium.path, [])] = True
            feature = self._latents.features(query.media[:1], self._known)[0]
            return [supports[i] for i in index().nearest(feature, shots, excluded)]

        return choose

    def expect(self, queries: Sequence[Example]) -> None:
        """Reads and encodes what queries show together, before supports are chosen for each."""
        media = [query.media[0] for query in queries]
        self._latents.prefetch(media, self._known)
        self._latents.features(media, self._known)

    def _features(self, supports: Sequence[Example]) -> np.ndarray:
        """features_SxC, computed and written where the file has none."""
        if self._path is None:
            self._path = self._folder / f"features-{checkpoint_hash(self._vision)}.npz"
            self._known = load_features(self._path)
        media = [support.media[0] for support in supports]
        found, saved = [], len(self._known)
        for start in tqdm(range(0, len(media), CHUNK), "Features of supports", unit="batch"):
            part = media[start : start + CHUNK]
            self._latents.prefetch(media[start + CHUNK : start + 4 * CHUNK], self._known)
            features = self._latents.features(part, self._known)
            for medium, feature in zip(part, features, strict=True):
                self._known[self._latents.content(medium) or b""] = feature
            found += features
            if len(self._known) >= saved + (_SAVED_EVERY if start + CHUNK < len(media) else 1):
                saved = len(self._known)
                save_features(self._path, self._known)
        return np.stack(found)


class SimilarityIndex:
    """Unit features of supports."""

    def __init__(self, features_SxC: np.ndarray) -> None:
        self._unit_SxC = _unit(features_SxC)

    def nearest(self, feature_C: np.ndarray, shots: int, excluded: np.ndarray) -> list[int]:
        """The `shots` most similar supports, least similar first; of equals the lower index last.

        Args:
          feature_C: of the query.
          shots: K.
          excluded: bool [S], supports that may not be shown, such as the query itself.

        Raises:
          UserError: fewer supports than `shots` are left.
        """
        left = int((~excluded).sum())
        if shots > left:
            raise UserError(f"{shots} shots are asked for, but there are {left} supports.")
        # In double precision, and rounded, so that equal images are equally similar everywhere.
        similarity_S = np.round(self._unit_SxC @ _unit(feature_C), 6)
        order = np.lexsort((np.arange(len(similarity_S)), -similarity_S, excluded))
        return order[:shots][::-1].tolist()


def load_features(path: Path) -> dict[bytes, np.ndarray]:
    """Features by content that `save_features` wrote; none if there is no such file.

    Raises:
      UserError: the file is damaged.
    """
    if not path.exists():
        return {}
    try:
        with np.load(path, allow_pickle=False) as file:
            keys, features = file["keys"], file["features"]
        return {key.tobytes(): row for key, row in zip(keys, features, strict=True)}
    except Exception as error:  # zipfile, NumPy and zlib raise many types
        raise UserError(f"{path} is damaged: delete it and run again.") from error


def save_features(path: Path, features: Mapping[bytes, np.ndarray]) -> None:
    """Writes features [C] by 16-byte content keys, whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    keys = np.array([np.frombuffer(key, np.uint8) for key in features])
    with replaced(path) as part, part.open("wb") as file:
        np.savez(file, keys=keys, features=np.stack(list(features.values())))


def _unit(features: np.ndarray) -> np.ndarray:
    wide = features.astype(np.float64)
    return wide / np.maximum(np.linalg.norm(wide, axis=-1, keepdims=True), 1e-12)
