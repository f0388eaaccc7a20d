"""Visual features from the frozen encoder, computed once for images seen before."""

import hashlib
from collections.abc import Callable, Iterable
from pathlib import Path

import jax
import numpy as np
from tqdm import tqdm

from flamingo_jax.checkpoints.files import replaced

Encode = Callable[[np.ndarray], jax.Array]


class FeatureCache:
    """Features by content: a lookup for stored images, the encoder for all others.

    Axes: M images, H and W pixels, P grid positions, C feature channels.
    """

    def __init__(self, encode: Encode, batch: int = 16) -> None:
        """`encode`: jitted, images_MxHxWx3 uint8 -> features_MxPxC; called with M = `batch`."""
        self._encode = encode
        self._batch = batch
        self._stored: dict[bytes, np.ndarray] = {}

    def __len__(self) -> int:
        return len(self._stored)

    def __call__(self, images: np.ndarray) -> np.ndarray:
        """images [..., H, W, 3] uint8 -> features [..., P, C] float32; nothing is stored."""
        flat = images.reshape(-1, *images.shape[-3:])
        keys = [_content(image) for image in flat]
        missing = {key: i for i, key in enumerate(keys) if key not in self._stored}
        fresh = dict(zip(missing, self._run(flat[list(missing.values())]), strict=True))
        features = np.stack([self._stored[k] if k in self._stored else fresh[k] for k in keys])
        return features.reshape(*images.shape[:-3], *features.shape[1:])

    def store(self, images: Iterable[np.ndarray]) -> None:
        """Computes and keeps the features of [H, W, 3] uint8 images."""
        new = {_content(image): image for image in images}
        new = {key: image for key, image in new.items() if key not in self._stored}
        if new:
            features = self._run(np.stack(list(new.values())), "Features of the drawings")
            self._stored.update(zip(new, features, strict=True))

    def save(self, path: Path) -> None:
        """Writes the stored features, whole or not at all."""
        keys = np.array([np.frombuffer(key, np.uint8) for key in self._stored])
        features = np.array(list(self._stored.values()))
        with replaced(path) as part, part.open("wb") as file:
            np.savez(file, keys=keys, features=features)

    def load(self, path: Path) -> None:
        """Adds the features of a file that `save` wrote."""
        with np.load(path, allow_pickle=False) as file:
            keys, features = file["keys"], file["features"]
        self._stored.update((key.tobytes(), row) for key, row in zip(keys, features, strict=True))

    def _run(self, images: np.ndarray, title: str | None = None) -> Iterable[np.ndarray]:
        """Encodes in batches of one size, so that the encoder compiles once."""
        out = []
        starts = range(0, len(images), self._batch)
        for start in tqdm(starts, title, unit="batch", disable=title is None):
            part = images[start : start + self._batch]
            padded = np.zeros((self._batch, *images.shape[1:]), images.dtype)
            padded[: len(part)] = part
            out.extend(np.asarray(self._encode(padded))[: len(part)])
        return out


def _content(image: np.ndarray) -> bytes:
    return hashlib.blake2b(np.ascontiguousarray(image).tobytes(), digest_size=16).digest()
