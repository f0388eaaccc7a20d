"""WUPS of generated answers, as NExT-QA's evaluation of open-ended answers has it.

Words are compared in WordNet (Wu and Palmer, 1994; Malinowski and Fritz, arXiv:1410.0210), of each
the first meaning only. Both texts are lemmatised and lose their stop words first.
"""

import functools
import math
from collections.abc import Sequence
from typing import Any

from flamingo_jax.errors import UserError
from flamingo_jax.evaluation.metrics.words import word_tokenize

_STOP_WORDS = frozenset(
    """
    i me my myself we our ours ourselves you you're you've you'll you'd your yours yourself
    yourselves he him his himself she she's her hers herself it it's its itself they them their
    theirs themselves what which who whom this that that'll these those am is are was were be been
    being have has had having do does did doing a an the and but if or because as until while to
    from of at for with about into through during again further then here there when where why how
    all any each most other some such only own so than too very s t can will just don don't should
    should've now d ll m o re ve y ain aren aren't couldn couldn't didn didn't doesn doesn't hadn
    hadn't hasn hasn't haven haven't isn isn't ma mightn mightn't mustn mustn't needn needn't shan
    shan't shouldn shouldn't wasn wasn't weren weren't won won't wouldn wouldn't
    """.split()  # noqa: SIM905
)
"""NLTK's English ones without prepositions of place and the like, which answers consist of."""


def wups(
    prediction: str, answers: Sequence[str], threshold: float = 0.0, exact: bool = False
) -> float:
    """The best WUPS of a prediction against several answers, 0 to 1.

    WUPS is the smaller of two products: over the words of one text, of their greatest similarity to
    a word of the other; and the same with the texts exchanged. Words that are similar to none are
    left out of the products.

    Args:
      prediction: one answer.
      answers: right ones.
      threshold: similarities below it count a tenth: 0 and 0.9 are usual.
      exact: 1 if an answer's words are the same, else 0; for counts, yes and no.

    Raises:
      UserError: there are no answers, or NLTK or its WordNet is not installed.
    """
    if isinstance(answers, str) or not answers:
        raise UserError(f"WUPS needs a list of one or more answers, not {answers!r}.")
    given = _content(prediction)
    wanted = [_content(answer) for answer in answers]
    if exact:
        return float(given in wanted)
    return max(min(_product(given, w, threshold), _product(w, given, threshold)) for w in wanted)


def _product(words: Sequence[str], others: Sequence[str], threshold: float) -> float:
    best = (
        max((_similar(word, other, threshold) for other in others), default=0) for word in words
    )
    found = [value for value in best if value]
    return math.prod(found) if found else 0.0


def _similar(word: str, other: str, threshold: float) -> float:
    if word == other:
        return 1.0
    first, second = _first_meaning(word), _first_meaning(other)
    if first is None or second is None:
        return 0.0
    similarity = first.wup_similarity(second) or 0.0
    return similarity if similarity >= threshold else 0.1 * similarity


@functools.lru_cache(maxsize=100_000)
def _first_meaning(word: str) -> Any:
    return next(iter(_nltk().wordnet.synsets(word)), None)


@functools.lru_cache(maxsize=100_000)
def _content(text: str) -> tuple[str, ...]:
    """Lemmas without stop words."""
    tools = _nltk()
    lemmas = (_lemma(word.lower(), tag) for word, tag in tools.tag(tools.split(text)))
    return tuple(tools.split(" ".join(lemma for lemma in lemmas if lemma not in _STOP_WORDS)))


def _lemma(word: str, tag: str) -> str:
    """WordNet's lemma of a tagged word; the stem if that alone is in WordNet, else the word."""
    tools = _nltk()
    part = {"J": "a", "V": "v", "R": "r"}.get(tag[:1], "n")
    lemma = tools.lemmatize(word, part)
    if tools.wordnet.synsets(lemma):
        return lemma
    stem = tools.stem(word)
    return stem if tools.wordnet.synsets(stem) else word


class _Tools:
    """What is used of NLTK."""

    def __init__(self) -> None:
        import nltk
        from nltk.corpus import wordnet
        from nltk.stem import PorterStemmer, WordNetLemmatizer

        self.wordnet = wordnet
        wordnet.ensure_loaded()
        self.tag = nltk.pos_tag
        self.split = word_tokenize
        self.stem = PorterStemmer().stem
        self.lemmatize = WordNetLemmatizer().lemmatize
        self.tag(["dog"])  # needs its own file


@functools.cache
def _nltk() -> _Tools:
    try:
        return _Tools()
    except ImportError as error:
        raise UserError(
            "WUPS needs NLTK: install it with `pip install 'flamingo_jax[evaluation]'`."
        ) from error
    except (LookupError, OSError) as error:
        raise UserError(
            "WUPS needs NLTK's copy of WordNet and its tagger. With a network, run `python -m "
            "nltk.downloader wordnet averaged_perceptron_tagger_eng`; without one, copy the folder "
            "nltk_data of a machine that has them and name it in the variable NLTK_DATA."
        ) from error
