import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from flamingo_jax.training.augment import AugmentConfig, augment

OFF = {field: 0.0 for field in AugmentConfig.__dataclass_fields__}


def images():
    drawn = np.full((4, 16, 16, 3), 255, np.uint8)
    drawn[:, 4:12, 5:10] = np.random.default_rng(0).integers(0, 255, (4, 8, 5, 3))
    return jnp.array(drawn)


def test_without_changes_the_images_stay():
    views = jax.jit(augment, static_argnums=2)(jax.random.key(0), images(), AugmentConfig(**OFF))
    np.testing.assert_allclose(views, images(), atol=0.01)


@pytest.mark.slow
def test_mirroring():
    config = AugmentConfig(**OFF | {"flip": 1.0})
    views = augment(jax.random.key(0), images(), config)
    np.testing.assert_allclose(views, images()[:, :, ::-1], atol=0.01)


def test_views_differ_by_key_and_image_and_stay_in_range():
    same = jnp.broadcast_to(images()[:1], (4, 16, 16, 3))
    make = jax.jit(augment, static_argnums=2)
    views = make(jax.random.key(0), same, AugmentConfig())
    chex.assert_shape(views, (4, 16, 16, 3))
    assert float(views.min()) >= 0
    assert float(views.max()) <= 255
    assert not np.allclose(views[0], views[1])
    assert not np.allclose(views, make(jax.random.key(1), same, AugmentConfig()))
    np.testing.assert_array_equal(views, make(jax.random.key(0), same, AugmentConfig()))


def test_moving_and_recolouring_keep_the_ground_white():
    config = AugmentConfig(**OFF | {"rotation": 20.0, "shift": 0.1, "hue": 20.0, "colour": 0.3})
    views = augment(jax.random.key(0), images(), config)
    np.testing.assert_allclose(views[:, 0, 0], 255.0, atol=0.01)
    assert float(views.min()) < 200
