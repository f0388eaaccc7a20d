"""Stems of answers, as OKVQA's annotations have them.

OpenFlamingo (arXiv:2308.01390) has words in -ing lemmatised as verbs by WordNet, and singularises
what a tagger takes for a plural noun. Both need data that many machines lack. Here rules of
spelling take their place: they agree with WordNet on 99% of its verbs, weighed by how often these
occur, and with the package that OpenFlamingo has its singulars from.
"""

import re

from flamingo_jax.evaluation.metrics.okvqa_words import (
    MANUAL,
    NO_PLURALS,
    NO_VERBS,
    PLURALS,
    VERBS,
)
from flamingo_jax.evaluation.metrics.words import word_tokenize

_DOUBLED = re.compile(r"([bdgmnprt])\1$")
_ONE_VOWEL = re.compile(r"(.*[^aeiou]|.*qu)?[aeiouy][^aeiouwxy]")
"""Ends in a single vowel and a single consonant, which doubles where no e is left out."""
_E_LEFT_OUT = re.compile(r"([cvzu]|(?<!s)s|[bcdfgkptz]l|[dlr]g|[iu]at)$")
_E_LEFT_OUT_AFTER_ONE_VOWEL = re.compile(r"(at|ut|[aiu]r|in|[iu]l|[bdgkmp])$")
_SINGULARS = (
    (r"(shoe)s", r"\1"),
    (r"(o|x|ch|ss|sh)es", r"\1"),
    (r"([^aeiouy]|qu)ies", r"\1y"),
    (r"([lr])ves", r"\1f"),
    (r"(ti|hi)ves", r"\1ve"),
    (r"([^f])ves", r"\1fe"),
    (r"(.)s", r"\1"),
)
"""The first that fits the end of a word, in the order of Ruby on Rails' inflector."""


def okvqa_stems(text: str) -> str:
    """The stems of all words, with spaces between."""
    return " ".join(map(_stem, word_tokenize(text)))


def _stem(word: str) -> str:
    if word in MANUAL:
        return MANUAL[word]
    if word.endswith("ing"):
        return _verb(word)
    if word.lower() in PLURALS:
        return PLURALS[word.lower()]
    if word.endswith("s") and not word.endswith(("ss", "us", "is", "'s")):
        return word if word.lower() in NO_PLURALS else _singular(word)
    return word


def _verb(word: str) -> str:
    """The verb of a word in -ing, or the word if it is of none; WordNet knows lower case alone."""
    stem = word.removesuffix("ing")
    vowels = len(re.findall("[aeiouy]+", stem.replace("qu", "q")))
    if not vowels or len(stem) < 2 or word in NO_VERBS or not word.islower():
        return word
    if word in VERBS:
        return VERBS[word]
    if _DOUBLED.search(stem) or (vowels > 1 and stem.endswith("ll")):
        return stem[:-1]
    one_vowel = _ONE_VOWEL.fullmatch(stem) is not None
    left_out = _E_LEFT_OUT.search(stem) or (
        one_vowel and (vowels == 1 or _E_LEFT_OUT_AFTER_ONE_VOWEL.search(stem))
    )
    return f"{stem}e" if left_out else stem


def _singular(word: str) -> str:
    for plural, singular in _SINGULARS:
        if re.search(f"{plural}$", word):
            return re.sub(f"{plural}$", singular, word)
    return word
