"""Arrays on a mesh of eight host devices: whole, split, made of rows; and rules that cannot be."""

import os
import subprocess
import sys
from typing import Any, NamedTuple

import jax
import numpy as np
import pytest

from flamingo_jax.errors import UserError
from flamingo_jax.parallel.layout import Layout
from flamingo_jax.parallel.mesh import MeshConfig, make_mesh


def names(path: tuple, ndim: int) -> tuple[str | None, ...]:
    axes = {"kernel": ("embed", "heads"), "square": ("embed", "embed"), "scale": (None,)}
    return axes[path[-1].key]


SCRIPT = """
import jax, numpy as np
from flamingo_jax.parallel.layout import make_layout
from flamingo_jax.parallel.mesh import MeshConfig
from tests.parallel.test_layout import names
layout = make_layout(MeshConfig(data=2, fsdp=2, tensor=2), names)
tree = {"kernel": np.arange(32.0).reshape(4, 8), "scale": np.arange(3.0)}
placed = layout.place(tree)
for name in tree:
    np.testing.assert_array_equal(placed[name], tree[name])
    print({shard.data.shape for shard in placed[name].addressable_shards})
rows = np.arange(24).reshape(8, 3)
whole = layout.from_rows(rows, 8)
np.testing.assert_array_equal(whole, rows)
print(layout.rows(8), {shard.data.shape for shard in whole.addressable_shards})
print(jax.tree.map(lambda leaf: tuple(leaf.sharding.spec), layout.abstract(tree)))
twice = jax.jit(lambda tree: layout.constrain(jax.tree.map(lambda x: 2 * x, tree)))(placed)
print(twice["kernel"].sharding == placed["kernel"].sharding)
"""


def test_eight_devices() -> None:
    flags = {"XLA_FLAGS": "--xla_force_host_platform_device_count=8"}
    line = [sys.executable, "-c", SCRIPT]
    done = subprocess.run(line, env={**os.environ, **flags}, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == [
        "{(2, 4)}",
        "{(3,)}",
        "(0, 1, 2, 3, 4, 5, 6, 7) {(2, 3)}",
        "{'kernel': ('fsdp', 'tensor'), 'scale': (None,)}",
        "True",
    ]


FIRST, LAST = slice(0, 2), slice(2, 4)


class Device(NamedTuple):
    process_index: int
    number: int


class Shared:
    """How four rows lie on two processes of two devices, as pairs of (process, rows)."""

    def __init__(self, *held: tuple[int, slice]) -> None:
        self._held = held

    def devices_indices_map(self, shape: tuple[int]) -> dict[Device, tuple[slice]]:
        assert shape == (4,)
        return {Device(i, n): (rows,) for n, (i, rows) in enumerate(self._held)}


@pytest.mark.parametrize(
    ("held", "own"),
    [
        # Each has half of the rows; both have all, as where `tensor` goes across hosts.
        (
            [(0, slice(0, 2)), (0, slice(0, 2)), (1, slice(2, 4)), (1, slice(2, 4))],
            [(0, 1), (2, 3)],
        ),
        ([(0, slice(0, 2)), (0, slice(2, 4)), (1, slice(0, 2)), (1, slice(2, 4))], [range(4), ()]),
    ],
)
def test_a_row_is_one_process_s_own(held: Any, own: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    layout = layout_for()
    monkeypatch.setattr(Layout, "batch", Shared(*held))
    for process, rows in enumerate(own):
        monkeypatch.setattr(jax, "process_index", lambda process=process: process)
        assert layout.own_rows(4) == tuple(rows)


def layout_for(**sizes: int) -> Layout:
    """A layout whose mesh is never used, of more devices than there are."""
    return Layout(make_mesh(MeshConfig()), MeshConfig(**sizes), names)


def test_one_device_holds_everything() -> None:
    layout = layout_for()
    x = np.arange(6.0).reshape(2, 3)
    for sharding in (layout.replicated, layout.batch):
        np.testing.assert_array_equal(jax.device_put(x, sharding).addressable_shards[0].data, x)
    assert layout.rows(3) == layout.own_rows(3) == (0, 1, 2)


def test_an_axis_that_does_not_divide_names_the_parameter_its_shape_and_the_mesh() -> None:
    tree = {"layer": {"kernel": np.zeros((4, 9))}}
    message = (
        r"Parameter layer/kernel of shape \(4, 9\) on the mesh slice=1, data=1, fsdp=2, tensor=4: "
        r"its axis 'heads' of 9 cannot be split into the 4 parts of tensor: change these, or "
        r"mesh\.rules\.heads\."
    )
    with pytest.raises(UserError, match=message):
        layout_for(fsdp=2, tensor=4).shardings(tree)


def test_two_axes_over_the_same_devices() -> None:
    with pytest.raises(UserError, match="'embed' and 'embed' are both split over fsdp"):
        layout_for(fsdp=2).shardings({"square": np.zeros((4, 4))})
