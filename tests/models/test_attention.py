"""Attention and its gradient against restatements of the formula."""

from typing import Any

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flamingo_jax.models.attention import attend, attention_weights

B, T, S, K, G, C = 2, 5, 7, 6, 2, 8


def inputs(masked: bool, biased: bool, dtype: Any = np.float32) -> tuple[Any, ...]:
    """q, k, v, mask and bias; some rows of the mask see nothing."""
    draw = np.random.default_rng(0)
    q = draw.normal(size=(B, T, K, C)).astype(dtype)
    k, v = draw.normal(size=(2, B, S, G, C)).astype(dtype)
    mask = draw.random((B, T, S)) < 0.4
    mask[0, 1] = False
    bias = draw.normal(size=(B, K, T, S)).astype(np.float32)
    return q, k, v, mask if masked else None, bias if biased else None


def plain(q: Any, k: Any, v: Any, mask: Any, bias: Any) -> tuple[jax.Array, jax.Array]:
    """Its output and weights, each head of keys repeated, every step by itself."""
    k, v = jnp.repeat(k, K // G, axis=2), jnp.repeat(v, K // G, axis=2)
    scores = jnp.einsum("btkc,bskc->bkts", q, k) / np.sqrt(C) + (0 if bias is None else bias)
    seen = jnp.ones((B, 1, T, S), bool) if mask is None else jnp.asarray(mask)[:, None]
    powers = jnp.where(seen, jnp.exp(scores), 0)
    weights = powers / jnp.maximum(powers.sum(-1, keepdims=True), 1e-30)
    return jnp.einsum("bkts,bskc->btkc", weights, v), weights


@pytest.mark.parametrize("biased", [False, True])
@pytest.mark.parametrize("masked", [False, True])
def test_output_and_gradients_are_those_of_the_formula(masked: bool, biased: bool) -> None:
    q, k, v, mask, bias = inputs(masked, biased)
    g = np.random.default_rng(1).normal(size=q.shape).astype(np.float32)
    got, pull = jax.vjp(lambda q, k, v, bias: attend(q, k, v, mask, bias), q, k, v, bias)
    expected, back = jax.vjp(lambda q, k, v, bias: plain(q, k, v, mask, bias)[0], q, k, v, bias)
    np.testing.assert_allclose(got, expected, atol=1e-5)
    chex.assert_trees_all_close(pull(g), back(g), atol=1e-5)
    if mask is not None:
        hidden = ~mask.any(-1)
        assert not np.asarray(got)[hidden].any()
        assert not np.asarray(pull(g)[0])[hidden].any()


@pytest.mark.parametrize("masked", [False, True])
def test_weights_to_look_at_are_those_of_the_sum(masked: bool) -> None:
    q, k, v, mask, _ = inputs(masked, False)
    expected = plain(q, k, v, mask, None)[1]
    np.testing.assert_allclose(attention_weights(q, k, mask), expected, atol=1e-6)


@settings(max_examples=25, deadline=None)
@given(st.floats(-1e4, 1e4, width=32), st.integers(0, S - 1))
def test_a_token_that_sees_one_gets_its_value(size: float, seen: int) -> None:
    """Whatever the scores: neither do large ones overflow nor do hidden ones leak."""
    q, k, v, _, _ = inputs(False, False)
    mask = np.zeros((B, T, S), bool)
    mask[..., seen] = True
    got, pull = jax.vjp(lambda q, k, v: attend(q * np.float32(size), k, v, mask), q, k, v)
    expected = np.repeat(v[:, seen], K // G, axis=1)[:, None]
    np.testing.assert_allclose(got, np.broadcast_to(expected, q.shape), rtol=1e-6)
    dq, dk, dv = pull(jnp.ones_like(got))
    assert not np.asarray(dk)[:, np.arange(S) != seen].any()
    np.testing.assert_allclose(dq, np.zeros_like(q), atol=1e-3 * (1 + abs(size)))
    np.testing.assert_allclose(np.asarray(dv)[:, seen], np.full((B, G, C), T * K / G), rtol=1e-5)


def test_bfloat16_keeps_its_type_and_sums_in_float32() -> None:
    exact = inputs(True, True)
    rounded = inputs(True, True, jnp.bfloat16)
    got, pull = jax.vjp(lambda q, k, v: attend(q, k, v, *rounded[3:]), *rounded[:3])
    expected, back = jax.vjp(lambda q, k, v: plain(q, k, v, *exact[3:])[0], *exact[:3])
    chex.assert_type([got, *pull(got)], jnp.bfloat16)
    np.testing.assert_allclose(np.asarray(got, np.float32), expected, atol=0.03)
    for typed, full in zip(pull(got), back(expected), strict=True):
        np.testing.assert_allclose(np.asarray(typed, np.float32), full, atol=0.08)


def test_no_weights_are_kept_for_the_backward_pass() -> None:
    q, k, v, mask, _ = inputs(True, False)
    pull = jax.vjp(lambda q, k, v: attend(q, k, v, mask), q, k, v)[1]
    assert max(leaf.nbytes for leaf in jax.tree.leaves(pull)) <= q.nbytes
