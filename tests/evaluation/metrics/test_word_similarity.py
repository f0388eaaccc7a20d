"""WUPS by hand, on a WordNet of a few words."""

import types

import pytest

from flamingo_jax.errors import UserError
from flamingo_jax.evaluation.metrics import word_similarity, wups
from flamingo_jax.evaluation.metrics.words import word_tokenize

SIMILAR = {("dog", "cat"): 0.86, ("dog", "car"): 0.4, ("cat", "car"): 0.5, ("run", "walk"): 0.95}
WORDS = {word for pair in SIMILAR for word in pair} | {"baby"}


class Meaning:
    def __init__(self, word: str) -> None:
        self.word = word

    def wup_similarity(self, other: "Meaning") -> float | None:
        pair = (self.word, other.word)
        return SIMILAR.get(pair, SIMILAR.get(pair[::-1]))


@pytest.fixture(autouse=True)
def small_wordnet(monkeypatch):
    """Nouns end in s where they are several; the second meanings are never asked for."""
    tools = types.SimpleNamespace(
        wordnet=types.SimpleNamespace(
            synsets=lambda word: [Meaning(word), Meaning("?")] if word in WORDS else []
        ),
        tag=lambda words: [(word, "NNS" if word.endswith("s") else "NN") for word in words],
        split=word_tokenize,
        lemmatize=lambda word, part: word.removesuffix("s") if part == "n" else word,
        stem=lambda word: word.removesuffix("ning").removesuffix("n") if "n" in word else word,
    )
    monkeypatch.setattr(word_similarity, "_nltk", lambda: tools)
    for cached in (word_similarity._first_meaning, word_similarity._content):
        cached.cache_clear()
    yield
    for cached in (word_similarity._first_meaning, word_similarity._content):
        cached.cache_clear()


@pytest.mark.parametrize(
    ("prediction", "answer", "score"),
    [
        ("dog", "dog", 1),
        ("The dogs", "a dog", 1),  # lemmas, without stop words
        ("dog", "cat", 0.86),
        ("dog car", "cat", 0.5 * 0.86),  # from the one side 0.86 × 0.5, from the other 0.86
        ("baby", "dog", 0),  # no path between them
        ("xyz", "dog", 0),  # not in WordNet
        ("xyz", "xyz", 1),  # equal words need no WordNet
        ("dog xyz", "dog", 1),  # words similar to none are left out
        ("dog. xyz", "dog", 1),  # a full stop is no part of a word, wherever it stands
        ("running", "walk", 0),  # only a stem that is in WordNet takes a word's place
        ("run", "walk", 0.95),
        ("", "dog", 0),
        ("the", "of", 0),
    ],
)
def test_by_hand(prediction, answer, score):
    assert wups(prediction, [answer]) == pytest.approx(score)


def test_below_the_threshold_a_tenth_counts():
    assert wups("dog", ["cat"], threshold=0.9) == pytest.approx(0.086)
    assert wups("run", ["walk"], threshold=0.9) == pytest.approx(0.95)


def test_the_best_of_several_answers_counts():
    assert wups("dog", ["car", "cat", "baby"]) == pytest.approx(0.86)


def test_counts_must_be_equal():
    assert wups("the dogs", ["dog", "cat"], exact=True) == 1
    assert wups("cat", ["dog"], exact=True) == 0


@pytest.mark.parametrize("answers", [[], "dog"])
def test_no_answers(answers):
    with pytest.raises(UserError, match="one or more answers"):
        wups("dog", answers)


def test_without_wordnet_it_says_how_to_get_it(monkeypatch, tmp_path):
    monkeypatch.undo()
    nltk = pytest.importorskip("nltk")
    monkeypatch.setattr(nltk.data, "path", [str(tmp_path)])
    word_similarity._nltk.cache_clear()
    with pytest.raises(UserError, match=r"nltk.downloader wordnet"):
        wups("dog", ["cat"])
    word_similarity._nltk.cache_clear()
