import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from flamingo_jax.models.conv import conv


def plain(x, kernel, stride, groups):
    return jax.lax.conv_general_dilated(
        x,
        kernel,
        (stride, stride),
        "SAME",
        dimension_numbers=("NHWC", "HWIO", "NHWC"),
        feature_group_count=groups,
    )


@pytest.mark.parametrize(
    ("side", "size", "stride", "groups"),
    [
        (6, 3, 1, 1),
        (6, 3, 2, 1),
        (7, 3, 2, 1),
        (8, 2, 2, 1),
        (5, 1, 1, 1),
        (6, 1, 2, 1),
        (6, 3, 1, 2),
    ],
)
def test_values_and_gradients_are_those_of_xla(side, size, stride, groups):
    keys = jax.random.split(jax.random.key(0), 3)
    x = jax.random.normal(keys[0], (2, side, side + 1, 4))
    kernel = jax.random.normal(keys[1], (size, size, 4 // groups, 6))
    expected, expected_vjp = jax.vjp(lambda *a: plain(*a, stride, groups), x, kernel)
    found, found_vjp = jax.jit(jax.vjp, static_argnums=0)(
        lambda *a: conv(*a, stride, groups), x, kernel
    )
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-5)
    g = jax.random.normal(keys[2], expected.shape)
    chex.assert_trees_all_close(found_vjp(g), expected_vjp(g), rtol=1e-4, atol=1e-4)


def test_computes_in_the_type_given():
    x, kernel = jnp.ones((1, 4, 4, 2), jnp.bfloat16), jnp.ones((3, 3, 2, 3), jnp.bfloat16)
    grads = jax.grad(lambda *a: conv(*a).astype(jnp.float32).sum(), argnums=(0, 1))(x, kernel)
    chex.assert_type([conv(x, kernel), *grads], jnp.bfloat16)
