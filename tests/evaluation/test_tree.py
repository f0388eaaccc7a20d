"""Packed prompts against the same prompts run one by one."""

import numpy as np
import pytest

from flamingo_jax.errors import UserError
from flamingo_jax.evaluation.tree import Limits, PromptTree, Request, pack, scored_tokens, to_arrays
from tests.evaluation.tiny import END

ROOM = Limits(tokens=160, media=8, logits=160, targets=160)


def random_requests(seed: int, count: int = 6, blank: bool = False) -> list[Request]:
    """Prompts of 0 to 3 supports cut from one prefix, each with a query medium of its own."""
    rng = np.random.default_rng(seed)
    prefix, seen = [0], [0]
    ends = [1]
    for turn in range(3):
        length = int(rng.integers(2, 5))
        prefix += [4, *rng.integers(6, 20, length - 1).tolist()]
        seen += [1 if blank else turn + 1] * length
        ends.append(len(prefix))
    requests = []
    for i in range(count):
        cut = ends[int(rng.integers(0, 4))]
        key = 1 if blank else 10 + i % 3
        candidates = ((7,), (7, 8), (9, 8, 7), (10,))
        gold = int(rng.integers(0, 4))
        tokens, keys = (*prefix[:cut], 4, 6), (*seen[:cut], key, key)
        requests.append(Request(tokens, keys, candidates, gold))
    return requests


@pytest.mark.parametrize("seed", range(5))
def test_every_branch_reads_back_its_own_prompt(seed):
    """Follow the mask, positions and media of the packed arrays: they must spell each prompt."""
    requests = random_requests(seed)
    trees, placed = pack(requests, ROOM, END)
    packed = to_arrays(trees, ROOM)
    for request, (tree, places) in zip(requests, placed, strict=True):
        answers = scored_tokens(request.candidates, END)
        for answer, targets in zip(answers, places.targets, strict=True):
            for depth, target in enumerate(targets):
                assert packed.target_BxE[tree, target] == answer[depth]
                node = packed.at_BxA[tree, packed.target_at_BxE[tree, target]]
                path = np.flatnonzero(packed.mask_BxTxT[tree, node])
                path = path[np.argsort(packed.positions_BxT[tree, path])]
                expected = [*request.tokens, *answer[:depth]]
                assert packed.tokens_BxT[tree, path].tolist() == expected
                assert packed.positions_BxT[tree, path].tolist() == list(range(len(expected)))
                keys = [0, *packed.media_keys[tree]]
                seen = [keys[slot] for slot in packed.media_index_BxT[tree, path]]
                assert seen == [*request.seen, *[request.seen[-1]] * depth]


def test_shared_prefixes_and_blank_media_merge():
    trees, _ = pack(random_requests(0, 30), ROOM, END)
    blank, _ = pack(random_requests(0, 30, blank=True), ROOM, END)
    apart = sum(len(request.tokens) for request in random_requests(0, 30))
    assert len(trees) == len(blank) == 1
    assert len(blank[0].nodes) < len(trees[0].nodes) < apart / 2
    assert len(blank[0].slots) == 1


def test_only_a_candidate_that_another_goes_on_from_is_scored_to_its_end():
    assert scored_tokens([(7,), (7, 8), (9,)], END) == ((7, END), (7, 8), (9,))


@pytest.mark.parametrize("tokens", [24, 40])
def test_overflow_starts_a_new_tree_and_keeps_the_order(tokens):
    requests = [request for seed in range(6) for request in random_requests(seed)]
    limits = Limits(tokens, 8, 64, 64)
    trees, placed = pack(requests, limits, END)
    assert len(trees) > 1
    assert all(tree.within(limits) for tree in trees)
    assert len(placed) == 36
    order = [tree for tree, _ in placed]
    assert order == sorted(order)


@pytest.mark.parametrize(
    "limits", [Limits(5, 8, 64, 64), Limits(64, 0, 64, 64), Limits(64, 8, 2, 64)]
)
def test_a_prompt_larger_than_a_tree_is_refused(limits):
    with pytest.raises(UserError, match="does not fit"):
        pack(random_requests(1), limits, END)


def test_the_same_token_after_another_medium_is_another_node():
    tree = PromptTree(END)
    tree.add(Request((0, 4, 6), (0, 1, 1), ((7,), (8,)), 0))
    tree.add(Request((0, 4, 6), (0, 2, 2), ((7,), (8,)), 0))
    assert len(tree.nodes) == 1 + 2 * 3
