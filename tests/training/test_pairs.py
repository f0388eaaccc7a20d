import types

import numpy as np
import pytest

from flamingo_jax.errors import UserError
from flamingo_jax.training.pairs import Pairs, TextTable, one_for_each_base
from tests.training.drawings import WORDS, make_drawings


def pairs(**changes):
    options = {
        "batch": 4,
        "languages": ("en", "fr"),
        "other_language": 0.5,
        "with_group": 0.5,
        "seed": 3,
    } | changes
    return Pairs(make_drawings(), **options)


def test_no_base_twice_in_a_batch_and_each_once_in_an_epoch():
    drawings = {d.image.tobytes(): d for d in make_drawings()}
    make = pairs()
    seen = []
    for step in range(3):
        images, texts = make(step)
        assert len(texts) == 4
        seen += [drawings[image.tobytes()].base for image in images]
        assert all(drawings[image.tobytes()].split == "train" for image in images)
    assert len(set(seen)) == len(seen) == 12


def test_a_step_is_the_same_whenever_it_is_asked_for():
    one, other = pairs(), pairs()
    one(0)
    np.testing.assert_array_equal(one(5)[0], other(5)[0])
    assert one(5)[1] == other(5)[1]
    assert one(5)[1] != pairs(seed=4)(5)[1]


def test_some_rows_are_those_of_the_whole_batch():
    images, texts = pairs()(2)
    some, words = pairs()(2, (1, 3))
    np.testing.assert_array_equal(some, images[[1, 3]])
    assert words == [texts[1], texts[3]]


def test_texts_are_names_with_and_without_the_group():
    assert all(t.startswith("name") for t in pairs(other_language=0, with_group=0)(0)[1])
    assert all(t.startswith("nom") for t in pairs(other_language=1, with_group=0)(0)[1])
    texts = pairs(other_language=0, with_group=1)(0)[1]
    assert all(t.split(": ")[0] in ("odd, odd kind", "even, even kind") for t in texts)


def test_too_few_bases_is_one_clear_sentence():
    with pytest.raises(
        UserError, match=r"only 12 are in the training split: lower vision_training"
    ):
        pairs(batch=13)


def test_one_for_each_base():
    assert len(one_for_each_base(make_drawings(), "train")) == 12
    assert len({d.base for d in one_for_each_base(make_drawings(), "test")}) == 4


def test_text_vectors_are_means_of_centred_unit_embeddings():
    embedding = np.random.default_rng(0).normal(1.0, 2.0, (len(WORDS), 5))
    table = TextTable(embedding, types.SimpleNamespace(encode=lambda text: [len(text), 1]))
    centred = embedding - embedding.mean(0)
    centred /= np.linalg.norm(centred, axis=1, keepdims=True)
    np.testing.assert_allclose(table(["ab"]), [(centred[3] + centred[1]) / 2], rtol=1e-5)
