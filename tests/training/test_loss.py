"""Answer loss against NumPy, and the choice of answer positions by brute force."""

import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flamingo_jax.data.batch import Batch
from flamingo_jax.errors import UserError
from flamingo_jax.training.loss import answer_loss, select_answers


def batch_of(mask: np.ndarray) -> Batch:
    B, T = mask.shape
    return Batch(
        tokens_BxT=np.arange(B * T, dtype=np.int32).reshape(B, T) + 10,
        loss_mask_BxT=mask.astype(np.float32),
        images_BxNxFxHxWx3=np.zeros((B, 1, 1, 2, 2, 3), np.uint8),
        media_index_BxT=np.zeros((B, T), np.int32),
    )


def test_loss_equals_numpy() -> None:
    rng = np.random.default_rng(0)
    logits, targets = rng.normal(size=(2, 3, 7)), rng.integers(0, 7, (2, 3))
    weights = np.array([[1.0, 0.1, 0.0], [1.0, 0.0, 0.0]])
    log_p = logits - np.log(np.exp(logits).sum(-1, keepdims=True))
    nll = -np.take_along_axis(log_p, targets[..., None], -1)[..., 0]
    expected = (nll * weights).sum() / weights.sum()
    got = answer_loss(jnp.array(logits), jnp.array(targets), jnp.array(weights))
    np.testing.assert_allclose(got, expected, rtol=1e-5)


def test_loss_of_no_answers_is_zero() -> None:
    got = answer_loss(jnp.ones((1, 2, 5)), jnp.zeros((1, 2), int), jnp.zeros((1, 2)))
    assert got == 0.0


@settings(deadline=None, max_examples=50)
@given(st.lists(st.lists(st.sampled_from([0.0, 0.1, 1.0]), min_size=8, max_size=8), min_size=1))
def test_every_scored_token_is_chosen_once(rows: list[list[float]]) -> None:
    mask = np.array(rows, np.float32)
    mask[:, 0] = 0.0  # nothing comes before the first token
    batch = batch_of(mask)
    at, targets, weights = select_answers(batch, 8)
    for b, row in enumerate(mask):
        expected = {(t - 1, batch.tokens_BxT[b, t], row[t]) for t in range(8) if row[t] > 0}
        scored = weights[b] > 0
        got = set(zip(at[b, scored], targets[b, scored], weights[b, scored], strict=True))
        assert got == expected


def test_too_many_answers_name_the_number_to_raise() -> None:
    with pytest.raises(UserError, match=r"4 scored tokens, max_answer_tokens is 3: raise it"):
        select_answers(batch_of(np.array([[0, 1, 1, 1, 1]])), 3)
