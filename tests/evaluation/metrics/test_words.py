"""Words as NLTK has them."""

import pytest

from flamingo_jax.evaluation.metrics.words import word_tokenize


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("dog. xyzzy", ["dog", ".", "xyzzy"]),
        ("Is it? Yes! It is.", ["Is", "it", "?", "Yes", "!", "It", "is", "."]),
        ("3.5 cups", ["3.5", "cups"]),
        ("don't (run)", ["do", "n't", "(", "run", ")"]),
        ("", []),
    ],
)
def test_sentences_are_told_apart(text: str, words: list[str]) -> None:
    assert word_tokenize(text) == words
