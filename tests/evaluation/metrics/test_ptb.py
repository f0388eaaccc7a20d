"""Tokens against those of the Java program that the official scorers run."""

import json
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from flamingo_jax.evaluation.metrics import ptb_tokenize

GOLDEN = json.loads(Path(__file__).with_name("ptb_tokens.json").read_text())
"""Made with pycocoevalcap 1.2 and Java 17, all captions in one run, as scorers do."""


def test_equals_the_java_tokenizer():
    found = ptb_tokenize(GOLDEN["captions"])
    assert len(found) == len(GOLDEN["tokens"]) > 700
    for caption, mine, official in zip(GOLDEN["captions"], found, GOLDEN["tokens"], strict=True):
        assert mine == official, caption


def test_contractions_are_split_and_punctuation_goes():
    captions = ["A man's dog can't sit -- it's OK!", "Two (2) T-shirts, 1/2 off; $3.50 each..."]
    assert ptb_tokenize(captions) == [
        "a man 's dog ca n't sit it 's ok",
        "two -lrb- 2 -rrb- t-shirts 1/2 off $ 3.50 each",
    ]


def test_what_follows_the_end_of_a_line_counts():
    """`no.` is an abbreviation before a number, even one of the next caption."""
    assert ptb_tokenize(["He says no.", "2 dogs"]) == ["he says no.", "2 dogs"]
    assert ptb_tokenize(["He says no.", "Two dogs"]) == ["he says no", "two dogs"]


def test_line_breaks_keep_captions_apart():
    assert ptb_tokenize(["a\nb", "", "c\r\u2028d", "\n"]) == ["a b", "", "c d", ""]
    assert ptb_tokenize([]) == []


@given(st.lists(st.text(), max_size=5))
def test_any_text_gives_a_line_a_caption(captions):
    found = ptb_tokenize(captions)
    assert len(found) == len(captions)
    assert not any("\n" in line for line in found)
