"""Media as the language model sees them: read ahead, encoded once, kept by content.

Axes: F frames, H and W pixels, P grid positions, C feature channels, R latents, D width.
"""

import collections
import dataclasses
import functools
import hashlib
from collections.abc import Callable, Container, Iterable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from flamingo_jax.errors import UserError
from flamingo_jax.evaluation.benchmark import Media
from flamingo_jax.inference.features import FeatureCache
from flamingo_jax.inference.handle import Flamingo, encode, media_shape, resample
from flamingo_jax.models.flamingo import FlamingoConfig

CHUNK = 8
"""Images encoded, and media resampled, at once: always so many, so that one program serves all."""
KEPT_BYTES = 2**31
"""Latents kept in memory; those used longest ago go first."""

Read = Callable[[Media], np.ndarray]


@dataclasses.dataclass(frozen=True)
class _Encoded:
    """A medium's latents_RxD, and its features_C averaged."""

    latents_RxD: np.ndarray
    features_C: np.ndarray


class LatentStore:
    """Latents and pooled features of media, by what they show."""

    def __init__(self, handle: Flamingo, read: Read, kept_bytes: int = KEPT_BYTES) -> None:
        """`read`: a medium -> frames_FxHxWx3 uint8, called in threads."""
        self._config, self._weights = handle.config, handle.weights
        self._features = handle.features or FeatureCache(self._encode, CHUNK)
        self._read, self._kept_bytes = read, kept_bytes
        self.shape = media_shape(handle.config)
        """(R, D) of a medium."""
        self._keys: dict[Media, int] = {}
        self._content: dict[Media, bytes] = {}
        self._encoded: collections.OrderedDict[bytes, _Encoded] = collections.OrderedDict()
        self._threads = ThreadPoolExecutor(4, "media")
        self._coming: dict[Media, Future[np.ndarray]] = {}

    def key(self, medium: Media) -> int:
        """A number from 1 on, the same for the same medium."""
        return self._keys.setdefault(medium, len(self._keys) + 1)

    def content(self, medium: Media) -> bytes | None:
        """16 bytes that tell a medium's pixels from others; None before it was asked for."""
        return self._content.get(medium)

    def prefetch(self, media: Iterable[Media], known: Container[bytes | None] = ()) -> None:
        """Begins to read media that will be asked for, unless their content is `known` or kept."""
        for medium in media:
            content = self.content(medium)
            if not (content in known or content in self._encoded or medium in self._coming):
                self._coming[medium] = self._threads.submit(self._read, medium)

    def __call__(self, media: Sequence[Media]) -> list[np.ndarray]:
        """latents_RxD of media.

        Raises:
          UserError: a file is missing or damaged.
        """
        self._encode_unless({}, media)
        for medium in media:
            self._encoded.move_to_end(self._content[medium])
        found = [self._encoded[self._content[medium]].latents_RxD for medium in media]
        self._forget()
        return found

    def features(
        self, media: Sequence[Media], known: Mapping[bytes, np.ndarray]
    ) -> list[np.ndarray]:
        """features_C float32 of media, the mean over grid and frames.

        Args:
          media: of which.
          known: features by `content`, which need no encoder.

        Raises:
          UserError: as `__call__`.
        """
        self._encode_unless(known, media)
        contents = [self._content[medium] for medium in media]
        found = [known[c] if c in known else self._encoded[c].features_C for c in contents]
        self._forget()
        return found

    def close(self) -> None:
        """Ends the threads; what is still being read is dropped."""
        self._threads.shutdown(wait=True, cancel_futures=True)

    def _encode_unless(self, known: Mapping[bytes, Any], media: Sequence[Media]) -> None:
        """Encodes the media whose content is neither `known` nor kept."""
        new: dict[bytes, np.ndarray] = {}
        for medium in dict.fromkeys(media):
            coming = self._coming.pop(medium, None)  # its frames are many: none stay behind
            if self.content(medium) in known or self.content(medium) in self._encoded:
                if coming is not None:
                    coming.cancel()
                continue
            frames = self._read(medium) if coming is None else coming.result()
            self._content[medium] = content = _digest(frames)
            if content not in known and content not in self._encoded:
                new[content] = frames
        by_frames = collections.defaultdict(list)
        for content, frames in new.items():
            by_frames[len(frames)].append(content)
        for contents in by_frames.values():
            for start in range(0, len(contents), CHUNK):
                part = contents[start : start + CHUNK]
                self._keep(part, np.stack([new[content] for content in part]))

    def _keep(self, contents: Sequence[bytes], media_MxFxHxWx3: np.ndarray) -> None:
        features_MxFxPxC = self._features(media_MxFxHxWx3)
        extra = ((0, CHUNK - len(contents)), *((0, 0),) * 3)
        padded = np.pad(features_MxFxPxC, extra)
        latents = np.asarray(resample_each(self._config, self._weights.resampler, padded))
        if latents.shape[1:] != self.shape:
            raise UserError("This model has no resampler: it takes images, not videos.")
        for content, features, rows in zip(contents, features_MxFxPxC, latents, strict=False):
            self._encoded[content] = _Encoded(rows, features.mean((0, 1), dtype=np.float32))

    def _encode(self, images_MxHxWx3: np.ndarray) -> jax.Array:
        return encode_each(self._config, self._weights.vision, images_MxHxWx3)

    def _forget(self) -> None:
        each = int(np.prod(self.shape)) * jnp.dtype(self._config.dtype).itemsize
        while len(self._encoded) > max(1, self._kept_bytes // each):
            self._encoded.popitem(last=False)


@functools.partial(jax.jit, static_argnames="config")
def encode_each(
    config: FlamingoConfig, vision: Any, images_MxHxWx3: jax.Array | np.ndarray
) -> jax.Array:
    """As `encode`, one image after another: no bit depends on what is encoded beside it."""
    return jax.lax.map(lambda image: encode(config, vision, image[None])[0], images_MxHxWx3)


@functools.partial(jax.jit, static_argnames="config")
def resample_each(
    config: FlamingoConfig, resampler: Any, features_MxFxPxC: jax.Array | np.ndarray
) -> jax.Array:
    """As `resample`, one medium after another."""
    return jax.lax.map(lambda rows: resample(config, resampler, rows[None])[0], features_MxFxPxC)


def _digest(frames: np.ndarray) -> bytes:
    shape = np.array(frames.shape, np.int64).tobytes()
    return hashlib.blake2b(shape + np.ascontiguousarray(frames).tobytes(), digest_size=16).digest()
