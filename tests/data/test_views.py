"""Views: the geometry by hand, and the limits of what may change."""

import numpy as np
import pytest

from flamingo_jax.data.views import transform, view

WHITE = np.full((33, 33, 3), 255, np.uint8)


def dot(x: int, y: int) -> np.ndarray:
    """A black square of 3 x 3 pixels around (x, y) on white."""
    image = WHITE.copy()
    image[y - 1 : y + 2, x - 1 : x + 2] = 0
    return image


def centre(image: np.ndarray) -> tuple[float, float]:
    """(x, y), the mean place of what is dark."""
    dark = 255.0 - image.mean(-1)
    y, x = np.mgrid[: dark.shape[0], : dark.shape[1]]
    return (x * dark).sum() / dark.sum(), (y * dark).sum() / dark.sum()


def test_nothing_to_do_is_the_same_picture() -> None:
    np.testing.assert_array_equal(transform(dot(10, 20), 0, 1, 0, 0), dot(10, 20))


@pytest.mark.parametrize(
    ("angle", "zoom", "right", "down", "expected"),
    [
        (0, 1, 0.25, 0, (18.25, 20)),
        (0, 1, 0, -0.25, (10, 11.75)),
        (0, 2, 0, 0, (4, 24)),
        (0, 0.5, 0, 0, (13, 18)),
        (90, 1, 0, 0, (12, 10)),  # clockwise: what is left of the centre goes above it
        (-90, 1, 0, 0, (20, 22)),
        (180, 1, 0, 0, (22, 12)),
    ],
)
def test_where_a_dot_goes(
    angle: float, zoom: float, right: float, down: float, expected: tuple[float, float]
) -> None:
    """The centre is (16, 16), to half a pixel; y grows downwards."""
    moved = transform(dot(10, 20), angle, zoom, right, down)
    np.testing.assert_allclose(centre(moved), expected, atol=1.1)


def test_what_comes_in_is_white() -> None:
    moved = transform(np.zeros((32, 32, 3), np.uint8), 0, 1, 0.5, 0)
    assert (moved[:, :15] == 255).all()
    assert (moved[:, 17:] == 0).all()


def test_views_differ_but_keep_the_drawing_in_its_place() -> None:
    rng = np.random.default_rng(0)
    image = dot(16, 16)
    views = [view(image, rng) for _ in range(20)]
    assert len({made.tobytes() for made in views}) > 15
    for made in views:
        assert made.shape == image.shape
        assert made.dtype == np.uint8
        # Shifted by at most 0.08 of the side; tinted to no less than 0.88 of white.
        np.testing.assert_allclose(centre(255 - (255 - made) * (made < 200)), (16, 16), atol=4)
        assert made.max(axis=(0, 1)).min() >= int(0.88 * 255)


def test_the_same_generator_gives_the_same_view() -> None:
    one, two = (view(dot(12, 16), np.random.default_rng(7)) for _ in range(2))
    np.testing.assert_array_equal(one, two)
