"""Scores against the training model, one continuation at a time."""

import numpy as np

from flamingo_jax.inference.score import score

CONTINUATIONS = [[[3, 4, 5], [6], [3, 4]], [[9], [5, 5, 8, 3]]]


def test_scores_equal_the_training_model(tiny, next_log_probs):
    scores = score(tiny.config, tiny.weights, tiny.prompt, CONTINUATIONS)
    for b, candidates in enumerate(CONTINUATIONS):
        for found, ids in zip(scores[b], candidates, strict=True):
            expected = [next_log_probs(b, ids[:i])[token] for i, token in enumerate(ids)]
            np.testing.assert_allclose(found.token_log_probs, expected, atol=1e-5)
            np.testing.assert_allclose(found.log_likelihood, sum(expected), atol=1e-5)
            np.testing.assert_allclose(found.mean, np.mean(expected), atol=1e-5)
            assert found.tokens == tuple(ids)


def test_a_continuation_does_not_see_the_others(tiny):
    alone = [[candidates[-1]] for candidates in CONTINUATIONS]
    single = score(tiny.config, tiny.weights, tiny.prompt, alone)
    several = score(tiny.config, tiny.weights, tiny.prompt, CONTINUATIONS)
    for one, all_of_row in zip(single, several, strict=True):
        np.testing.assert_allclose(
            one[0].token_log_probs, all_of_row[-1].token_log_probs, atol=1e-5
        )
