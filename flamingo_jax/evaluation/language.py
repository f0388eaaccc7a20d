"""Does the model answer in the language of the supports, whatever it calls the thing?

A generated answer counts as being in a language if it is not empty and each of its words, case
aside, occurs in that language's names of the drawings (all splits). Words that languages share
count for each of them; `chance` tells how often: the share of names of a random language that
would pass.
"""

import re
from collections.abc import Iterable, Sequence

import jax.numpy as jnp
import numpy as np

from flamingo_jax.data.drawings import Drawing
from flamingo_jax.data.tasks import NAME_LANGUAGES
from flamingo_jax.evaluation.scoring import MediaLatents
from flamingo_jax.evaluation.tree import Request
from flamingo_jax.inference.cache import PromptBatch, round_up
from flamingo_jax.inference.generate import GenerationConfig, generate
from flamingo_jax.inference.handle import Flamingo

_BATCH = 16
_NEW_TOKENS = 12  # the longest name that is asked for has fewer


class Vocabulary:
    """The words of the drawings' names, by language."""

    def __init__(self, drawings: Iterable[Drawing]) -> None:
        self._names = {language: [] for language in NAME_LANGUAGES}
        for drawing in drawings:
            for language, names in self._names.items():
                names.append(drawing.names.get(language, ""))
        self._words = {
            language: {word for name in names for word in _words(name)}
            for language, names in self._names.items()
        }

    def has(self, text: str, language: str) -> bool:
        """Whether a text counts as being in a language."""
        words = _words(text)
        return bool(words) and all(word in self._words[language] for word in words)

    def chance(self, language: str) -> float:
        """Share of names, of each language in equal parts, that count as being in this one."""
        shares = [
            np.mean([self.has(name, language) for name in names if name] or [0.0])
            for names in self._names.values()
        ]
        return float(np.mean(shares))


def _words(text: str) -> list[str]:
    return re.findall(r"[^\W\d_]+", text.casefold())


def generate_answers(
    handle: Flamingo, requests: Sequence[Request], latents: MediaLatents
) -> list[str]:
    """Greedy answers; a prompt that occurs several times is run once.

    All prompts are padded to one length, so that one program is compiled.
    """
    prompts = list(dict.fromkeys((request.tokens, request.seen) for request in requests))
    T = round_up(max(len(tokens) for tokens, _ in prompts))
    N = max(len({key for key in seen if key}) for _, seen in prompts)
    options = GenerationConfig(max_new_tokens=_NEW_TOKENS)
    stop = (handle.text.eoc_id, handle.text.pad_id)
    found: dict[tuple, str] = {}
    for start in range(0, len(prompts), _BATCH):
        part = prompts[start : start + _BATCH]
        filled = [*part, *[part[0]] * (_BATCH - len(part))]
        batch = _batch(filled, T, N, latents)
        texts = generate(handle.config, handle.weights, batch, options, stop)
        for prompt, ids in zip(part, texts, strict=False):
            found[prompt] = handle.require_tokenizer().decode(ids).strip()
    return [found[request.tokens, request.seen] for request in requests]


def _batch(
    prompts: Sequence[tuple[tuple[int, ...], tuple[int, ...]]],
    T: int,
    N: int,
    latents: MediaLatents,
) -> PromptBatch:
    tokens, index = np.zeros((2, len(prompts), T), np.int32)
    keys = []
    for b, (ids, seen) in enumerate(prompts):
        slots = {key: n for n, key in enumerate(dict.fromkeys(k for k in seen if k), start=1)}
        tokens[b, : len(ids)] = ids
        index[b, : len(ids)] = [slots.get(key, 0) for key in seen]
        keys.append(tuple(slots))
    lengths = np.array([len(ids) for ids, _ in prompts], np.int32)
    return PromptBatch(tokens, lengths, index, jnp.asarray(latents(keys, len(prompts), N)))
