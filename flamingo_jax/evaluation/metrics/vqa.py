"""VQA accuracy as the official evaluation computes it, quirks included.

Rules: Antol et al., VQA (arXiv:1505.00468, §5), and the evaluation code of the challenge. It is the
score of VQAv2, OKVQA, VizWiz and TextVQA.
"""

import re
from collections.abc import Sequence

from flamingo_jax.errors import UserError

_PUNCTUATION = ';/[]"{}()=+\\_-><@`,?!'
_DIGIT_COMMA_DIGIT = re.compile(r"\d,\d")
_POINT = re.compile(r"\.(?!\d)")
_MOST_POINTS = 32  # the official code passes re.UNICODE, which is 32, where a count belongs
_NUMBERS = {
    word: str(number)
    for number, word in enumerate(
        ["zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten"]
    )
} | {"none": "0"}
_ARTICLES = ("a", "an", "the")
_CONTRACTED = """
    ain't aren't can't could've couldn't didn't doesn't don't hadn't hasn't haven't he'd he's how'd
    how'll how's isn't it'd it'll ma'am mightn't might've mustn't must've needn't not've o'clock
    oughtn't shan't should've shouldn't somebody'll somebody's someone'd someone'll someone's
    something'd something'll that's there'd there're there's they'd they'll they're they've wasn't
    we've weren't what'll what're what's what've when's where'd where's where've who'd who'll who's
    who've why'll why're why's won't would've wouldn't y'all you'd you'll you're you've
"""
_DOUBLY_CONTRACTED = """
    couldn't've hadn't've he'd've it'd've mightn't've she'd've shouldn't've somebody'd've
    someone'd've something'd've there'd've they'd've we'd've who'd've wouldn't've y'all'll you'd've
"""
"""Written with either apostrophe missing."""


def _contractions() -> dict[str, str]:
    """What a word becomes. Keys with capitals are left out: words are lower-cased before."""
    table = {word.replace("'", ""): word for word in _CONTRACTED.split()}
    for word in _DOUBLY_CONTRACTED.split():
        stem, middle, end = word.rsplit("'", 2)
        table[f"{stem}{middle}'{end}"] = word
        table[f"{stem}'{middle}{end}"] = word
    table |= {"somebody'd": "somebodyd", "twas": "'twas"}
    table |= dict.fromkeys(("ow's'at", "'ows'at", "'ow'sat"), "'ow's'at")
    table |= dict.fromkeys(("yall'd've", "y'alld've", "y'all'dve"), "y'all'd've")
    return table


_CONTRACTIONS = _contractions()


def vqa_accuracy(prediction: str, answers: Sequence[str]) -> float:
    """The mean over annotators of min(1, matches among the others / 3).

    Answers and prediction are normalised unless all answers are the same string, line breaks and
    tabs aside: then the prediction must be that string.

    Args:
      prediction: one answer.
      answers: of the annotators, ten in the official data sets.

    Returns:
      0 to 1. With ten answers 1, 2, 3 and 4 matches give 0.3, 0.6, 0.9 and 1.

    Raises:
      UserError: there are fewer than two answers, so that nobody is left to agree with.
    """
    if isinstance(answers, str) or len(answers) < 2:
        raise UserError(
            "VQA accuracy compares with the answers of the other annotators and needs a list of "
            f"two or more (official data have ten), not {answers!r}."
        )
    given = [_one_line(answer) for answer in answers]
    asked = _one_line(prediction)
    if len(set(given)) > 1:
        given = [normalize_vqa_answer(answer) for answer in given]
        asked = normalize_vqa_answer(asked)
    matches = [answer == asked for answer in given]
    others = (sum(matches) - match for match in matches)
    return sum(min(1.0, count / 3) for count in others) / len(given)


def normalize_vqa_answer(answer: str) -> str:
    """An answer without case, articles and most punctuation, numbers to ten as digits.

    A punctuation mark goes if it stands next to a space anywhere in the answer, or if a comma
    stands between two digits; else it becomes a space. A point goes unless a digit follows.
    """
    with_numbers = _DIGIT_COMMA_DIGIT.search(answer) is not None
    text = answer
    for mark in _PUNCTUATION:
        alone = f"{mark} " in answer or f" {mark}" in answer
        text = text.replace(mark, "" if alone or with_numbers else " ")
    text = _POINT.sub("", text, count=_MOST_POINTS)
    words = (_NUMBERS.get(word, word) for word in text.lower().split())
    return " ".join(_CONTRACTIONS.get(word, word) for word in words if word not in _ARTICLES)


def _one_line(answer: str) -> str:
    return answer.replace("\n", " ").replace("\t", " ").strip()
