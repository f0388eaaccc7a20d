"""Bytes that products move, against sums worked by hand."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import pytest
from jax import lax

from flamingo_jax.planning.traffic import Traffic, count_traffic

X, W = jax.ShapeDtypeStruct((8, 4), jnp.float32), jax.ShapeDtypeStruct((4, 6), jnp.float32)
SQUARE, MANY = (jax.ShapeDtypeStruct(shape, jnp.float32) for shape in ((4, 4), (3, 4, 4)))
BIASES = jax.ShapeDtypeStruct((6,), jnp.float32)


def looped(x: Any, kernels: Any) -> Any:
    return lax.scan(lambda y, kernel: (y @ kernel, None), x, kernels)[0]


def chained(x: Any, kernels: Any) -> Any:
    """What is carried is a product of weights from its first turn on."""
    return x @ lax.scan(lambda y, kernel: (y @ kernel, None), kernels[0], kernels)[0]


def branched(x: Any, w: Any) -> Any:
    return lax.cond(x[0, 0] > 0, lambda: x @ w, lambda: (x @ w) @ w.T @ w)


@pytest.mark.parametrize(
    ("function", "arguments", "weights", "activations"),
    [
        (jnp.matmul, (X, W), 24, 32 + 48),
        # What is made of weights alone is a weight, a cast for instance, at its own size.
        (lambda x, w: x.astype("bfloat16") @ w.astype("bfloat16"), (X, W), 12, (32 + 48) / 2),
        (lambda x, w: x @ (w * 2 + 1).reshape(4, 6), (X, W), 24, 80),
        # The product, and its gradient, which is made of activations.
        (lambda x, w: jax.grad(lambda v: jnp.sum(x @ v))(w), (X, W), 24, 80 + 32 + 48 + 24),
        (jax.jit(looped), (X, MANY), 3 * 16, 3 * (32 + 32)),
        (jax.checkpoint(lambda x, w: x @ w), (X, W), 24, 80),
        (chained, (X, MANY), 3 * 48 + 16, 32 + 32),
        (branched, (X, W), 24 * 3, 80 * 3),
        (lambda x, w: x + 1, (X, W), 0, 0),
    ],
)
def test_products_read_what_they_multiply_and_write_what_comes_out(
    function: Callable[..., Any], arguments: Any, weights: int, activations: float
) -> None:
    program = jax.make_jaxpr(function)(*arguments)
    found = count_traffic(program, [False, True])
    assert found == Traffic(4 * weights, int(4 * activations))


def test_a_carry_that_an_activation_joins_is_none_of_the_weights() -> None:
    def summed(x: Any, w: Any) -> Any:
        return lax.scan(lambda y, _: ((y @ w), None), w, None, length=2)[0] + x

    program = jax.make_jaxpr(summed)(SQUARE, SQUARE)
    assert count_traffic(program, [False, True]).activations == 0
    program = jax.make_jaxpr(looped)(SQUARE, MANY)
    assert count_traffic(program, [False, True]) == Traffic(4 * 48, 4 * 3 * 32)
