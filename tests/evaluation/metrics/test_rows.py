"""Intervals against known distributions."""

import numpy as np

from flamingo_jax.evaluation.metrics import Row, bootstrap_interval


def test_interval_of_independent_scores_is_the_normal_one():
    rng = np.random.default_rng(0)
    values = (rng.random(2000) < 0.3).astype(float)
    low, high = bootstrap_interval(values, np.arange(2000))
    mean, error = values.mean(), values.std() / np.sqrt(2000)
    np.testing.assert_allclose([low, high], [mean - 1.96 * error, mean + 1.96 * error], atol=0.003)


def test_interval_covers_the_truth_about_as_often_as_it_says():
    """400 samples of 50 episodes whose queries agree: ignoring that would cover far less."""
    rng = np.random.default_rng(1)
    hits = wrong = 0
    for seed in range(400):
        skill = rng.choice([0.2, 0.8], 50)
        values = (rng.random((50, 4)) < skill[:, None]).astype(float).ravel()
        low, high = bootstrap_interval(values, np.repeat(np.arange(50), 4), seed)
        hits += low <= 0.5 <= high
        low, high = bootstrap_interval(values, np.arange(200), seed)
        wrong += low <= 0.5 <= high
    assert 0.91 < hits / 400 < 0.98
    assert wrong < hits - 20


def test_equal_scores_have_no_width():
    assert bootstrap_interval(np.ones(30), np.arange(30)) == (1.0, 1.0)


def test_row_is_plain_json():
    row = Row("name", 4, 0, "log_likelihood", 0.123456, (0.1, 0.2), 200, "blank", 1 / 8).to_json()
    assert row == {
        "benchmark": "name",
        "shots": 4,
        "seed": 0,
        "metric": "log_likelihood",
        "score": 0.1235,
        "ci95": [0.1, 0.2],
        "queries": 200,
        "images": "blank",
        "chance": 0.125,
    }
