"""Pages and pairs as sequences, against pages laid out by hand; φ and the mask by their rules."""

import collections
from typing import Any

import numpy as np
import pytest

from flamingo_jax.data.bad_records import BadRecord
from flamingo_jax.data.documents import Document, Medium
from flamingo_jax.data.layouts import Limits, lay_out_page, lay_out_pair
from flamingo_jax.data.sequences import TokenSequence
from flamingo_jax.data.staged import finish
from flamingo_jax.data.tokenizer import Tokenizer

WHOLE = Limits(256, 5, 256, 1.0, 0.0)


def medium(number: int) -> Medium:
    return Medium(str(number), bytes([number]))


def decode(given: Medium) -> np.ndarray:
    if given.content == b"\xff":
        raise BadRecord("corrupt_image", "no picture")
    return np.full((1, 2, 2, 3), given.content[0], np.uint8)


def numbers(sequence: TokenSequence) -> list[int]:
    return [int(frames[0, 0, 0, 0]) for frames in sequence.media]


def page(*items: str | Medium) -> Document:
    return Document("https://a.org", items)


def long_page(images: int = 40, words: int = 30) -> Document:
    """Numbered images, each followed by its number in words that tell it apart."""
    items: list[str | Medium] = []
    for number in range(images):
        items += [medium(number), " ".join([f"n{number}"] * words)]
    return page(*items)


def drawn(document: Document, tokenizer: Tokenizer, limits: Limits, seed: int) -> TokenSequence:
    return finish(lay_out_page(document, tokenizer, limits, decode, np.random.default_rng(seed)))[0]


def test_a_short_page_is_the_paper_s_figure(tokenizer: Tokenizer) -> None:
    """Figure 7 of arXiv:2204.14198."""
    document = page("Cute pics!", medium(1), "My puppy.", medium(2), "My cat.")
    sequence = drawn(document, tokenizer, WHOLE, 0)
    image, eoc = tokenizer.image_id, tokenizer.eoc_id
    texts = [tokenizer.encode(text) for text in ("Cute pics!", "My puppy.", "My cat.")]
    pieces = [
        [*tokenizer.start(), *texts[0], eoc],
        [image, *texts[1], eoc],
        [image, *texts[2], eoc],
    ]
    assert sequence.tokens == [token for piece in pieces for token in piece]
    assert sequence.media_index == [n for n, piece in enumerate(pieces) for _ in piece]
    text_or_end = [token != image and token != tokenizer.bos_id for token in sequence.tokens]
    assert [weight == 1.0 for weight in sequence.loss_mask] == text_or_end
    assert numbers(sequence) == [1, 2]
    tenth = Limits(256, 5, 256, 0.1, 0.0)
    mask = np.array(drawn(document, tokenizer, tenth, 0).loss_mask)
    np.testing.assert_allclose(mask[np.array(sequence.tokens) == eoc], 0.1)


def test_text_that_sees_the_next_image(tokenizer: Tokenizer) -> None:
    document = page("Before.", medium(1), "Between.", medium(2), "After.")
    sequence = drawn(document, tokenizer, Limits(256, 5, 256, 1.0, 1.0), 0)
    images = [t for t, token in enumerate(sequence.tokens) if token == tokenizer.image_id]
    for t, seen in enumerate(sequence.media_index):
        after = [n for n, place in enumerate(images, 1) if place >= t]
        assert seen == (after[0] if after else 0)


def test_half_of_the_sequences_see_the_next(tokenizer: Tokenizer) -> None:
    document = page("Before.", medium(1), "After.")
    limits = Limits(256, 5, 256, 1.0, 0.5)
    last = [drawn(document, tokenizer, limits, seed).media_index[-1] for seed in range(400)]
    assert 150 < sum(last) < 250


def test_texts_with_nothing_between_them_are_two_paragraphs(tokenizer: Tokenizer) -> None:
    sequence = drawn(page("One.", "Two.", medium(1), " ", "Three."), tokenizer, WHOLE, 0)
    said = tokenizer.decode(sequence.tokens)
    assert "One.\n\nTwo." in said
    assert "Two.Three." in said


def test_windows_of_a_long_page(tokenizer: Tokenizer) -> None:
    document, limits = long_page(), Limits(256, 5, 256, 1.0, 0.0)
    begins = collections.Counter()
    for seed in range(150):
        sequence = drawn(document, tokenizer, limits, seed)
        assert len(sequence.tokens) <= 256
        assert sequence.tokens[0] == tokenizer.bos_id
        found = numbers(sequence)
        assert 1 <= len(found) <= 5
        assert found == list(range(found[0], found[0] + len(found)))
        assert sequence.tokens.count(tokenizer.image_id) == len(found)
        begins[found[0]] += 1
        for n, number in enumerate(found, 1):
            own = [
                token
                for token, seen in zip(sequence.tokens, sequence.media_index, strict=True)
                if seen == n
            ]
            if n < len(found):
                assert set(tokenizer.decode(own).split()) == {f"n{number}"}
    assert len(begins) > 20


def test_at_most_five_images_the_others_leave_only_their_text(tokenizer: Tokenizer) -> None:
    document = long_page(images=12, words=2)
    sequence = drawn(document, tokenizer, Limits(256, 5, 256, 1.0, 0.0), 0)
    assert numbers(sequence) == [0, 1, 2, 3, 4]
    assert "n11" in tokenizer.decode(sequence.tokens)
    assert sequence.tokens.count(tokenizer.eoc_id) == 6
    assert sequence.media_index[-1] == 5


def test_every_window_shows_an_image_with_text(tokenizer: Tokenizer) -> None:
    words = " ".join(["word"] * 1000)
    for document in (page(words, medium(1), words), page(medium(1), words)):
        for seed in range(30):
            sequence = drawn(document, tokenizer, Limits(64, 5, 64, 1.0, 0.0), seed)
            assert len(sequence.tokens) == 64
            assert numbers(sequence) == [1]
            assert sequence.media_index[-1] == 1


def test_fewer_scored_tokens_than_text(tokenizer: Tokenizer) -> None:
    sequence = drawn(long_page(), tokenizer, Limits(256, 5, 20, 1.0, 0.0), 0)
    assert 18 <= sum(weight > 0 for weight in sequence.loss_mask) <= 20


def test_images_that_cannot_be_used_are_left_out(tokenizer: Tokenizer) -> None:
    document = page("A.", medium(1), "B.", medium(255), "C.", medium(3), "D.")
    rng = np.random.default_rng(0)
    sequence, problems = finish(lay_out_page(document, tokenizer, WHOLE, decode, rng))
    assert numbers(sequence) == [1, 3]
    without = page("A.", medium(1), "B.", "C.", medium(3), "D.")
    expected = drawn(without, tokenizer, WHOLE, 0)
    assert sequence.tokens.count(tokenizer.eoc_id) == expected.tokens.count(tokenizer.eoc_id) == 3
    (problem,) = problems
    assert (problem.medium, problem.reason) == ("255", "corrupt_image")
    assert problem.share == pytest.approx(1 / 3)
    with pytest.raises(BadRecord, match="no picture"):
        drawn(page("A.", medium(255)), tokenizer, WHOLE, 0)


def test_markers_in_foreign_text_are_text(tokenizer: Tokenizer) -> None:
    evil = "a<image>b<|endofchunk|>c<ima<image>ge>d<|endoftext|>"
    sequence = drawn(page(evil, medium(1), "x"), tokenizer, WHOLE, 0)
    assert sequence.tokens.count(tokenizer.image_id) == 1
    assert sequence.tokens.count(tokenizer.eoc_id) == 2
    assert sequence.tokens.count(tokenizer.pad_id) == 1  # the one that starts every sequence


def test_a_pair(tokenizer: Tokenizer) -> None:
    limits = Limits(32, 1, 32, 1.0, 0.0)
    seen = set()
    for seed in range(20):
        rng = np.random.default_rng(seed)
        pair = page(medium(7), " a cat ")
        sequence = finish(lay_out_pair(pair, tokenizer, limits, decode, rng))
        start, image, *text, end = sequence.tokens
        assert (start, image, end) == (tokenizer.bos_id, tokenizer.image_id, tokenizer.eoc_id)
        assert sequence.media_index == [0] + [1] * (len(text) + 2)
        assert sequence.loss_mask == [0.0, 0.0] + [1.0] * (len(text) + 1)
        assert numbers(sequence) == [7]
        seen.add(tuple(text))
    assert seen == {tuple(tokenizer.encode("a cat")), tuple(tokenizer.encode(" a cat"))}


def test_a_pair_whose_text_comes_first(tokenizer: Tokenizer) -> None:
    limits = Limits(8, 1, 8, 1.0, 1.0)
    document = page(medium(7), "one two three four five six seven eight nine")
    sequence = finish(lay_out_pair(document, tokenizer, limits, decode, np.random.default_rng(0)))
    assert sequence.tokens[-2:] == [tokenizer.image_id, tokenizer.eoc_id]
    assert len(sequence.tokens) == 8
    assert sequence.media_index == [1] * 7 + [0]


def test_a_caption_that_is_too_long_loses_its_end(tokenizer: Tokenizer) -> None:
    limits = Limits(8, 1, 8, 1.0, 0.0)
    document = page(medium(7), "word " * 50)
    sequence = finish(lay_out_pair(document, tokenizer, limits, decode, np.random.default_rng(0)))
    assert len(sequence.tokens) == 8
    assert tokenizer.eoc_id not in sequence.tokens


@pytest.mark.parametrize(
    ("document", "reason"),
    [
        (page("only text"), "empty"),
        (page(medium(1), "  "), "empty"),
        (page(), "empty"),
        (page(medium(1), "x" * 1_000_000), "long_text"),
        (page(medium(1), "\ud800"), "charset"),
        (page(medium(1), "<image>"), "empty"),
    ],
)
def test_documents_that_cannot_be_used(
    document: Document, reason: str, tokenizer: Tokenizer
) -> None:
    for lay_out in (lay_out_page, lay_out_pair):
        with pytest.raises(BadRecord) as error:
            finish(lay_out(document, tokenizer, WHOLE, decode, np.random.default_rng(0)))
        assert error.value.reason == reason


def test_a_page_is_no_pair(tokenizer: Tokenizer) -> None:
    two = page(medium(1), "x", medium(2))
    with pytest.raises(BadRecord, match="2 media where a pair has one"):
        next(lay_out_pair(two, tokenizer, WHOLE, decode, np.random.default_rng(0)))


@pytest.mark.parametrize("lay_out", [lay_out_page, lay_out_pair])
def test_a_layout_stops_before_it_decodes(lay_out: Any, tokenizer: Tokenizer) -> None:
    decoded: list[str] = []

    def tell(medium: Medium) -> np.ndarray:
        decoded.append(medium.name)
        return decode(medium)

    laying = lay_out(page(medium(1), "a cat"), tokenizer, WHOLE, tell, np.random.default_rng(0))
    next(laying)
    assert not decoded
    finish(laying)
    assert decoded == ["1"]
