"""Episodes: answerable, labels independent, held-out words and families kept apart."""

import numpy as np
import pytest

from flamingo_jax.data.drawings import Drawing
from flamingo_jax.data.tasks import FAMILIES, Pool, made_up_words, make_episode
from flamingo_jax.errors import UserError


@pytest.fixture(scope="module")
def pool(drawings: list[Drawing]) -> Pool:
    return Pool(drawings, "train")


@pytest.mark.parametrize("family", FAMILIES)
def test_answers_are_candidates_and_drawings_are_of_the_split(pool: Pool, family: str) -> None:
    for seed in range(20):
        episode = make_episode(family, pool, np.random.default_rng(seed), 6)
        assert len(episode.turns) == 6
        assert episode.turns[-1].answer in episode.candidates
        assert len(set(episode.candidates)) == len(episode.candidates)
        assert {d.split for turn in episode.turns for d in turn.drawings} == {"train"}


@pytest.mark.parametrize("family", ["instance_binding", "category_binding", "colour_binding"])
def test_binding_is_consistent_and_the_query_was_shown(pool: Pool, family: str) -> None:
    attribute = {"instance_binding": "base", "category_binding": "category"}.get(family, "colour")
    for seed in range(20):
        turns = make_episode(family, pool, np.random.default_rng(seed), 6).turns
        meaning: dict[str, str] = {}
        for turn in turns:
            value = getattr(turn.drawings[0], attribute)
            assert turn.scored == (turn.answer in meaning)
            assert meaning.setdefault(turn.answer, value) == value
        assert turns[-1].answer in {turn.answer for turn in turns[:-1]}


def test_labels_are_independent_draws(pool: Pool) -> None:
    rng = np.random.default_rng(0)
    counts = np.zeros(7)
    for _ in range(600):
        turns = make_episode("category_binding", pool, rng, 7).turns[:-1]
        counts[sum(turn.answer == turns[0].answer for turn in turns)] += 1
    # The first label again among the next five: binomial(5, 1/2), shifted by one.
    expected = 600 * np.array([0, 1, 5, 10, 10, 5, 1]) / 32
    assert np.abs(counts - expected).max() < 4 * np.sqrt(600 * 0.25)


def test_made_up_words_of_evaluation_are_new() -> None:
    train, held_out = made_up_words(True), made_up_words(False)
    assert not set(train) & set(held_out)
    assert len(train) > 1000
    assert len(held_out) > 300


def test_names_are_single_words_of_one_language(pool: Pool) -> None:
    for seed in range(20):
        episode = make_episode("name", pool, np.random.default_rng(seed), 4)
        for turn in episode.turns:
            assert turn.answer == turn.drawings[0].names[episode.language or ""]
        assert all(" " not in word and 0 < len(word) <= 16 for word in episode.candidates)
        assert len(episode.candidates) == 8


def test_too_few_names_are_told_instead_of_sought_for_ever(pool: Pool) -> None:
    few = [drawing for drawing in pool.drawings if " " not in drawing.names["en"]][:5]
    with pytest.raises(
        UserError, match="needs drawings with 8 different names of one word, at most 16"
    ):
        make_episode("name", Pool(few, "train"), np.random.default_rng(0), 3)
