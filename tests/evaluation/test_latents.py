"""Latents of media: those of the model's own prompts, each content encoded once."""

import threading
from pathlib import Path

import numpy as np
import pytest

from flamingo_jax.errors import UserError
from flamingo_jax.evaluation.benchmark import Media
from flamingo_jax.evaluation.latents import LatentStore
from flamingo_jax.inference.handle import encode, resample
from tests.evaluation.tiny import SIZE, tiny_handle

A, B, COPY, CLIP = (Media(Path(name)) for name in ("a", "b", "copy of a", "clip"))


def pixels(medium: Media) -> np.ndarray:
    seed = ord(medium.path.name[-1])
    frames = 3 if medium == CLIP else 1
    return np.random.default_rng(seed).integers(0, 256, (frames, SIZE, SIZE, 3), np.uint8)


def test_latents_and_features_are_the_encoders_and_resamplers() -> None:
    handle = tiny_handle()
    store = LatentStore(handle, pixels)
    found = store([A, CLIP])
    for medium, latents in zip((A, CLIP), found, strict=True):
        features = encode(handle.config, handle.weights.vision, pixels(medium))
        expected = resample(handle.config, handle.weights.resampler, features[None])[0]
        np.testing.assert_allclose(latents, expected, atol=2e-5)
        pooled = store.features([medium], {})[0]
        np.testing.assert_allclose(pooled, np.mean(features, (0, 1)), atol=1e-6)
    store.close()


def test_each_content_is_read_and_encoded_once(monkeypatch: pytest.MonkeyPatch) -> None:
    handle, read, encoded = tiny_handle(), [], []
    lock = threading.Lock()

    def counted(medium: Media) -> np.ndarray:
        with lock:
            read.append(medium)
        return pixels(medium)

    store = LatentStore(handle, counted)
    kept = store._keep
    monkeypatch.setattr(store, "_keep", lambda c, m: encoded.append(len(c)) or kept(c, m))
    store.prefetch([A, B])
    first = store([A, B, A])
    again = store([COPY, A, B])
    assert sorted(m.path.name for m in read) == ["a", "b", "copy of a"]
    assert encoded == [2]
    np.testing.assert_array_equal(first[0], again[0])
    assert store.key(A) == store.key(A) != store.key(COPY)
    assert store.content(A) == store.content(COPY) != store.content(B)
    assert store.content(CLIP) is None


def test_no_bit_depends_on_what_is_encoded_beside_it() -> None:
    alone = [LatentStore(tiny_handle(), pixels)([medium])[0] for medium in (A, B)]
    together = LatentStore(tiny_handle(), pixels)([B, A])
    np.testing.assert_array_equal(together, alone[::-1])


def test_what_is_known_needs_no_encoder(monkeypatch: pytest.MonkeyPatch) -> None:
    store = LatentStore(tiny_handle(), pixels)
    store([A])
    known = {store.content(A): np.array([7.0])}
    other = LatentStore(tiny_handle(), pixels)
    monkeypatch.setattr(other, "_keep", None)
    assert other.features([COPY], known)[0] == 7.0


def test_frames_of_what_is_known_do_not_stay() -> None:
    read: list[str] = []
    store = LatentStore(tiny_handle(), lambda m: read.append(m.path.name) or pixels(m))
    (feature,) = store.features([A], {})
    known = {store.content(A): feature}
    store._encoded.clear()  # as if forgotten
    store.prefetch([A], known)
    assert read == ["a"]
    store.prefetch([A])  # somebody else may need its latents
    store.features([A], known)
    assert store._coming == {}


def test_what_was_used_longest_ago_is_forgotten() -> None:
    handle = tiny_handle()
    store = LatentStore(handle, pixels, kept_bytes=2 * 4 * 3 * 16)
    assert store.shape == (3, 16)
    store([A])
    store([B])
    store([A])
    store([CLIP])
    assert list(store._encoded) == [store.content(A), store.content(CLIP)]


def test_a_file_that_cannot_be_read_is_told_when_it_is_asked_for() -> None:
    def broken(medium: Media) -> np.ndarray:
        raise UserError(f"{medium.path} is damaged.")

    store = LatentStore(tiny_handle(), broken)
    store.prefetch([A])
    with pytest.raises(UserError, match="a is damaged"):
        store([A])
