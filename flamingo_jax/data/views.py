"""Another view of the same drawing: small changes that keep it recognisable."""

import numpy as np
from PIL import Image


def view(image_HxWx3: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """A turned, shifted, zoomed and lightly tinted copy of a uint8 picture, on white."""
    angle, zoom = rng.uniform(-15, 15), rng.uniform(0.85, 1.15)
    shift = rng.uniform(-0.08, 0.08, 2)
    moved = transform(image_HxWx3, angle, zoom, shift[0], shift[1])
    tint = rng.uniform(0.88, 1.0, 3)
    return np.clip(moved * tint, 0, 255).astype(np.uint8)


def transform(
    image_HxWx3: np.ndarray, angle: float, zoom: float, right: float, down: float
) -> np.ndarray:
    """Turns `angle` degrees clockwise, zooms, shifts by shares of the side; the rest is white."""
    side = image_HxWx3.shape[0]
    cos, sin = np.cos(np.radians(angle)) / zoom, np.sin(np.radians(angle)) / zoom
    centre = (side - 1) / 2
    x, y = centre + right * side, centre + down * side
    matrix = (cos, sin, centre - cos * x - sin * y, -sin, cos, centre + sin * x - cos * y)
    picture = Image.fromarray(image_HxWx3).transform(
        (side, side),
        Image.Transform.AFFINE,
        matrix,
        Image.Resampling.BILINEAR,
        fillcolor=(255, 255, 255),
    )
    return np.asarray(picture)
