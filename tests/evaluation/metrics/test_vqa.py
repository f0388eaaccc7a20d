"""VQA accuracy against what the official evaluation gave, and its rules one by one."""

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flamingo_jax.errors import UserError
from flamingo_jax.evaluation.metrics import vqa_accuracy
from flamingo_jax.evaluation.metrics.vqa import normalize_vqa_answer

GOLDEN = json.loads(Path(__file__).with_name("vqa_accuracy.json").read_text())
"""Made with vqaEval.py of GT-Vision-Lab/VQA, its print statements aside."""


def test_equals_the_official_evaluation():
    for case in GOLDEN:
        found = vqa_accuracy(case["prediction"], case["answers"])
        assert found == pytest.approx(case["accuracy"], abs=1e-9), case
    assert len({round(case["accuracy"], 6) for case in GOLDEN}) > 8


@pytest.mark.parametrize(("matches", "accuracy"), [(0, 0), (1, 0.3), (2, 0.6), (3, 0.9), (4, 1)])
def test_matches_of_ten(matches, accuracy):
    answers = ["dog"] * matches + [f"cat{n}" for n in range(10 - matches)]
    assert vqa_accuracy("dog", answers) == pytest.approx(accuracy)


def test_nothing_is_normalised_when_all_answers_are_the_same():
    assert vqa_accuracy("two", ["2"] * 10) == 0
    assert vqa_accuracy("Two dogs", ["Two dogs"] * 10) == 1
    assert vqa_accuracy("two dogs", ["Two dogs"] * 10) == 0
    assert vqa_accuracy(" Two\tdogs\n", ["Two dogs"] * 10) == 1
    assert vqa_accuracy("two", ["2"] * 9 + ["3"]) == 1


@pytest.mark.parametrize(
    ("answer", "normal"),
    [
        ("A dog, the cat", "dog cat"),  # the comma stands next to a space
        ("red/blue", "red blue"),
        ("red/blue / green", "redblue green"),  # one slash next to a space takes all away
        ("1,000-2", "10002"),  # digits around a comma: every mark goes
        ("3.5", "3.5"),
        ("3. ", "3"),
        ("U.S.", "us"),
        (".5", ".5"),
        ("None", "0"),
        ("ten", "10"),
        ("eleven", "eleven"),
        ("dont", "don't"),
        ("im", "im"),  # the official table has "Im", which lower-cased words never meet
        ("somebody'd", "somebodyd"),
        ("couldnt've", "couldn't've"),
        ("t-shirt", "t shirt"),
        ("it's: 50% $5", "it's: 50% $5"),  # colons, apostrophes and such are no marks
        ("." * 33, "."),  # at most 32 points
        ("Café ÉTÉ", "café été"),
        ("the", ""),
        ("", ""),
    ],
)
def test_normalisation(answer, normal):
    assert normalize_vqa_answer(answer) == normal


def test_an_empty_prediction_matches_what_normalises_to_nothing():
    assert vqa_accuracy("", ["the", "a", "an", "", "x", "x", "x", "x", "x", "x"]) == 1


@given(st.text(max_size=8), st.lists(st.text(max_size=8), min_size=2, max_size=12))
def test_any_text_has_a_score(prediction, answers):
    assert 0 <= vqa_accuracy(prediction, answers) <= 1


@pytest.mark.parametrize("answers", [[], ["yes"], "yes"])
def test_too_few_answers(answers):
    with pytest.raises(UserError, match="two or more"):
        vqa_accuracy("yes", answers)
