"""Many prompts in one sequence: a tree whose branches share what their prompts share.

A figure of the shots curves needs hundreds of prompts, and most repeat the supports of another.
Here they are inserted into one trie of (token, medium seen) pairs. A node's position is its depth,
it attends to its ancestors and itself, and it sees the medium that it sees in its own prompt, so
its logits are those of the prompt run alone (tested against that), and only new nodes cost
anything. Blank prompts merge of themselves, for all their media are the same.

Axes: B sequences, T tokens (nodes), N media, A nodes whose logits are wanted, E scored tokens.
"""

import copy
import dataclasses
from collections.abc import Iterable, Sequence

import numpy as np

from flamingo_jax.errors import UserError

ROOT = -1


@dataclasses.dataclass(frozen=True)
class Request:
    """A prompt and the answers to weigh.

    Attributes:
      tokens: ids of the prompt, up to the token before the answer.
      seen: for each token the key (1 or more) of the medium it sees, 0 for none.
      candidates: ids of the answers; no two are the same.
      gold: index of the right one.
    """

    tokens: tuple[int, ...]
    seen: tuple[int, ...]
    candidates: tuple[tuple[int, ...], ...]
    gold: int


@dataclasses.dataclass(frozen=True)
class Limits:
    """Sizes of a packed sequence, fixed so that the scoring function compiles once.

    Attributes:
      tokens: T.
      media: N.
      logits: A.
      targets: E.
    """

    tokens: int
    media: int
    logits: int
    targets: int


@dataclasses.dataclass(frozen=True)
class Places:
    """Where the answers of a request are read.

    Attributes:
      targets: for each candidate the scored-token indices (below E) whose log-probabilities add up.
      gold: (logit index below A, token) along the right answer and the end of chunk after it.
    """

    targets: tuple[tuple[int, ...], ...]
    gold: tuple[tuple[int, int], ...]


@dataclasses.dataclass(frozen=True)
class PackedTrees:
    """Trees as arrays; see the module's docstring for the axes.

    Attributes:
      tokens_BxT: int32.
      positions_BxT: int32 depth.
      mask_BxTxT: bool, True where a node may attend to another: its ancestors and itself.
      media_index_BxT: int32, 1-based slot of the medium seen, 0 for none.
      at_BxA: int32 nodes whose logits are wanted.
      target_at_BxE: int32 index below A of each scored token's logits.
      target_BxE: int32 scored tokens.
      media_keys: the keys in each tree's slots, at most N.
    """

    tokens_BxT: np.ndarray
    positions_BxT: np.ndarray
    mask_BxTxT: np.ndarray
    media_index_BxT: np.ndarray
    at_BxA: np.ndarray
    target_at_BxE: np.ndarray
    target_BxE: np.ndarray
    media_keys: tuple[tuple[int, ...], ...]


class PromptTree:
    """A growing trie of prompts and answers."""

    def __init__(self, end: int) -> None:
        """`end`: id of the end-of-chunk token."""
        self._end = end
        self.nodes: dict[tuple[int, int, int], int] = {}  # (parent, token, key) -> node
        self.slots: dict[int, int] = {}  # medium's key -> 1-based slot
        self.at: dict[int, int] = {}  # node -> logit index
        self.targets: dict[tuple[int, int], int] = {}  # (logit index, token) -> scored token

    def copy(self) -> "PromptTree":
        """A tree that grows without changing this one."""
        twin = copy.copy(self)
        for name in ("nodes", "slots", "at", "targets"):
            setattr(twin, name, dict(getattr(self, name)))
        return twin

    def within(self, limits: Limits) -> bool:
        """Whether the tree fits a packed sequence."""
        return (
            len(self.nodes) <= limits.tokens
            and len(self.slots) <= limits.media
            and len(self.at) <= limits.logits
            and len(self.targets) <= limits.targets
        )

    def add(self, request: Request) -> Places:
        """Inserts a request's branches and says where its answers are read."""
        tip, key = self.walk(request.tokens, request.seen), request.seen[-1]
        targets = self.weigh(tip, key, request.candidates)
        right = (*request.candidates[request.gold], self._end)
        gold = tuple(zip(self._predictors(tip, key, right), right, strict=True))
        return Places(targets, gold)

    def walk(self, tokens: Sequence[int], seen: Sequence[int]) -> int:
        """Inserts a branch of tokens and the media they see; returns its last node."""
        tip = ROOT
        for token, key in zip(tokens, seen, strict=True):
            tip = self._child(tip, token, key)
        return tip

    def weigh(
        self, tip: int, key: int, candidates: Sequence[tuple[int, ...]]
    ) -> tuple[tuple[int, ...], ...]:
        """Inserts answers after a node, which see medium `key`; returns `Places.targets`."""
        scored = scored_tokens(candidates, self._end)
        return tuple(tuple(self._read(tip, key, answer)) for answer in scored)

    def _read(self, tip: int, key: int, answer: Sequence[int]) -> Iterable[int]:
        for index, token in zip(self._predictors(tip, key, answer), answer, strict=True):
            yield self.targets.setdefault((index, token), len(self.targets))

    def _predictors(self, tip: int, key: int, answer: Sequence[int]) -> list[int]:
        """Logit indices that predict each token of an answer; its last token gets no node."""
        nodes = [tip]
        for token in answer[:-1]:
            nodes.append(self._child(nodes[-1], token, key))
        return [self.at.setdefault(node, len(self.at)) for node in nodes]

    def _child(self, parent: int, token: int, key: int) -> int:
        if key:
            self.slots.setdefault(key, len(self.slots) + 1)
        return self.nodes.setdefault((parent, token, key), len(self.nodes))


def scored_tokens(candidates: Sequence[tuple[int, ...]], end: int) -> tuple[tuple[int, ...], ...]:
    """The tokens whose log-probabilities add up to a candidate's score.

    All of its tokens, and the end of chunk only where another candidate goes on from it: the
    candidates are then disjoint events, and the best one is the most probable answer given that it
    is one of them. (End of chunk is weighted down in training; to score it always would add the
    noise of its calibration.)
    """
    beginnings = {answer[:length] for answer in candidates for length in range(len(answer))}
    return tuple((*answer, end) if answer in beginnings else answer for answer in candidates)


def pack(
    requests: Iterable[Request], limits: Limits, end: int
) -> tuple[list[PromptTree], list[tuple[int, Places]]]:
    """Fills trees with requests, next fit.

    Requests that share much should follow one another, those of fewer shots first: where a tree
    is full, only the prefix so far is repeated in the next.

    Args:
      requests: in the order wanted.
      limits: of a tree.
      end: id of the end-of-chunk token.

    Returns:
      The trees, and for each request in order the index of its tree and its places there.

    Raises:
      UserError: a single request is larger than a tree may be.
    """
    trees: list[PromptTree] = [PromptTree(end)]
    placed: list[tuple[int, Places]] = []
    for request in requests:
        grown = trees[-1].copy()
        places = grown.add(request)
        if grown.within(limits):
            trees[-1] = grown
        else:
            trees.append(PromptTree(end))
            places = trees[-1].add(request)
            if not trees[-1].within(limits):
                raise UserError(
                    f"A prompt of {len(request.tokens)} tokens with {len(request.candidates)} "
                    f"candidates does not fit {limits}: use fewer shots or raise the limits."
                )
        placed.append((len(trees) - 1, places))
    return trees, placed


def to_arrays(trees: Sequence[PromptTree], limits: Limits) -> PackedTrees:
    """Pads trees to the limits and stacks them."""
    B, T = len(trees), limits.tokens
    tokens, positions, media = (np.zeros((B, T), np.int32) for _ in range(3))
    mask = np.zeros((B, T, T), bool)
    at = np.zeros((B, limits.logits), np.int32)
    target_at, target = (np.zeros((B, limits.targets), np.int32) for _ in range(2))
    for b, tree in enumerate(trees):
        for (parent, token, key), node in tree.nodes.items():  # parents come before children
            tokens[b, node] = token
            media[b, node] = tree.slots.get(key, 0)
            if parent != ROOT:
                positions[b, node] = positions[b, parent] + 1
                mask[b, node] = mask[b, parent]
            mask[b, node, node] = True
        at[b, : len(tree.at)] = list(tree.at)
        pairs = np.array(list(tree.targets), np.int32).reshape(-1, 2)
        target_at[b, : len(pairs)], target[b, : len(pairs)] = pairs[:, 0], pairs[:, 1]
    keys = tuple(tuple(tree.slots) for tree in trees)
    return PackedTrees(tokens, positions, mask, media, at, target_at, target, keys)
