"""FLOPs of programs against formulas worked by hand, and against XLA's own count."""

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import pytest
from jax import lax

from flamingo_jax.models.attention import attend
from flamingo_jax.models.layers import widen
from flamingo_jax.parallel.flops import count_flops


def zeros(*shape: int) -> jax.ShapeDtypeStruct:
    return jax.ShapeDtypeStruct(shape, jnp.float32)


def counted(function: Callable[..., Any], *arguments: Any) -> int:
    return count_flops(jax.make_jaxpr(function)(*arguments))


def conv(
    x: jax.Array, kernel: jax.Array, stride: int = 1, groups: int = 1, padding: str = "VALID"
) -> jax.Array:
    return lax.conv_general_dilated(
        x,
        kernel,
        (stride, stride),
        padding,
        dimension_numbers=("NHWC", "HWIO", "NHWC"),
        feature_group_count=groups,
    )


def scanned(x: jax.Array, kernels: jax.Array) -> jax.Array:
    return lax.scan(lambda y, kernel: (y @ kernel, y @ kernel @ kernel), x, kernels)[0]


def branches(x: jax.Array, kernel: jax.Array) -> jax.Array:
    return lax.cond(x[0, 0] > 0, lambda: x @ kernel, lambda: x @ kernel @ kernel)


def attention(q: jax.Array, k: jax.Array) -> jax.Array:
    return attend(q, k, k, jnp.ones((2, 5, 7), bool))


X, K = zeros(3, 4), zeros(4, 4)
IMAGES, KERNEL = zeros(2, 9, 9, 6), zeros(3, 3, 3, 8)


@pytest.mark.parametrize(
    ("function", "arguments", "flops"),
    [
        (jnp.matmul, (X, K), 2 * 3 * 4 * 4),
        (lambda x, y: jnp.einsum("bij,bkj->bik", x, y), (zeros(5, 3, 4), zeros(5, 2, 4)), 5 * 48),
        (functools.partial(conv, groups=2), (IMAGES, KERNEL), 2 * (2 * 7 * 7 * 8) * (3 * 3 * 3)),
        (functools.partial(conv, stride=2, groups=2), (IMAGES, KERNEL), 2 * 256 * 27),
        (scanned, (X, zeros(6, 4, 4)), 6 * 3 * 2 * 3 * 4 * 4),
        (branches, (X, K), 2 * 2 * 3 * 4 * 4),
        (jax.jit(jax.jit(jnp.matmul)), (X, K), 2 * 3 * 4 * 4),
        (widen, (X, K), 2 * 3 * 4 * 4),  # has a gradient of its own
        (jax.grad(lambda x, k: jnp.sum(widen(x, k)), (0, 1)), (X, K), 3 * 2 * 3 * 4 * 4),
        (jax.checkpoint(jnp.matmul), (X, K), 2 * 3 * 4 * 4),
        (jax.vmap(jnp.matmul, (0, None)), (zeros(5, 3, 4), K), 5 * 2 * 3 * 4 * 4),
        (attention, (zeros(2, 5, 6, 8), zeros(2, 7, 3, 8)), 2 * 2 * (2 * 6 * 5 * 7 * 8)),
        (jnp.tanh, (X,), 0),
        (lambda x: lax.fori_loop(0, 5, lambda _, y: y @ y, x), (K,), 5 * 2 * 4**3),
    ],
)
def test_counts_are_those_worked_by_hand(
    function: Callable[..., Any], arguments: tuple[Any, ...], flops: int
) -> None:
    assert counted(function, *arguments) == flops


@pytest.mark.parametrize(
    ("function", "arguments"),
    [
        (jnp.matmul, (zeros(32, 64), zeros(64, 48))),
        (functools.partial(conv, groups=2), (zeros(4, 9, 9, 6), zeros(3, 3, 3, 8))),
        (functools.partial(conv, stride=2), (zeros(4, 9, 9, 6), zeros(3, 3, 6, 8))),
        (lambda x, y: x.T @ (x @ y), (zeros(32, 64), zeros(64, 48))),
    ],
)
def test_counts_are_those_of_xla(function: Callable[..., Any], arguments: tuple[Any, ...]) -> None:
    analysis = jax.jit(function).lower(*arguments).compile().cost_analysis()
    assert counted(function, *arguments) == analysis["flops"]


def test_a_strided_convolutions_gradient_costs_what_the_convolution_does() -> None:
    """Only as far as the spread input has values: nine tenths of it are zeros or outside."""
    forward = functools.partial(conv, stride=3)
    arguments = (zeros(2, 30, 30, 4), zeros(3, 3, 4, 4))
    once = counted(forward, *arguments)
    backward = jax.grad(lambda x, kernel: jnp.sum(forward(x, kernel) ** 2))
    assert counted(backward, *arguments) == 2 * once


def test_a_loop_of_unknown_length_is_refused() -> None:
    def until(x: jax.Array) -> jax.Array:
        return lax.while_loop(lambda y: y[0, 0] < 1, lambda y: y @ y, x)

    with pytest.raises(ValueError, match="while loop cannot be counted"):
        counted(until, K)


def test_nothing_is_allocated_for_a_program_of_abstract_shapes() -> None:
    side = 2**20  # 4 TB each
    assert counted(jnp.matmul, zeros(side, side), zeros(side, side)) == 2**61
