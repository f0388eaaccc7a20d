"""Positions against NumPy restatements of their papers."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from flamingo_jax.models.decoder import Attention, Context, DecoderConfig
from flamingo_jax.models.positions import distances, rotate

B, T, K, C = 2, 5, 3, 8


def test_a_share_of_the_channels_is_rotated_as_complex_numbers() -> None:
    """arXiv:2104.09864, eq. 13: pair i turns by position * base^(-2 i / d)."""
    draw = np.random.default_rng(0)
    x = draw.normal(size=(B, T, K, C)).astype(np.float32)
    positions = draw.integers(0, 50, (B, T))
    turn = np.exp(1j * positions[..., None, None] * 100.0 ** (-np.arange(2) / 2))
    turned = (x[..., :2] + 1j * x[..., 2:4]) * turn
    expected = np.concatenate([turned.real, turned.imag, x[..., 4:]], axis=-1)
    np.testing.assert_allclose(rotate(x, positions, 100.0, 0.5), expected, atol=1e-5)


@settings(max_examples=25, deadline=None)
@given(st.lists(st.booleans(), min_size=1, max_size=9))
def test_distances_count_what_is_seen_after(seen: list[bool]) -> None:
    got = distances(jnp.array([[seen]]))[0, 0]
    np.testing.assert_array_equal(got, [sum(seen[s + 1 :]) for s in range(len(seen))])


def test_relative_positions_are_transformer_xls() -> None:
    """arXiv:1901.02860, §3.3, every product by itself."""
    config = DecoderConfig(5, 16, 1, K, K, C, 8, positions="relative")
    draw = np.random.default_rng(0)
    x = draw.normal(size=(1, T, 16)).astype(np.float32)
    mask = np.tri(T, dtype=bool)[None]
    context = Context(jnp.arange(T)[None], jnp.asarray(mask))
    shapes = jax.eval_shape(Attention(config).init, jax.random.key(0), x, context)["params"]
    p = jax.tree.map(lambda leaf: draw.normal(size=leaf.shape).astype(np.float32), shapes)
    got = jax.jit(Attention(config).apply)({"params": p}, x, context)

    q, k, v = (np.einsum("td,dkc->tkc", x[0], p[n]["kernel"]) for n in ("query", "key", "value"))
    frequency = 10_000.0 ** (-np.arange(0, 16, 2) / 16)
    scores = np.full((K, T, T), -np.inf)
    for t in range(T):
        for s in range(t + 1):
            angle = (t - s) * frequency
            place = np.concatenate([np.sin(angle), np.cos(angle)])
            r = np.einsum("d,dkc->kc", place, p["position"]["kernel"])
            content = ((q[t] + p["content_bias"]) * k[s]).sum(-1)
            position = ((q[t] + p["position_bias"]) * r).sum(-1)
            scores[:, t, s] = (content + position) / np.sqrt(C)
    weights = np.exp(scores - scores.max(-1, keepdims=True))
    weights /= weights.sum(-1, keepdims=True)
    mixed = np.einsum("kts,skc->tkc", weights, v)
    expected = np.einsum("tkc,kcd->td", mixed, p["out"]["kernel"])
    chex.assert_shape(got, (1, T, 16))
    np.testing.assert_allclose(got[0], expected, rtol=1e-4, atol=1e-3)
