"""Caption scores against those of the official code with its Java tokenizer."""

import json
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest

from flamingo_jax.errors import UserError
from flamingo_jax.evaluation.metrics import bleu, cider, cider_each, meteor, rouge_l

GOLDEN = json.loads(Path(__file__).with_name("captions.json").read_text())
"""Made with pycocoevalcap 1.2, tokenizer and scorers; METEOR for the larger sets."""


@pytest.mark.parametrize("case", GOLDEN, ids=lambda case: f"{len(case['references'])} images")
def test_equals_the_official_code(case):
    references, candidates = case["references"], case["candidates"]
    assert cider(references, candidates) == pytest.approx(case["cider"], abs=1e-9)
    np.testing.assert_allclose(cider_each(references, candidates), case["cider_each"], atol=1e-9)
    assert bleu(references, candidates) == pytest.approx(case["bleu"], abs=1e-9)
    assert rouge_l(references, candidates) == pytest.approx(case["rouge_l"], abs=1e-9)


def test_the_cases_tell_scores_apart():
    scores = [case["cider"] for case in GOLDEN]
    assert len(set(scores)) == len(scores)
    assert max(scores) > 1
    assert any(text == "" for case in GOLDEN for text in case["candidates"].values())


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("java") is None, reason="METEOR is a Java program")
def test_meteor_equals_the_official_code():
    case = GOLDEN[1]
    found = meteor(case["references"], case["candidates"])
    assert found == pytest.approx(case["meteor"], abs=1e-9)


def test_meteor_without_java_says_what_to_do(monkeypatch):
    monkeypatch.setenv("PATH", "")
    with pytest.raises(UserError, match="Java"):
        meteor({"a": ["x"]}, {"a": "x"})


def test_ids_of_any_kind_and_order():
    references = {7: ["a dog runs on grass", "a dog runs"], 3: ["two cats sleep"]}
    candidates = {3: "two cats sleep on a bed", 7: "a dog runs on grass"}
    swapped = dict(reversed(references.items()))
    assert cider(references, candidates) > 1
    assert cider(references, candidates) == pytest.approx(cider(swapped, candidates))


def test_a_single_image_scores_nothing():
    assert cider({"a": ["a dog"]}, {"a": "a dog"}) == 0


@pytest.mark.parametrize(
    ("references", "candidates", "words"),
    [
        ({}, {}, "no references"),
        ({"a": ["x"], "b": ["y"]}, {"a": "x"}, "candidates lack 1 of the ids, such as 'b'"),
        ({"a": ["x"]}, {"a": "x", "c": "y"}, "references lack 1 of the ids, such as 'c'"),
        ({"a": []}, {"a": "x"}, "'a' must be a list of one or more"),
        ({"a": "x"}, {"a": "x"}, "'a' must be a list of one or more"),
        ({"a": ["x"]}, {"a": ["x"]}, "'a' must be one text"),
        ({"a": ["x"]}, {"a": None}, "'a' must be one text"),
    ],
)
def test_wrong_input(references, candidates, words):
    with pytest.raises(UserError, match=words):
        cider(references, candidates)


def test_without_the_package_it_says_what_to_install(monkeypatch):
    for name in [name for name in sys.modules if name.startswith("pycocoevalcap")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "pycocoevalcap", None)
    with pytest.raises(UserError, match=r"flamingo_jax\[evaluation\]"):
        cider({"a": ["x"]}, {"a": "x"})
