"""Media as the language model sees them: read ahead, encoded once, kept by content.

Axes: F frames, H and W pixels, P grid positions, C feature channels, R latents, D width.
"""

import collections
import hashlib
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor

import jax.numpy as jnp
import numpy as np

from flamingo_jax.errors import UserError
from flamingo_jax.evaluation.benchmark import Media
from flamingo_jax.inference.features import FeatureCache
from flamingo_jax.inference.handle import Flamingo, encode, media_shape, resample

CHUNK = 8
"""Images encoded, and media resampled, at once: always so many, so that one program serves all."""
KEPT_BYTES = 2**31
"""Latents kept in memory; those used longest ago go first."""

Read = Callable[[Media], np.ndarray]


class LatentStore:
    """Latents of media, by a key that is 1 or more and the same for the same medium."""

    def __init__(self, handle: Flamingo, read: Read, kept_bytes: int = KEPT_BYTES) -> None:
        """`read`: a medium -> frames_FxHxWx3 uint8, called in threads."""
        self._config, self._weights = handle.config, handle.weights
        self._features = handle.features or FeatureCache(self._encode, CHUNK)
        self._read, self._kept_bytes = read, kept_bytes
        self.shape = media_shape(handle.config)
        self._keys: dict[Media, int] = {}
        self._content: dict[Media, bytes] = {}
        self._latents: collections.OrderedDict[bytes, np.ndarray] = collections.OrderedDict()
        self._threads = ThreadPoolExecutor(4, "media")
        self._coming: dict[Media, Future[np.ndarray]] = {}

    def key(self, medium: Media) -> int:
        """The medium's key."""
        return self._keys.setdefault(medium, len(self._keys) + 1)

    def prefetch(self, media: Iterable[Media]) -> None:
        """Begins to read media that will be asked for, unless their latents are known."""
        for medium in media:
            if not self._known(medium) and medium not in self._coming:
                self._coming[medium] = self._threads.submit(self._read, medium)

    def __call__(self, media: Sequence[Media]) -> list[np.ndarray]:
        """latents_RxD of media.

        Raises:
          UserError: a file is missing or damaged.
        """
        self.prefetch(media)
        wanted = dict.fromkeys(media)
        frames = {m: self._coming.pop(m).result() for m in wanted if not self._known(m)}
        fresh: dict[bytes, np.ndarray] = {}
        for medium, pixels in frames.items():
            self._content[medium] = _digest(pixels)
            fresh.setdefault(self._content[medium], pixels)
        new = {content: p for content, p in fresh.items() if content not in self._latents}
        self._latents.update(self._encoded(new))
        found = [self._latents[self._content[medium]] for medium in media]
        for medium in wanted:
            self._latents.move_to_end(self._content[medium])
        self._forget()
        return found

    def close(self) -> None:
        """Ends the threads; what is still being read is dropped."""
        self._threads.shutdown(wait=True, cancel_futures=True)

    def _known(self, medium: Media) -> bool:
        return self._content.get(medium) in self._latents

    def _encode(self, images_MxHxWx3: np.ndarray) -> jnp.ndarray:
        return encode(self._config, self._weights.vision, images_MxHxWx3)

    def _encoded(self, new: dict[bytes, np.ndarray]) -> dict[bytes, np.ndarray]:
        """Latents by content; media of equal numbers of frames are resampled together."""
        by_frames = collections.defaultdict(list)
        for content, frames in new.items():
            by_frames[len(frames)].append((content, frames))
        found: dict[bytes, np.ndarray] = {}
        for group in by_frames.values():
            for start in range(0, len(group), CHUNK):
                contents, media = zip(*group[start : start + CHUNK], strict=True)
                features = self._features(np.stack(media))
                extra = ((0, CHUNK - len(media)), *((0, 0),) * (features.ndim - 1))
                latents = resample(
                    self._config, self._weights.resampler, np.pad(features, extra)
                )
                if latents.shape[1:] != self.shape:
                    raise UserError("This model has no resampler: it takes images, not videos.")
                found.update(zip(contents, np.asarray(latents), strict=False))
        return found

    def _forget(self) -> None:
        each = int(np.prod(self.shape)) * jnp.dtype(self._config.dtype).itemsize
        while len(self._latents) > max(1, self._kept_bytes // each):
            self._latents.popitem(last=False)


def _digest(frames: np.ndarray) -> bytes:
    shape = np.array(frames.shape, np.int64).tobytes()
    return hashlib.blake2b(shape + np.ascontiguousarray(frames).tobytes(), digest_size=16).digest()
