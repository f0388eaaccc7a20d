"""Random views of drawings, made on the device inside the training step.

Axes: B batch, H and W pixels.
"""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np

Array = jax.Array

_WHITE = 255.0
_TO_YIQ = np.array(
    [[0.299, 0.587, 0.114], [0.596, -0.274, -0.322], [0.211, -0.523, 0.312]], np.float32
)


@dataclasses.dataclass(frozen=True)
class AugmentConfig:
    """Strengths of the random changes; 0 leaves a change out.

    Attributes:
      rotation: largest angle, degrees.
      zoom: largest change of size, in octaves.
      stretch: largest change of height over width, in octaves.
      shift: largest shift, as a share of the side.
      flip: probability of mirroring left and right.
      hue: largest turn of the hue, degrees.
      colour: largest change of saturation and of each channel's brightness, as a share.
      tint: probability of a coloured background in place of the white one.
      erase: probability that a rectangle is painted over.
    """

    rotation: float = 20.0
    zoom: float = 0.4
    stretch: float = 0.2
    shift: float = 0.12
    flip: float = 0.5
    hue: float = 20.0
    colour: float = 0.3
    tint: float = 0.4
    erase: float = 0.4


def augment(key: Array, images_BxHxWx3: Array, config: AugmentConfig) -> Array:
    """A random view of each image: uint8 in, float32 in 0..255 out."""
    keys = jax.random.split(key, images_BxHxWx3.shape[0])
    return jax.vmap(lambda k, image: _view(k, image, config))(keys, images_BxHxWx3)


def _view(key: Array, image_HxWx3: Array, config: AugmentConfig) -> Array:
    warp_key, colour_key, tint_key, erase_key = jax.random.split(key, 4)
    image = _warp(warp_key, image_HxWx3.astype(jnp.float32), config)
    image = _recolour(colour_key, image, config)
    image = _tint(tint_key, image, config.tint)
    return _erase(erase_key, image, config.erase)


def _warp(key: Array, image: Array, config: AugmentConfig) -> Array:
    """Rotation, zoom, stretch, shift and mirroring, bilinear, on white ground."""
    height, width, _ = image.shape
    draws = jax.random.uniform(key, (6,), minval=-1.0)
    angle = jnp.deg2rad(config.rotation) * draws[0]
    size = jnp.exp2(config.zoom * draws[1])
    stretch = jnp.exp2(config.stretch * draws[2] / 2)
    mirror = jnp.where((draws[3] + 1) / 2 < config.flip, -1.0, 1.0)
    offset = config.shift * draws[4:] * jnp.array([height, width])
    y, x = jnp.mgrid[:height, :width].astype(jnp.float32)
    y = (y - (height - 1) / 2 - offset[0]) / (size * stretch)
    x = (x - (width - 1) / 2 - offset[1]) / (size / stretch)
    source_y = jnp.cos(angle) * y - jnp.sin(angle) * x + (height - 1) / 2
    source_x = mirror * (jnp.sin(angle) * y + jnp.cos(angle) * x) + (width - 1) / 2
    return _sample(image, source_y, source_x)


def _sample(image: Array, y: Array, x: Array) -> Array:
    """Bilinear values of the image [H, W, 3] at real coordinates [H, W]; white outside."""
    height, width, _ = image.shape
    framed = jnp.pad(image, ((1, 1), (1, 1), (0, 0)), constant_values=_WHITE)
    y = jnp.clip(y + 1, 0.0, height + 0.999)
    x = jnp.clip(x + 1, 0.0, width + 0.999)
    top, left = y.astype(jnp.int32), x.astype(jnp.int32)
    down, right = (y - top)[..., None], (x - left)[..., None]
    upper = framed[top, left] * (1 - right) + framed[top, left + 1] * right
    lower = framed[top + 1, left] * (1 - right) + framed[top + 1, left + 1] * right
    return upper * (1 - down) + lower * down


def _recolour(key: Array, image: Array, config: AugmentConfig) -> Array:
    """Turns the hue, scales the saturation and each channel; white ground stays white."""
    draws = jax.random.uniform(key, (5,), minval=-1.0)
    angle = jnp.deg2rad(config.hue) * draws[0]
    cos, sin = jnp.cos(angle), jnp.sin(angle)
    turn = jnp.array([[1.0, 0.0, 0.0], [0.0, cos, -sin], [0.0, sin, cos]])
    grey = jnp.array([1.0, 0.0, 0.0])
    turn = turn * jnp.where(grey > 0, 1.0, 1 + config.colour * draws[1])[:, None]
    matrix = jnp.linalg.inv(_TO_YIQ) @ turn @ _TO_YIQ
    # Applied to ink = white - colour, which is zero on the ground.
    ink = (_WHITE - image) @ matrix.T * (1 + config.colour * draws[2:])
    return jnp.clip(_WHITE - ink, 0.0, _WHITE)


def _tint(key: Array, image: Array, probability: float) -> Array:
    """Replaces near-white by a random colour."""
    use_key, colour_key = jax.random.split(key)
    colour = jax.random.uniform(colour_key, (3,), minval=0.3) * _WHITE
    use = jax.random.bernoulli(use_key, probability)
    ground = jnp.clip((jnp.min(image, axis=-1, keepdims=True) - 225.0) / 25.0, 0.0, 1.0) * use
    return image * (1 - ground) + colour * ground


def _erase(key: Array, image: Array, probability: float) -> Array:
    """Paints a rectangle of 15 to 40% of each side in a random colour (arXiv:1708.04896)."""
    height, width, _ = image.shape
    draws = jax.random.uniform(key, (8,))
    sides = (0.15 + 0.25 * draws[:2]) * jnp.array([height, width])
    corner = draws[2:4] * (jnp.array([height, width]) - sides)
    y, x = jnp.mgrid[:height, :width]
    inside = (y >= corner[0]) & (y < corner[0] + sides[0])
    inside &= (x >= corner[1]) & (x < corner[1] + sides[1])
    inside &= draws[4] < probability
    return jnp.where(inside[..., None], draws[5:] * _WHITE, image)
