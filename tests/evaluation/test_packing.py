"""Prompts as trunks and branches."""

from pathlib import Path

import numpy as np
import pytest

from flamingo_jax.evaluation.benchmark import Media
from flamingo_jax.evaluation.packing import (
    Ask,
    Text,
    branch_arrays,
    bucket,
    make_row,
    shape_of,
    trunk_arrays,
)

IMAGE, END = 4, 5
A, B, C = (Media(Path(name)) for name in "abc")
KEYS = {A: 1, B: 2, C: 3}


def row(sees: str):
    """Trunk `0 4 7 5`, branches `4 8 9` and `4 8`, each with a picture of its own."""
    asks = [
        Ask((0, IMAGE, 7, END, IMAGE, 8, 9), (A, B), 4),
        Ask((0, IMAGE, 7, END, IMAGE, 8), (A, C), 4),
    ]
    return make_row(asks, Text(IMAGE, END, sees), KEYS.__getitem__)


@pytest.mark.parametrize("parts", [2, 4])
def test_buckets_are_few_and_waste_little(parts: int) -> None:
    sizes = [bucket(n, parts) for n in range(1, 3000)]
    assert all(size >= n for n, size in enumerate(sizes, 1))
    assert len(set(sizes)) <= 5 + 6 * parts
    assert all(size <= n * (1 + 1 / parts) + 32 for n, size in enumerate(sizes, 1))


def test_a_row_has_the_shared_part_once() -> None:
    packed = row("last")
    assert packed.trunk == (0, IMAGE, 7, END)
    assert packed.trunk_media == (A,)
    assert packed.media == (B, C)  # the trunk's picture is seen by no branch
    assert len(packed.tree.nodes) == 5
    shape = shape_of([packed], 3)
    trunk = trunk_arrays(packed, shape, IMAGE)
    assert trunk["length"] == 4
    assert trunk["tokens"][:5].tolist() == [0, IMAGE, 7, END, 0]
    assert trunk["media_index"][:5].tolist() == [0, 1, 1, 1, 1]


def test_branches_see_their_own_ancestors_and_pictures() -> None:
    packed = row("last")
    arrays = branch_arrays(packed, shape_of([packed], 3), "last")
    assert arrays["positions"][:5].tolist() == [4, 5, 6, 4, 5]
    assert arrays["mask"][:5, :5].astype(int).tolist() == [
        [1, 0, 0, 0, 0],
        [1, 1, 0, 0, 0],
        [1, 1, 1, 0, 0],
        [0, 0, 0, 1, 0],
        [0, 0, 0, 1, 1],
    ]
    assert arrays["seen"][:5].astype(int).tolist() == [[1, 0]] * 3 + [[0, 1]] * 2
    assert arrays["at"].tolist() == [2, 4, 0]
    assert arrays["asked"].tolist() == [True, True, False]


def test_where_all_pictures_are_seen_those_of_the_trunk_are_too() -> None:
    packed = row("all")
    assert packed.media == (A, B, C)
    seen = branch_arrays(packed, shape_of([packed], 3), "all")["seen"]
    assert seen[:5, :3].astype(int).tolist() == [[1, 1, 0]] * 3 + [[1, 0, 1]] * 2


def test_the_trunk_ends_where_prompts_show_something_else() -> None:
    """The same words beside other pictures are other supports."""
    asks = [
        Ask((0, IMAGE, 7, END, IMAGE, 8), (A, B), 4),
        Ask((0, IMAGE, 7, END, IMAGE, 8), (C, B), 4),
    ]
    packed = make_row(asks, Text(IMAGE, END, "last"), KEYS.__getitem__)
    assert (packed.trunk, packed.trunk_media) == ((0,), ())
    assert packed.media == (A, B, C)
    assert len(packed.tree.nodes) == 2 * 5


def test_prompts_with_less_in_common_have_a_shorter_trunk() -> None:
    asks = [Ask((0, 1, 2, 3), (), 2), Ask((0, 1, 2, 6), (), 1)]
    packed = make_row(asks, Text(IMAGE, END, "last"), KEYS.__getitem__)
    assert packed.trunk == (0,)
    assert np.array(list(packed.tree.nodes))[:, 1].tolist() == [1, 2, 3, 6]
