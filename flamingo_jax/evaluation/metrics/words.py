"""Words of a text as NLTK's `word_tokenize` has them, without the data that it asks for."""

import functools
import re
from collections.abc import Callable

from flamingo_jax.errors import UserError

_BETWEEN_SENTENCES = re.compile(r"(?<=[.!?])\s+")


def word_tokenize(text: str) -> list[str]:
    """Words and marks of each sentence in turn: a full stop is told from a point at its end alone.

    NLTK looks for sentences with a trained model; here they end with a mark and a space.

    Raises:
      UserError: NLTK is not installed.
    """
    return [word for sentence in _BETWEEN_SENTENCES.split(text) for word in _tokenize()(sentence)]


@functools.cache
def _tokenize() -> Callable[[str], list[str]]:
    try:
        from nltk.tokenize import NLTKWordTokenizer
    except ImportError as error:
        raise UserError(
            "OKVQA and WUPS need NLTK: install it with `pip install 'flamingo_jax[evaluation]'`."
        ) from error
    return NLTKWordTokenizer().tokenize
