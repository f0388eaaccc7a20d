"""What a layer under rematerialisation computes again in the backward pass."""

import math
from collections.abc import Callable
from typing import Any

import chex
import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from flamingo_jax.models.layers import (
    ELEMENTWISE,
    FeedForward,
    Remat,
    into_heads,
    out_of_heads,
    rematerialised,
    widen_dot,
)
from flamingo_jax.models.resampler import PerceiverAttention, ResamplerConfig

_ERFC = np.vectorize(math.erfc)


def products(remat: Remat, dot_general: Callable[..., Any] | None) -> int:
    """Matrix products of a feed-forward and of its gradient."""
    layer = rematerialised(FeedForward, remat)(32, "gelu", dot_general=dot_general)
    x_BxTxD = jnp.ones((2, 3, 8))
    variables = layer.init(jax.random.key(0), x_BxTxD)
    grad = jax.grad(lambda variables: jnp.sum(layer.apply(variables, x_BxTxD)))
    return str(jax.make_jaxpr(grad)(variables)).count("dot_general")


@pytest.mark.parametrize("dot_general", [None, widen_dot])
def test_dots_are_kept_and_all_else_is_not(dot_general: Callable[..., Any] | None) -> None:
    plain = products("none", dot_general)
    assert products("dots", dot_general) == plain
    assert products("full", dot_general) > plain


def test_dots_keep_what_attention_gives() -> None:
    """Else it would be computed anew for the gradient of the projection after it."""

    def products(remat: Remat) -> int:
        layer = rematerialised(PerceiverAttention, remat)(ResamplerConfig(8, 1, 2, 2, 4))
        inputs = jnp.ones((1, 2, 8)), jnp.ones((1, 3, 8))
        variables = layer.init(jax.random.key(0), *inputs)
        grad = jax.grad(lambda variables: jnp.sum(layer.apply(variables, *inputs)))
        return str(jax.make_jaxpr(grad)(variables)).count("dot_general")

    assert products("dots") == products("none")
    assert products("full") > products("none")


def test_gelu_and_its_slope_are_the_formulas() -> None:
    x = np.linspace(-12, 12, 4001, dtype=np.float32)
    wide = x.astype(np.float64)
    share = 0.5 * _ERFC(-wide / np.sqrt(2))
    slope = share + wide * np.exp(-(wide**2) / 2) / np.sqrt(2 * np.pi)
    gelu = ELEMENTWISE["gelu"]
    np.testing.assert_allclose(gelu(jnp.asarray(x)), wide * share, atol=2e-6)
    np.testing.assert_allclose(jax.vmap(jax.grad(gelu))(x), slope, atol=2e-6)


def test_gelu_of_bfloat16_is_rounded_once() -> None:
    x = jnp.linspace(-4, 4, 801, dtype=jnp.bfloat16)
    wide = np.asarray(x, np.float64)
    found = ELEMENTWISE["gelu"](x)
    assert found.dtype == jnp.bfloat16
    expected = wide * 0.5 * _ERFC(-wide / np.sqrt(2))
    np.testing.assert_allclose(np.asarray(found, np.float64), expected, rtol=2**-8, atol=1e-6)


@pytest.mark.parametrize("bias", [False, True])
def test_projections_into_heads_and_out_of_them(bias: bool) -> None:
    """Values and gradients are those of the products with kernels of three axes."""
    x = jax.random.normal(jax.random.key(0), (2, 3, 5))

    def both(params: Any, x: jax.Array) -> jax.Array:
        heads = into_heads(4, 6, jnp.float32, "query", bias).apply({"params": params["in"]}, x)
        out = out_of_heads(5, jnp.float32, bias).apply({"params": params["out"]}, heads)
        assert isinstance(out, jax.Array)
        return out

    def plain(params: Any, x: jax.Array) -> jax.Array:
        heads = jnp.einsum("btd,dkc->btkc", x, params["in"]["kernel"])
        heads += params["in"].get("bias", 0.0)
        out = jnp.einsum("btkc,kcd->btd", heads, params["out"]["kernel"])
        return out + params["out"].get("bias", 0.0)

    params = {
        "in": into_heads(4, 6, jnp.float32, "query", bias).init(jax.random.key(1), x)["params"],
        "out": out_of_heads(5, jnp.float32, bias).init(jax.random.key(2), jnp.ones((2, 3, 4, 6)))[
            "params"
        ],
    }
    params = jax.tree.map(lambda leaf: leaf + 0.1, params)
    chex.assert_trees_all_close(both(params, x), plain(params, x), atol=1e-5)
    got, expected = (
        jax.grad(lambda p, x, f=f: jnp.sum(jnp.sin(f(p, x))), (0, 1))(params, x)
        for f in (both, plain)
    )
    chex.assert_trees_all_close(got, expected, atol=1e-5)


def test_nothing_to_save_leaves_the_class_alone() -> None:
    assert rematerialised(nn.Dense, "none") is nn.Dense
