"""What each benchmark makes of answers: post-processing and scores."""

from pathlib import Path

import numpy as np
import pytest

from flamingo_jax.errors import UserError
from flamingo_jax.evaluation.benchmark import Answer, Example, Media
from flamingo_jax.evaluation.benchmarks import BENCHMARKS
from flamingo_jax.evaluation.metrics import cider, word_similarity

SHOWN = (Media(Path("a.png")),)


def questions(*answers: tuple[str, ...], **more) -> list[Example]:
    return [
        Example(str(n), SHOWN, "what?", answers=given, **more) for n, given in enumerate(answers)
    ]


def texts(*given: str) -> list[Answer]:
    return [Answer(text) for text in given]


@pytest.mark.parametrize(
    ("name", "raw", "processed"),
    [
        ("coco", ' a dog on "grass" Output: a cat', "a dog on grass"),
        ("vatex", "a dog, running.\n", "a dog, running."),
        ("vqav2", " red and blue, Question: what", "red and blue"),
        ("okvqa", "yes Answer: no", "yes"),
        ("okvqa", " surfing, Question: what", "surf"),
        ("vqav2", "surfing", "surfing"),
        ("textvqa", "1,000", "1,000"),
        ("vizwiz", "soup Short answer", "soup"),
        ("ivqa", " Rice, steamed", "Rice, steamed"),
        ("nextqa", "Short, and Answer", "Short, and Answer"),
        ("msvdqa", " man ", "man"),
    ],
)
def test_postprocessing(name, raw, processed):
    assert BENCHMARKS[name].postprocess(raw) == processed


def test_captions_have_cider():
    examples = questions(("a dog runs",), ("two cats sleep", "cats sleep"), ("a red car",))
    score = BENCHMARKS["coco"].score(examples, texts("a dog runs", "two cats sleep", ""))
    references = {n: example.answers for n, example in enumerate(examples)}
    expected = cider(references, {0: "a dog runs", 1: "two cats sleep", 2: ""})
    assert score.value == pytest.approx(expected)
    assert score.queries.mean() == pytest.approx(expected)
    assert score.queries[2] == 0 < score.queries[1]


@pytest.mark.parametrize("name", ["vqav2", "okvqa", "vizwiz", "textvqa"])
def test_vqa_accuracy(name):
    examples = questions(("red",) * 3 + ("blue",) * 7, ("2",) * 10)
    score = BENCHMARKS[name].score(examples, texts("Red.", "two"))
    np.testing.assert_allclose(score.queries, [0.9, 0])
    assert score.value == pytest.approx(0.45)


def test_okvqa_compares_stems():
    """The annotations have `surf` for `surfing`."""
    examples = questions(("surf",) * 9 + ("swim",), ("glass",) * 9 + ("cup",))
    written = [BENCHMARKS["okvqa"].postprocess(text) for text in ("surfing", "glasses")]
    assert BENCHMARKS["okvqa"].score(examples, texts(*written)).value == 1


def test_an_answer_with_a_comma_is_right_of_itself():
    answer = BENCHMARKS["ivqa"].postprocess("Rice, steamed")
    examples = questions(("Rice, steamed",) * 2 + ("bowl",) * 3)
    assert BENCHMARKS["ivqa"].score(examples, texts(answer)).value == 1


@pytest.mark.parametrize("name", ["msvdqa", "msrvttqa"])
def test_exact_answers(name):
    score = BENCHMARKS[name].score(questions(("man",), ("cat",)), texts("Man ", "a cat"))
    np.testing.assert_array_equal(score.queries, [1, 0])


def test_ivqa_gives_half_for_one_annotator():
    given = ("rice", "rice", "soup", "Bread", "pan")
    score = BENCHMARKS["ivqa"].score(questions(given, given, given), texts("rice", "bread", "x"))
    np.testing.assert_array_equal(score.queries, [1, 0.5, 0])


def test_nextqa_asks_for_equality_of_counts(monkeypatch):
    monkeypatch.setattr(word_similarity, "_content", lambda text: tuple(text.split()))
    monkeypatch.setattr(word_similarity, "_similar", lambda a, b, _: 1.0 if a == b else 0.25)
    examples = [
        Example(kind, SHOWN, "what?", answers=("two", "three"), kind=kind) for kind in ("DC", "CW")
    ]
    score = BENCHMARKS["nextqa"].score(examples, texts("one", "one"))
    np.testing.assert_array_equal(score.queries, [0, 0.25])


def test_choices():
    examples = questions(("b",), ("a",), candidates=("a", "b", "c"))
    answers = [Answer(log_probs=(-3, -1, -2)), Answer(log_probs=(-3, -1, -2))]
    for name in ("star", "nextqa_mc", "imagenet"):
        np.testing.assert_array_equal(BENCHMARKS[name].score(examples, answers).queries, [1, 0])


def test_kinetics_counts_the_first_five_half():
    names = tuple("abcdefg")
    examples = questions(("a",), ("e",), ("f",), candidates=names)
    answers = [Answer(log_probs=tuple(-float(n) for n in range(7)))] * 3
    score = BENCHMARKS["kinetics700"].score(examples, answers)
    np.testing.assert_array_equal(score.queries, [1, 0.5, 0])


def test_visdial_ranks_candidates():
    relevance = (0.0, 1.0, 0.5)
    examples = questions(("b",), candidates=("a", "b", "c"), relevance=relevance)
    right = BENCHMARKS["visdial"].score(examples, [Answer(log_probs=(-9, -1, -2))])
    wrong = BENCHMARKS["visdial"].score(examples, [Answer(log_probs=(-1, -2, -9))])
    assert right.value == pytest.approx(1)
    assert wrong.value == pytest.approx((1 / np.log2(3)) / (1 + 0.5 / np.log2(3)))


def test_hatefulmemes_ranks_by_yes_against_no():
    examples = questions(("yes",), ("no",), ("yes",), ("no",), candidates=("yes", "no"))
    rows = [(-1.0, -2.0), (-5.0, -4.0), (-9.0, -9.5), (-0.1, -0.7)]  # by yes - no: 1, -1, .5, .6
    score = BENCHMARKS["hatefulmemes"].score(examples, [Answer(log_probs=row) for row in rows])
    assert score.value == pytest.approx(3 / 4)
    assert score.queries is None


def test_rareact_retrieves_clips():
    actions = ("cut phone", "wash phone", "cut egg")
    captions = tuple(f"a person does {action}" for action in actions)
    examples = [
        Example(str(n), SHOWN, actions[c], answers=(captions[c],), candidates=captions, kind=kind,
                group=f"v{n}")
        for n, (c, kind) in enumerate([(0, "1"), (1, "1"), (0, "0"), (2, "0")])
    ]  # fmt: skip
    perfect = [(0, -9, -9), (-9, 0, -9), (-9, -9, -9), (-9, -9, -9)]
    answers = [Answer(log_probs=tuple(map(float, row))) for row in perfect]
    assert BENCHMARKS["rareact"].score(examples, answers).value == pytest.approx(1)
    swapped = [answers[2], answers[1], answers[0], answers[3]]
    assert BENCHMARKS["rareact"].score(examples, swapped).value == pytest.approx((1 / 3 + 1) / 2)
    assert BENCHMARKS["rareact"].score(examples[:2], answers[:2]).value == pytest.approx(1)


@pytest.mark.parametrize("name", BENCHMARKS)
def test_what_cannot_be_scored_is_refused(name):
    benchmark = BENCHMARKS[name]
    with pytest.raises(UserError, match="0 queries and 0 answers"):
        benchmark.score([], [])
    with pytest.raises(UserError, match="has no published answer"):
        benchmark.score([Example("7", SHOWN, candidates=("a", "b"))], [Answer("x", (0.0, 1.0))])
    with pytest.raises(UserError, match="1 queries and 0 answers"):
        benchmark.score(questions(("a",)), [])
