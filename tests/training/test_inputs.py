"""The choice of answer positions, by brute force."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flamingo_jax.data.batch import Batch
from flamingo_jax.errors import UserError
from flamingo_jax.training.inputs import select_answers


def batch_of(mask: np.ndarray) -> Batch:
    B, T = mask.shape
    return Batch(
        tokens_BxT=np.arange(B * T, dtype=np.int32).reshape(B, T) + 10,
        loss_mask_BxT=mask.astype(np.float32),
        images_BxNxFxHxWx3=np.zeros((B, 1, 1, 2, 2, 3), np.uint8),
        media_index_BxT=np.zeros((B, T), np.int32),
    )


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
