"""Beam search against exhaustive search."""

import itertools

import pytest

from flamingo_jax.inference.generate import GenerationConfig, generate
from tests.inference.conftest import VOCAB

LENGTH, STOP = 3, (4, 7)


def exhaustive(next_log_probs, b: int, penalty: float) -> list[int]:
    """The best of all continuations that end with a stop token or after LENGTH tokens."""
    prefixes: dict[tuple[int, ...], float] = {(): 0.0}
    best, found = -float("inf"), ()
    for length in range(1, LENGTH + 1):
        longer = {}
        for prefix, total in prefixes.items():
            log_probs = next_log_probs(b, list(prefix))
            for token in range(VOCAB):
                score = total + float(log_probs[token])
                if token in STOP or length == LENGTH:
                    ranked = score / length**penalty
                    if ranked > best:
                        best, found = ranked, (*prefix, token)
                else:
                    longer[(*prefix, token)] = score
        prefixes = longer
    return list(itertools.takewhile(lambda token: token not in STOP, found))


@pytest.mark.parametrize("penalty", [0.0, 1.0])
def test_wide_beams_equal_exhaustive_search(tiny, next_log_probs, penalty):
    options = GenerationConfig(LENGTH, num_beams=VOCAB**2, length_penalty=penalty)
    got = generate(tiny.config, tiny.weights, tiny.prompt, options, STOP)
    assert got == [exhaustive(next_log_probs, b, penalty) for b in range(2)]


def test_more_beams_never_find_less(tiny, next_log_probs):
    def likelihood(b: int, ids: list[int]) -> float:
        return sum(float(next_log_probs(b, ids[:i])[token]) for i, token in enumerate(ids))

    found = [
        generate(tiny.config, tiny.weights, tiny.prompt, GenerationConfig(6, width), (VOCAB,))
        for width in (1, 4)
    ]
    for b in range(2):
        assert likelihood(b, found[1][b]) >= likelihood(b, found[0][b]) - 1e-5
