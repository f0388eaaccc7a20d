"""What a layer under rematerialisation computes again in the backward pass."""

from collections.abc import Callable
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import pytest

from flamingo_jax.models.layers import FeedForward, Remat, rematerialised, widen_dot
from flamingo_jax.models.resampler import PerceiverAttention, ResamplerConfig


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


def test_nothing_to_save_leaves_the_class_alone() -> None:
    assert rematerialised(nn.Dense, "none") is nn.Dense
