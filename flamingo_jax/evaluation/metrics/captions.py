"""CIDEr, BLEU, ROUGE-L and METEOR of captions as the official COCO code gives them.

pycocoevalcap does the counting (CIDEr-D of arXiv:1411.5726 with document frequencies from the
references given, and so on); the tokens are those of `ptb_tokenize`, so that only METEOR needs
Java.
"""

import contextlib
import shutil
from collections.abc import Hashable, Mapping, Sequence
from typing import Any

import numpy as np

from flamingo_jax.errors import UserError
from flamingo_jax.evaluation.metrics.ptb import ptb_tokenize

References = Mapping[Any, Sequence[str]]
Candidates = Mapping[Any, str]


def cider(references: References, candidates: Candidates) -> float:
    """CIDEr over all captions, about 1.0 for what papers print as 100 points.

    A single image scores 0: every n-gram is then in every document.

    Args:
      references: one or more for each image.
      candidates: one for each image, under the same ids. An empty one scores 0.

    Raises:
      UserError: there are none, or the ids differ, or pycocoevalcap is not installed.
    """
    return float(cider_each(references, candidates).mean())


def cider_each(references: References, candidates: Candidates) -> np.ndarray:
    """CIDEr of each image [n], in the order of the references; their mean is `cider`."""
    from_official = _official("cider.cider", "Cider")()
    return np.asarray(from_official.compute_score(*_tokenized(references, candidates))[1])


def bleu(references: References, candidates: Candidates) -> tuple[float, float, float, float]:
    """BLEU-1 to BLEU-4 of all captions together, 0 to 1. Arguments and errors as for `cider`."""
    scorer = _official("bleu.bleu", "Bleu")(4)
    first, second, third, fourth = scorer.compute_score(
        *_tokenized(references, candidates), verbose=0
    )[0]
    return float(first), float(second), float(third), float(fourth)


def rouge_l(references: References, candidates: Candidates) -> float:
    """Mean ROUGE-L with β = 1.2, 0 to 1. Arguments and errors as for `cider`."""
    scorer = _official("rouge.rouge", "Rouge")()
    return float(scorer.compute_score(*_tokenized(references, candidates))[0])


def meteor(references: References, candidates: Candidates) -> float:
    """METEOR 1.5 of all captions together, 0 to 1. Arguments as for `cider`.

    Raises:
      UserError: as for `cider`, or there is no Java to run the official program with.
    """
    if shutil.which("java") is None:
        raise UserError(
            "METEOR is a Java program and no java was found on the PATH: install a Java runtime, "
            "or use cider, bleu and rouge_l, which need none."
        )
    scorer = _official("meteor.meteor", "Meteor")()
    try:
        return float(scorer.compute_score(*_tokenized(references, candidates))[0])
    finally:
        with contextlib.suppress(OSError):
            scorer.meteor_p.kill()


def _official(module: str, name: str) -> Any:
    """A scorer of pycocoevalcap."""
    import importlib

    try:
        return getattr(importlib.import_module(f"pycocoevalcap.{module}"), name)
    except ImportError as error:
        raise UserError(
            "Caption scores need pycocoevalcap: install it with "
            "`pip install 'flamingo_jax[evaluation]'`."
        ) from error


def _tokenized(
    references: References, candidates: Candidates
) -> tuple[dict[Hashable, list[str]], dict[Hashable, list[str]]]:
    """Both as the scorers take them: lists of token strings by id, in the references' order."""
    _check(references, candidates)
    texts = [text for given in references.values() for text in given]
    tokens = iter(ptb_tokenize(texts))
    split = {id_: [next(tokens) for _ in given] for id_, given in references.items()}
    answers = ptb_tokenize([candidates[id_] for id_ in references])
    return split, {id_: [answer] for id_, answer in zip(references, answers, strict=True)}


def _check(references: References, candidates: Candidates) -> None:
    if not references:
        raise UserError("There are no references to score captions against.")
    for name, missing in (
        ("candidates lack", references.keys() - candidates.keys()),
        ("references lack", candidates.keys() - references.keys()),
    ):
        if missing:
            shown = ", ".join(sorted(map(repr, missing))[:3])
            raise UserError(
                f"The {name} {len(missing)} of the ids, such as {shown}: both need the same ids."
            )
    for id_, given in references.items():
        if isinstance(given, str) or not given or not all(isinstance(text, str) for text in given):
            raise UserError(f"The references of {id_!r} must be a list of one or more texts.")
        if not isinstance(candidates[id_], str):
            raise UserError(f"The candidate of {id_!r} must be one text, not {candidates[id_]!r}.")
