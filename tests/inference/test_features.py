"""The feature cache: right values, one batch size, nothing computed twice."""

from pathlib import Path

import numpy as np

from flamingo_jax.inference.features import FeatureCache


class Encoder:
    """Mean colour as the one feature of one grid position; counts its calls."""

    def __init__(self) -> None:
        self.shapes: list[tuple[int, ...]] = []

    def __call__(self, images: np.ndarray) -> np.ndarray:
        self.shapes.append(images.shape)
        return images.astype(np.float32).mean((1, 2))[:, None]


def images(*shape: int) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (*shape, 4, 4, 3), dtype=np.uint8)


def test_values_and_shapes() -> None:
    encoder = Encoder()
    pictures = images(2, 3, 2)
    features = FeatureCache(encoder, batch=5)(pictures)
    np.testing.assert_allclose(features[..., 0, :], pictures.mean((-3, -2)), rtol=1e-6)
    assert encoder.shapes == [(5, 4, 4, 3)] * 3


def test_stored_images_are_not_encoded_again() -> None:
    encoder = Encoder()
    cache, pictures = FeatureCache(encoder, batch=4), images(6)
    cache.store(pictures)
    calls = len(encoder.shapes)
    cache.store(pictures)
    np.testing.assert_allclose(cache(pictures)[:, 0], pictures.mean((1, 2)), rtol=1e-6)
    assert len(encoder.shapes) == calls
    assert len(cache) == 6


def test_repeated_images_are_encoded_once() -> None:
    encoder = Encoder()
    one = images(1)
    FeatureCache(encoder, batch=1)(np.concatenate([one, one, one]))
    assert len(encoder.shapes) == 1


def test_files_round_trip(tmp_path: Path) -> None:
    pictures = images(3)
    first = FeatureCache(Encoder())
    first.store(pictures)
    first.save(tmp_path / "features.npz")
    encoder = Encoder()
    second = FeatureCache(encoder)
    second.load(tmp_path / "features.npz")
    np.testing.assert_array_equal(second(pictures), first(pictures))
    assert not encoder.shapes
    assert [path.name for path in tmp_path.iterdir()] == ["features.npz"]
