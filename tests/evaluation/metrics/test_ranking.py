"""Scores of rankings by hand, by the official rules written out, and on wrong input."""

import collections

import numpy as np
import pytest
from sklearn.metrics import average_precision_score

from flamingo_jax.errors import UserError
from flamingo_jax.evaluation.metrics import mean_weighted_average_precision, ndcg, roc_auc, top1


def test_ndcg_by_hand():
    relevance = [0, 0.5, 1, 0, 0.2]  # k = 3
    ideal = 1 + 0.5 / np.log2(3) + 0.2 / 2
    assert ndcg([1, 2, 3, 0, 1.5], relevance) == pytest.approx(1)
    assert ndcg([5, 4, 3, 2, 1], relevance) == pytest.approx((0.5 / np.log2(3) + 1 / 2) / ideal)
    assert ndcg([5, 0, 0, 4, 0], relevance) == pytest.approx((0.5 / 2) / ideal)


def test_ndcg_of_a_hundred_candidates():
    rng = np.random.default_rng(0)
    relevance = np.where(rng.random(100) < 0.1, rng.random(100), 0)
    found = [ndcg(rng.normal(size=100), relevance) for _ in range(200)]
    assert 0 <= min(found) < np.mean(found) < 0.3
    assert ndcg(relevance, relevance) == pytest.approx(1)
    scores = rng.normal(size=100)
    assert ndcg(scores, relevance) == pytest.approx(ndcg(np.exp(scores), relevance))


def test_roc_auc_is_the_chance_of_the_right_order():
    labels, scores = [0, 1, 1, 0, 1], [0.1, 0.9, 0.3, 0.3, 0.2]
    pairs = [(p > n) + (p == n) / 2 for p in (0.9, 0.3, 0.2) for n in (0.1, 0.3)]
    assert roc_auc(labels, scores) == pytest.approx(np.mean(pairs))
    assert roc_auc(labels, [-score for score in scores]) == pytest.approx(1 - np.mean(pairs))


def test_weighted_precision_is_that_of_the_papers_groups():
    """The rules of RareAct's compute_score.py, clip by clip."""
    rng = np.random.default_rng(0)
    actions = [(verb, noun) for verb in ("cut", "wash", "drop") for noun in ("phone", "egg", "hat")]
    n = 300
    classes = rng.integers(len(actions), size=n)
    annotations = rng.choice(5, size=n, p=[0.3, 0.3, 0.1, 0.2, 0.1])
    annotations[classes == 8] = 0  # an action that never occurs
    videos = [f"v{number}" for number in rng.integers(60, size=n)]
    scores = np.round(rng.normal(size=(n, len(actions))), 1)
    expected = []
    for c, (verb, noun) in enumerate(actions):
        groups = {"positive": [], "negative": [], "hard": []}
        for i in range(n):
            v, m = actions[classes[i]]
            if classes[i] == c:
                name = {1: "positive", 0: "negative"}.get(annotations[i], "hard")
            elif annotations[i] != 1:
                continue
            else:
                name = "hard" if v == verb or m == noun else "negative"
            groups[name].append(i)
        if not groups["positive"]:
            continue
        weights, labels, ordered = [], [], []
        for name, clips in groups.items():
            count = collections.Counter(videos[i] for i in clips)
            weights += [1 / count[videos[i]] for i in clips]
            labels += [name == "positive"] * len(clips)
            ordered += [scores[i, c] for i in clips]
        expected.append(average_precision_score(labels, ordered, sample_weight=weights))
    assert len(expected) == 8
    found = mean_weighted_average_precision(scores, actions, classes, annotations, videos)
    assert found == pytest.approx(np.mean(expected), abs=1e-12)


def test_top1():
    assert top1(["a", "b", "c"], ["a", "x", "c"]) == pytest.approx(2 / 3)


@pytest.mark.parametrize(
    ("score", "arguments", "words"),
    [
        (ndcg, ([1, 2], [0, 0]), "above 0"),
        (ndcg, ([1, 2], [1, -1]), "from 0 on"),
        (ndcg, ([1, 2], [1]), "2 scores but 1"),
        (ndcg, ([], []), "one or more numbers"),
        (ndcg, ([float("nan"), 1], [1, 0]), "one or more numbers"),
        (roc_auc, ([1, 1], [0.1, 0.2]), "at least one of each"),
        (roc_auc, ([1, 2], [0.1, 0.2]), "labels 0 and 1"),
        (roc_auc, ([1, 0], [0.1]), "2 labels but 1"),
        (top1, ([], []), "at least one"),
        (top1, (["a"], ["a", "b"]), "1 and 2"),
        (
            mean_weighted_average_precision,
            ([[0.1]], [("cut", "egg")], [0], [0], ["v"]),
            "annotated 1",
        ),
        (
            mean_weighted_average_precision,
            ([[0.1, 0.2]], [("cut", "egg")], [0], [1], ["v"]),
            r"shape \[1, 2\]",
        ),
    ],
)
def test_wrong_input(score, arguments, words):
    with pytest.raises(UserError, match=words):
        score(*arguments)
