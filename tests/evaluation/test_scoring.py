"""Packed log-likelihoods and greedy answers against the model run prompt by prompt."""

import dataclasses

import jax
import numpy as np
import pytest

from flamingo_jax.evaluation.scoring import MediaLatents, Scorer
from flamingo_jax.evaluation.tree import Limits, Request, scored_tokens
from tests.evaluation.test_tree import random_requests
from tests.evaluation.tiny import END, random_features, tiny_apply, tiny_handle, tiny_variables

KEYS = [1, 2, 3, 10, 11, 12]
LIMITS = Limits(tokens=48, media=6, logits=48, targets=48)
LENGTH = 24


def next_logits(ids, seen, features, alone=False):
    """Logits after the last of `ids`, by one ordinary causal call, padded to one length."""
    apply, variables = tiny_apply(), tiny_variables()[1]
    tokens = np.zeros((1, LENGTH), np.int32)
    tokens[0, : len(ids)] = ids
    index = np.zeros((1, LENGTH), np.int32)
    index[0, : len(seen)] = [KEYS.index(key) + 1 if key else 0 for key in seen]
    media = np.stack([features[key] for key in KEYS])[None]
    logits = apply(variables, tokens) if alone else apply(variables, tokens, media, index)
    return jax.nn.log_softmax(logits[0, len(ids) - 1])


def expected(request: Request, features, alone: bool) -> tuple[list[float], bool]:
    sums = []
    for answer in scored_tokens(request.candidates, END):
        ids, seen, total = list(request.tokens), list(request.seen), 0.0
        for token in answer:
            total += float(next_logits(ids, seen, features, alone)[token])
            ids, seen = [*ids, token], [*seen, seen[-1]]
        sums.append(total)
    ids, seen, text = list(request.tokens), list(request.seen), []
    while len(text) < 5 and END not in text:
        text.append(int(next_logits(ids, seen, features, alone).argmax()))
        ids, seen = [*ids, text[-1]], [*seen, seen[-1]]
    return sums, text == [*request.candidates[request.gold], END]


@pytest.mark.slow
@pytest.mark.parametrize("alone", [False, True])
def test_packed_scores_equal_those_of_prompts_run_alone(alone):
    features = random_features(KEYS)
    requests = [*random_requests(0, 4), *random_requests(1, 3)]
    handle = tiny_handle()
    if alone:
        handle = handle.with_gates(0.0, 0.0)
    scored = Scorer(handle, LIMITS, batch=2)(requests, MediaLatents(handle, features))
    for request, found in zip(requests, scored, strict=True):
        sums, exact = expected(request, features, alone)
        np.testing.assert_allclose(found.log_probs, sums, atol=1e-4)
        assert found.choice == int(np.argmax(sums))
        assert found.exact == exact


@pytest.mark.slow
def test_exact_match_is_greedy_decoding():
    """Ask for what the model would say by itself, and for a neighbour of that."""
    features = random_features(KEYS)
    prompt = random_requests(3, 1)[0]
    ids, seen = list(prompt.tokens), list(prompt.seen)
    answer = []
    while len(answer) < 2:
        answer.append(int(next_logits(ids, seen, features).argmax()))
        ids, seen = [*ids, answer[-1]], [*seen, seen[-1]]
    right, wrong = tuple(answer), (answer[0], (answer[1] + 1) % 40)
    requests = [Request(prompt.tokens, prompt.seen, (right, wrong), gold) for gold in (0, 1)]
    handle = tiny_handle()
    # What comes next greedily plays the end of chunk.
    end = int(next_logits(ids, seen, features).argmax())
    handle = dataclasses.replace(handle, text=dataclasses.replace(handle.text, eoc_id=end))
    first, second = Scorer(handle, LIMITS, 1)(requests, MediaLatents(handle, features))
    assert (first.exact, second.exact) == (True, False)
    assert first.choice == second.choice == 0
