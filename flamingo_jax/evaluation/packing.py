"""Prompts as trunks and branches: arrays for the programs of `branches`.

Axes: G trunks, T tokens of a trunk, U nodes of its branches, Q queries of a trunk, N media, A nodes
whose logits are wanted, E scored tokens.
"""

import dataclasses
from collections.abc import Callable, Sequence

import numpy as np

from flamingo_jax.evaluation.benchmark import Media
from flamingo_jax.evaluation.tree import ROOT, PromptTree
from flamingo_jax.inference.prompt import media_index

Tokens = tuple[int, ...]
Key = Callable[[Media], int]


@dataclasses.dataclass(frozen=True)
class Ask:
    """One prompt in tokens.

    Attributes:
      tokens: ids of all of it.
      media: of its image tokens, in order.
      trunk: how many of its first tokens other prompts may share; fewer than all.
      candidates: ids of the answers to weigh; none if one is to be written.
    """

    tokens: Tokens
    media: tuple[Media, ...]
    trunk: int
    candidates: tuple[Tokens, ...] = ()


@dataclasses.dataclass(frozen=True)
class Text:
    """What packing needs to know of a model.

    Attributes:
      image_id: stands where a medium is shown.
      end: ends an answer.
      sees: a token sees the `last` medium before it, or `all` of those before it.
    """

    image_id: int
    end: int
    sees: str


@dataclasses.dataclass(frozen=True)
class Row:
    """A trunk and its branches, not padded.

    Attributes:
      trunk: its tokens.
      trunk_media: of its image tokens.
      tree: of what follows; its nodes see media by their `slots`.
      media: of the tree's slots, in order.
      tips: the last node of each prompt.
      places: for each prompt and candidate the scored tokens that add up to its log-likelihood.
    """

    trunk: Tokens
    trunk_media: tuple[Media, ...]
    tree: PromptTree
    media: tuple[Media, ...]
    tips: tuple[int, ...]
    places: tuple[tuple[tuple[int, ...], ...], ...]


@dataclasses.dataclass(frozen=True)
class Shape:
    """Sizes that a program is compiled for.

    Attributes:
      trunk: T.
      trunk_media: N of the trunk.
      nodes: U.
      media: N of the branches.
      logits: A.
      targets: E; 0 where answers are written.
    """

    trunk: int
    trunk_media: int
    nodes: int
    media: int
    logits: int
    targets: int


def make_row(asks: Sequence[Ask], text: Text, key: Key) -> Row:
    """Packs prompts: their trunk is what the trunks of all begin with."""
    seen = [_seen(ask, text, key) for ask in asks]
    length = _common(asks, seen)
    trunk = asks[0].tokens[:length]
    trunk_media = asks[0].media[: trunk.count(text.image_id)]
    tree = PromptTree(text.end)
    media = {key(medium): medium for ask in asks for medium in ask.media}
    if text.sees == "all":
        for medium in trunk_media:
            tree.slots.setdefault(key(medium), len(tree.slots) + 1)
    tips, places = [], []
    for ask, keys in zip(asks, seen, strict=True):
        tip = tree.walk(ask.tokens[length:], keys[length:])
        tips.append(tip)
        places.append(tree.weigh(tip, keys[-1], ask.candidates))
    shown = tuple(media[slot] for slot in tree.slots)
    return Row(trunk, trunk_media, tree, shown, tuple(tips), tuple(places))


def _seen(ask: Ask, text: Text, key: Key) -> list[int]:
    """For each token of a prompt the key of the last medium before it, 0 for none."""
    keys = [0, *map(key, ask.media)]
    return [keys[i] for i in media_index(np.array(ask.tokens), (text.image_id,))]


def _common(asks: Sequence[Ask], seen: Sequence[Sequence[int]]) -> int:
    """How many tokens all trunks begin with, of those that see the same."""
    most = min(ask.trunk for ask in asks)
    pairs = [
        np.array([ask.tokens[:most], keys[:most]]) for ask, keys in zip(asks, seen, strict=True)
    ]
    same = np.all([pair == pairs[0] for pair in pairs], axis=(0, 1))
    return int(np.argmin([*same, False]))


def shape_of(rows: Sequence[Row], queries: int) -> Shape:
    """The sizes that hold some rows of `queries` prompts or fewer, rounded up to few values."""
    written = not any(row.tree.targets for row in rows)
    return Shape(
        trunk=bucket(max(len(row.trunk) for row in rows), 4),
        trunk_media=_power_of_two(max(len(row.trunk_media) for row in rows)),
        nodes=bucket(max(len(row.tree.nodes) for row in rows), 2),
        media=_power_of_two(max(len(row.media) for row in rows)),
        logits=queries if written else bucket(max(len(row.tree.at) for row in rows), 2),
        targets=0 if written else bucket(max(len(row.tree.targets) for row in rows), 2),
    )


def bucket(length: int, parts: int) -> int:
    """A length rounded up to 32 or one of `parts` sizes in each doubling of it."""
    step = max(32, (1 << max(0, (length - 1).bit_length() - 1)) // parts)
    return max(1, -(-length // step)) * step


def trunk_arrays(row: Row, shape: Shape, image_id: int) -> dict[str, np.ndarray]:
    """`tokens` [T], `length` [] and `media_index` [T] of a row's trunk."""
    tokens = np.zeros(shape.trunk, np.int32)
    tokens[: len(row.trunk)] = row.trunk
    index = media_index(tokens, (image_id,))
    return {
        "tokens": tokens,
        "length": np.array(len(row.trunk), np.int32),
        "media_index": np.minimum(index, len(row.trunk_media)),
    }


def branch_arrays(row: Row, shape: Shape, sees: str) -> dict[str, np.ndarray]:
    """Fields of `branches.Branches` but the media, and `asked` [A], for one row."""
    U, N = shape.nodes, shape.media
    tokens, positions = np.zeros((2, U), np.int32)
    mask, seen = np.eye(U, dtype=bool), np.zeros((U, N), bool)
    of_trunk = np.arange(N) < (len(set(row.trunk_media)) if sees == "all" else 0)
    for (parent, token, key), node in row.tree.nodes.items():  # parents come before children
        tokens[node], positions[node] = token, len(row.trunk)
        if parent != ROOT:
            mask[node] |= mask[parent]
            positions[node] = positions[parent] + 1
        if sees == "all":
            seen[node] = of_trunk if parent == ROOT else seen[parent]
        if key:
            seen[node, row.tree.slots[key] - 1] = True
    at, asked = np.zeros(shape.logits, np.int32), np.zeros(shape.logits, bool)
    wanted = list(row.tree.at) if shape.targets else list(row.tips)
    at[: len(wanted)], asked[: len(wanted)] = wanted, True
    return {
        "tokens": tokens,
        "positions": positions,
        "mask": mask,
        "seen": seen,
        "at": at,
        "asked": asked,
    }


def target_arrays(row: Row, shape: Shape) -> tuple[np.ndarray, np.ndarray]:
    """(index below A of each scored token's logits, scored tokens), int32 [E] each."""
    pairs = np.zeros((shape.targets, 2), np.int32)
    pairs[: len(row.tree.targets)] = np.array(list(row.tree.targets), np.int32).reshape(-1, 2)
    return pairs[:, 0], pairs[:, 1]


def _power_of_two(count: int) -> int:
    return 1 << max(0, count - 1).bit_length()
