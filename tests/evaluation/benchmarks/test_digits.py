"""Digits: made where they are read, once, and split by writers."""

from pathlib import Path

import numpy as np
from PIL import Image
from sklearn import datasets

from flamingo_jax.evaluation.benchmark import Answer
from flamingo_jax.evaluation.benchmarks.digits import Digits


def test_they_are_scikit_learns(tmp_path: Path) -> None:
    train, test = Digits().read(tmp_path, "train"), Digits().read(tmp_path, "test")
    assert (len(train), len(test)) == (1000, 797)
    assert not {e.id for e in train} & {e.id for e in test}
    digits = datasets.load_digits()
    assert test[5].answers == (test[5].candidates[digits.target[1005]],)
    pixels = np.asarray(Image.open(test[5].media[0].path), float).reshape(8, 8, 8, 8).mean((1, 3))
    assert np.corrcoef(255 - pixels.ravel(), digits.images[1005].ravel())[0, 1] > 0.95


def test_the_likeliest_word_is_the_answer(tmp_path: Path) -> None:
    queries = Digits().read(tmp_path, "test")[:2]
    right = queries[0].candidates.index(queries[0].answers[0])
    log_probs = tuple(-1.0 if i == right else -2.0 for i in range(10))
    score = Digits().score(queries, [Answer(log_probs=log_probs)] * 2)
    same = queries[0].answers == queries[1].answers
    assert score.value == (1.0 if same else 0.5)
