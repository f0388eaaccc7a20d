"""The protocol's pure functions: prompts' text to the letter, draws, orders."""

import dataclasses
import itertools
from pathlib import Path

import pytest

from flamingo_jax.data.tokenizer import TextConfig
from flamingo_jax.errors import UserError
from flamingo_jax.evaluation import protocol
from flamingo_jax.evaluation.benchmark import Example, Media
from tests.evaluation.toy import Chosen, Written

TEXT = TextConfig(image_id=4, eoc_id=5, pad_id=0)


class Asked(Written):
    def prompt(self, example: Example) -> str:
        return f"Question: {example.question} Answer:"


def example(number: int, answer: str, media: int = 1) -> Example:
    shown = tuple(Media(Path(f"{number}-{i}.png")) for i in range(media))
    return Example(str(number), shown, f"what is {number}?", answers=(answer,))


def test_a_caption_prompt_is_the_papers() -> None:
    supports = [example(0, "a cat"), example(1, "a dog")]
    made = protocol.make_prompt(Written(), supports, example(2, "hidden"), 2, TEXT)
    assert made.before == ("<image>Output: a cat<|endofchunk|><image>Output: a dog<|endofchunk|>")
    assert made.text == "<image>Output:"
    assert [medium.path.name for medium in made.media] == ["0-0.png", "1-0.png", "2-0.png"]


def test_a_question_prompt_is_the_papers() -> None:
    made = protocol.make_prompt(Asked(), [example(0, "yes")], example(2, "hidden"), 1, TEXT)
    assert made.before == "<image>Question: what is 0? Answer: yes<|endofchunk|>"
    assert made.text == "<image>Question: what is 2? Answer:"


def test_zero_shots_show_texts_without_their_images() -> None:
    supports = [example(0, "a cat"), example(1, "a dog")]
    made = protocol.make_prompt(Written(), supports, example(2, "hidden"), 0, TEXT)
    assert made.before == "Output: a cat<|endofchunk|>Output: a dog<|endofchunk|>"
    assert [medium.path.name for medium in made.media] == ["2-0.png"]


def test_other_models_have_their_own_tokens_and_each_medium_has_one() -> None:
    text = dataclasses.replace(TEXT, image_token="<img>", eoc_token="</s>")
    made = protocol.make_prompt(Written(), [example(0, "x", 2)], example(1, "y", 3), 1, text)
    assert made.before + made.text == "<img><img>Output: x</s><img><img><img>Output:"
    assert len(made.media) == 5


def test_the_most_frequent_answer_is_shown() -> None:
    support = dataclasses.replace(example(0, ""), answers=("b", "a", "c", "a"))
    made = protocol.make_prompt(Written(), [support], example(1, ""), 1, TEXT)
    assert "Output: a<|endofchunk|>" in made.before


def test_draws_depend_on_seed_and_benchmark_alone_and_are_nested() -> None:
    pool = list(range(100, 150))
    drawn = protocol.draw_supports(Written(), pool, (0, 4, 8), 0)
    assert sorted(drawn) == pool != list(drawn)
    assert protocol.draw_supports(Written(), pool, (4,), 0) == drawn
    assert protocol.draw_supports(Written(), pool, (8,), 1) != drawn
    assert protocol.draw_supports(Chosen(), pool, (8,), 0) != drawn


def test_too_few_supports_are_told() -> None:
    with pytest.raises(UserError, match="Written has 3 supports, but 4 are asked for"):
        protocol.draw_supports(Written(), [0, 1, 2], (0, 4), 0)


def test_what_shows_the_querys_own_file_is_passed_over() -> None:
    clip = Path("clip.mp4")
    drawn = [example(0, "a"), example(1, "b"), example(2, "c"), example(3, "d")]
    drawn[1] = dataclasses.replace(drawn[1], media=(Media(clip, 0.0, 1.0),))
    shown = protocol.take(Written(), drawn, example(9, ""), 3)
    assert [support.id for support in shown] == ["0", "1", "2"]
    later = dataclasses.replace(example(9, ""), media=(Media(clip, 1.0, 2.0),))
    assert [s.id for s in protocol.take(Written(), drawn, later, 3)] == ["0", "2", "3"]
    assert [s.id for s in protocol.take(Written(), drawn, drawn[0], 2)] == ["1", "2"]
    with pytest.raises(UserError, match="Written has 3 supports that do not show what query 9 "):
        protocol.take(Written(), drawn, later, 4)


def test_answers_are_shown_on_one_line() -> None:
    support = dataclasses.replace(example(0, ""), answers=(" A cat\nsits. \n",))
    made = protocol.make_prompt(Written(), [support], example(1, ""), 1, TEXT)
    assert made.before == "<image>Output: A cat sits.<|endofchunk|>"


def test_the_pool_has_as_many_of_all_or_of_each_class_as_the_paper() -> None:
    class Few(Written):
        members = 5

    class Classes(Written):
        class_members = 2

    examples = [example(i, "ab"[i % 7 == 0]) for i in range(30)]
    pool = protocol.support_pool(Few(), examples, 0)
    assert len(pool) == 5
    assert pool == sorted(set(pool))
    assert pool != protocol.support_pool(Few(), examples, 1)
    labels = [examples[i].answers[0] for i in protocol.support_pool(Classes(), examples, 0)]
    assert sorted(labels) == ["a", "a", "b", "b"]
    assert protocol.support_pool(Written(), examples, 0) == list(range(30))


@pytest.mark.parametrize(
    ("count", "number", "expected"), [(1, 6, 1), (2, 6, 2), (3, 6, 6), (8, 6, 6)]
)
def test_orders_are_different_and_begin_with_the_given_one(count, number, expected) -> None:
    found = protocol.orders(count, number, 0)
    assert len(found) == expected == len(set(found))
    assert found[0] == tuple(range(count))
    assert all(sorted(order) == list(range(count)) for order in found)
    assert found == protocol.orders(count, number, 0)
    if count == 3:
        assert set(found) == set(itertools.permutations(range(3)))
    else:
        assert protocol.orders(count, 1, 0)[0] == tuple(range(count))
