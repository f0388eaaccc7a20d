import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from flamingo_jax.models.contrastive import (
    ContrastiveConfig,
    ContrastiveModel,
    contrastive_loss,
    unit,
)
from tests.models.test_nfnet import TINY


def test_loss_matches_equations_2_and_3():
    rng = np.random.default_rng(0)
    image, text = rng.normal(size=(2, 5, 3))
    scale, total = 4.0, 0.0
    for i in range(5):
        products = np.exp(scale * image @ text.T)
        total -= np.log(products[i, i] / products[:, i].sum()) / 5  # text to image
        total -= np.log(products[i, i] / products[i, :].sum()) / 5  # image to text
    found = contrastive_loss(jnp.array(image), jnp.array(text), jnp.array(scale))
    np.testing.assert_allclose(found, total, rtol=1e-5)


@pytest.mark.slow
def test_towers_give_unit_vectors_and_the_initial_temperature():
    model = ContrastiveModel(TINY, ContrastiveConfig(embedding=6, text_hidden=8, temperature=0.05))
    images, texts = (
        jnp.zeros((2, 32, 32, 3), jnp.uint8),
        jax.random.normal(jax.random.key(0), (2, 9)),
    )
    (image, text, scale), _ = jax.jit(model.init_with_output)(jax.random.key(1), images, texts)
    chex.assert_shape([image, text], (2, 6))
    np.testing.assert_allclose(jnp.linalg.norm(text, axis=1), 1.0, rtol=1e-4)
    np.testing.assert_allclose(scale, 20.0, rtol=1e-5)


def test_unit_of_zero_is_zero():
    np.testing.assert_array_equal(unit(jnp.zeros(3)), jnp.zeros(3))
