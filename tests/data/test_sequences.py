"""Token sequences: φ by brute force, loss on answers only, sizes checked."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from flamingo_jax.data.sequences import encode_turns, last_media, next_media, pad
from flamingo_jax.data.tasks import Turn
from flamingo_jax.data.tokenizer import Tokenizer
from flamingo_jax.errors import UserError

FRAME = np.zeros((1, 4, 4, 3), np.uint8)


@given(st.lists(st.sampled_from([4, 7]), max_size=12))
def test_phi_by_brute_force(tokens: list[int]) -> None:
    places = [t for t, token in enumerate(tokens) if token == 4]
    for t in range(len(tokens)):
        before = [n for n, place in enumerate(places, 1) if place <= t]
        after = [n for n, place in enumerate(places, 1) if place >= t]
        assert last_media(tokens, 4)[t] == max(before, default=0)
        assert next_media(tokens, 4)[t] == min(after, default=0)


@pytest.mark.parametrize("text_first", [False, True])
def test_answers_are_scored_and_see_their_medium(tokenizer: Tokenizer, text_first: bool) -> None:
    turns = [Turn((FRAME,), "cat"), Turn((FRAME,), "zorble", False), Turn((FRAME, FRAME), "dog")]
    sequence = encode_turns(turns, tokenizer, 0.1, text_first)
    weights = np.array(sequence.loss_mask)
    scored = [t for t in range(len(weights)) if weights[t] == 1.0]
    text = tokenizer.decode([sequence.tokens[t] for t in scored])
    assert text == " cat dog"
    own = [sequence.media_index[t] for t in scored]
    assert own == ([1, 3] if text_first else [1, 4])
    ends = [t for t, token in enumerate(sequence.tokens) if token == tokenizer.eoc_id]
    np.testing.assert_allclose(weights[ends], 0.1)


def test_a_sequence_that_does_not_fit_names_the_number(tokenizer: Tokenizer) -> None:
    sequence = encode_turns([Turn((FRAME,), "cat")] * 3, tokenizer)
    with pytest.raises(UserError, match="raise length from 5"):
        pad(sequence, 5, 3, 0, "Data set x")
    with pytest.raises(UserError, match="raise media from 2"):
        pad(sequence, 50, 2, 0, "Data set x")
