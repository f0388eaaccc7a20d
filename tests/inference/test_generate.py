"""Decoding with a cache against the training model without one."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from flamingo_jax.errors import UserError
from flamingo_jax.inference.cache import decode_step, prefill
from flamingo_jax.inference.generate import (
    GenerationConfig,
    choose,
    generate,
    make_sampling,
    truncate,
)
from tests.inference.conftest import VOCAB, row

STEPS = 6


def greedy(next_log_probs, b: int, stop: tuple[int, ...]) -> list[int]:
    ids: list[int] = []
    for _ in range(STEPS):
        token = int(next_log_probs(b, ids).argmax())
        if token in stop:
            break
        ids.append(token)
    return ids


@pytest.mark.slow
def test_greedy_equals_uncached(tiny, next_log_probs):
    got = generate(tiny.config, tiny.weights, tiny.prompt, GenerationConfig(STEPS), (VOCAB,))
    assert got == [greedy(next_log_probs, b, (VOCAB,)) for b in range(2)]
    assert [len(ids) for ids in got] == [STEPS, STEPS]


def test_logits_of_every_step_equal_uncached(tiny, next_log_probs):
    start = prefill(tiny.config, tiny.weights, tiny.prompt, 8)
    step = jax.jit(lambda *a: decode_step(tiny.config, *a))
    text, logits, ids = start.cache.text, start.logits_BxV, []
    for number in range(4):
        expected = [next_log_probs(b, ids) for b in range(2)]
        np.testing.assert_allclose(jax.nn.log_softmax(logits), expected, atol=1e-5)
        ids.append(3 + number)
        token = jnp.full((2,), ids[-1], jnp.int32)
        logits, text = step(tiny.weights, start, text, token, jnp.int32(number))


def test_a_row_does_not_depend_on_its_neighbours(tiny):
    together = prefill(tiny.config, tiny.weights, tiny.prompt, 8).logits_BxV
    for b in range(2):
        alone = prefill(tiny.config, tiny.weights, row(tiny.prompt, b), 8).logits_BxV
        np.testing.assert_allclose(together[b], alone[0], atol=1e-5)


@pytest.mark.slow
def test_media_keys_are_computed_once(tiny):
    """The decoding step reads the resampled media from the cache only."""
    start = prefill(tiny.config, tiny.weights, tiny.prompt, 8)
    kinds = [set(kept["attention"]) for kept in start.cache.media if kept is not None]
    assert kinds == [{"key", "value"}] * 3
    token = jnp.full((2,), 3, jnp.int32)
    bare = tiny.weights.replace(
        bridges=jax.tree_util.tree_map_with_path(
            lambda path, x: x * jnp.nan if {"key", "value"} & {str(k.key) for k in path[1:]} else x,
            tiny.weights.bridges,
        )
    )
    logits = [
        decode_step(tiny.config, w, start, start.cache.text, token, jnp.int32(0))[0]
        for w in (tiny.weights, bare)
    ]
    np.testing.assert_array_equal(*logits)


def test_stops_at_the_stop_token(tiny, next_log_probs):
    free = greedy(next_log_probs, 0, (VOCAB,))
    stop = (free[2],)
    got = generate(tiny.config, tiny.weights, tiny.prompt, GenerationConfig(STEPS), stop)
    assert got == [greedy(next_log_probs, b, stop) for b in range(2)]
    assert len(got[0]) <= 2


def test_one_new_token(tiny, next_log_probs):
    got = generate(tiny.config, tiny.weights, tiny.prompt, GenerationConfig(1), (VOCAB,))
    assert got == [[int(next_log_probs(b, []).argmax())] for b in range(2)]


def test_equal_logits_give_the_lowest_id():
    logits = jnp.zeros((2, 5)).at[1, 3:].set(1.0)
    assert choose(logits, None, jnp.int32(0)).tolist() == [0, 3]


def test_samples_follow_the_softmax():
    """Chi-square of 20,000 draws at temperature 2 against softmax(logits / 2)."""
    logits = jnp.array([0.0, 1.0, 2.0, 3.0])
    n = 20_000
    sampling = make_sampling(GenerationConfig(temperature=2.0, seed=3), n, 4)
    drawn = jax.jit(choose)(jnp.broadcast_to(logits, (n, 4)), sampling, jnp.int32(0))
    expected = n * np.asarray(jax.nn.softmax(logits / 2))
    counts = np.bincount(drawn, minlength=4)
    assert ((counts - expected) ** 2 / expected).sum() < 16.3  # p = 0.001 at 3 degrees of freedom


def test_samples_repeat_with_the_seed_and_differ_without(tiny):
    def sample(seed: int) -> list[list[int]]:
        options = GenerationConfig(STEPS, temperature=1.5, seed=seed)
        return generate(tiny.config, tiny.weights, tiny.prompt, options, (VOCAB,))

    assert sample(0) == sample(0)
    assert len({str(sample(seed)) for seed in range(4)}) > 1


def test_truncation_keeps_the_likeliest():
    logits = jnp.log(jnp.array([[0.1, 0.4, 0.2, 0.3]]))
    kept = lambda k, p: np.isfinite(truncate(logits, jnp.int32(k), jnp.float32(p)))[0].tolist()  # noqa: E731
    assert kept(2, 1.0) == [False, True, False, True]
    assert kept(4, 0.65) == [False, True, False, True]
    assert kept(4, 0.75) == [False, True, True, True]
    assert kept(4, 1e-6) == [False, True, False, False]
    assert kept(1, 1.0) == [False, True, False, False]


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"max_new_tokens": 0}, "max_new_tokens must be at least 1, not 0"),
        ({"num_beams": 0}, "num_beams"),
        ({"temperature": -1.0}, "temperature"),
        ({"temperature": float("nan")}, "temperature"),
        ({"temperature": 1.0, "top_p": 0.0}, "top_p"),
        ({"temperature": 1.0, "num_beams": 2}, "Beam search"),
        ({"top_k": 3}, "temperature above 0"),
    ],
)
def test_bad_options(fields, message):
    with pytest.raises(UserError, match=message):
        GenerationConfig(**fields)
