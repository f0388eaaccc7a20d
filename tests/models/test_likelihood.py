"""The loss by parts against NumPy and against the gradient of all logits at once."""

from typing import Any

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flamingo_jax.models import likelihood


def drawn(batch: int, length: int, width: int = 6, vocabulary: int = 11) -> tuple[jax.Array, ...]:
    rng = np.random.default_rng(length)
    return (
        jnp.asarray(rng.normal(size=(batch, length, width)), jnp.float32),
        jnp.asarray(rng.normal(size=(vocabulary, width)), jnp.float32),
        jnp.asarray(rng.integers(0, vocabulary, (batch, length))),
        jnp.asarray(rng.choice([0.0, 0.1, 1.0], (batch, length)), jnp.float32),
    )


def at_once(x: jax.Array, table: jax.Array, targets: jax.Array, weights: jax.Array) -> jax.Array:
    log_p = jax.nn.log_softmax(jnp.einsum("bae,ve->bav", x, table))
    nll = -jnp.take_along_axis(log_p, targets[..., None], -1)[..., 0]
    return (nll * weights).sum() / weights.sum()


def test_loss_is_numpys() -> None:
    x, table, targets, weights = map(np.asarray, drawn(2, 3))
    logits = x @ table.T
    log_p = logits - np.log(np.exp(logits).sum(-1, keepdims=True))
    nll = -np.take_along_axis(log_p, targets[..., None], -1)[..., 0]
    got = likelihood.mean_loss(*map(jnp.asarray, (x, table, targets, weights)))
    np.testing.assert_allclose(got, (nll * weights).sum() / weights.sum(), rtol=1e-5)


@settings(deadline=None, max_examples=30)
@given(length=st.integers(1, 20), most=st.integers(1, 8), by=st.floats(-3, 3))
def test_gradients_are_those_of_all_logits(length: int, most: int, by: float) -> None:
    given_ = drawn(2, length)
    given_ = (*given_[:3], given_[3].at[0, 0].set(1.0))
    constants = given_[2:]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(likelihood, "AT_ONCE", most)
        found, back = jax.vjp(lambda *of: likelihood.mean_loss(*of, *constants), *given_[:2])
    expected, expected_back = jax.vjp(lambda *of: at_once(*of, *constants), *given_[:2])
    chex.assert_trees_all_close(found, expected, rtol=1e-5)
    scale = jnp.asarray(by, jnp.float32)
    chex.assert_trees_all_close(back(scale), expected_back(scale), rtol=1e-4, atol=1e-6)


def test_nothing_to_score_costs_nothing() -> None:
    x, table, targets, _ = drawn(1, 5)
    loss, gradient = jax.value_and_grad(likelihood.mean_loss)(x, table, targets, jnp.zeros((1, 5)))
    assert loss == 0.0
    assert not gradient.any()


def test_gradients_have_the_type_of_what_they_are_of() -> None:
    x, table, targets, weights = drawn(2, 9)
    low = (x.astype(jnp.bfloat16), table.astype(jnp.bfloat16), targets, weights)
    found = jax.grad(likelihood.mean_loss, (0, 1))(*low)
    chex.assert_trees_all_equal_dtypes(found, low[:2])
    expected = jax.grad(at_once, (0, 1))(x, table, targets, weights)
    chex.assert_trees_all_close(
        jax.tree.map(lambda leaf: leaf.astype(jnp.float32), found), expected, atol=0.01
    )


@pytest.mark.parametrize("frozen", [True, False])
def test_logits_are_never_whole(frozen: bool) -> None:
    """Nor is there a gradient of the table where that is frozen."""
    given_ = drawn(1, 8 * likelihood.AT_ONCE, 16, 4096)
    arguments = 0 if frozen else (0, 1)
    grad = jax.jit(jax.grad(likelihood.mean_loss, arguments)).lower(*given_).compile()
    whole = 4 * given_[0].shape[1] * 4096
    table = 4 * given_[1].size
    part, rest = whole / 8, 4 * given_[0].size
    needed = grad.memory_analysis().temp_size_in_bytes
    assert needed < 3 * part + 4 * rest + (0 if frozen else 4 * table)
    assert needed < whole / 2


@pytest.mark.parametrize(("frozen", "products"), [(True, 2), (False, 3)])
def test_nothing_is_computed_twice(frozen: bool, products: int) -> None:
    """Logits and the way back from them; the table's gradient only where it is asked for."""
    B, A, E, V = 2, 100, 512, 256
    grad = jax.jit(jax.grad(likelihood.mean_loss, 0 if frozen else (0, 1)))
    needed: Any = grad.lower(*drawn(B, A, E, V)).compile().cost_analysis()
    assert products <= needed["flops"] / (2 * B * A * E * V) < products + 0.1
