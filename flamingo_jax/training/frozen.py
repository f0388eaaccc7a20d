"""The frozen collection as a step on a CPU takes it: each decoder layer's weights alone.

Models stack the weights of like layers. A step that takes the layers one after another would slice
them out of the stack, and XLA on a CPU makes a copy of each slice in every step.
"""

import dataclasses
import functools
from typing import Any

import jax
import jax.numpy as jnp
from jax.sharding import NamedSharding, PartitionSpec

from flamingo_jax.models.axes import path_names
from flamingo_jax.models.flamingo import FlamingoConfig
from flamingo_jax.parallel.layout import Layout


@dataclasses.dataclass(frozen=True)
class ByLayer:
    """A stacked array taken apart along its leading axis; the parts may be apart themselves."""

    parts: tuple[Any, ...]


jax.tree_util.register_dataclass(ByLayer, data_fields=["parts"], meta_fields=[])


def by_layer(frozen: Any, config: FlamingoConfig, layout: Layout) -> Any:
    """The collection with its stacks apart; as it is where layers are a loop, or not on a CPU.

    Args:
      frozen: arrays on the mesh, or their shapes with their shardings.
      config: the model's.
      layout: of the mesh.
    """
    if not (config.unroll and layout.on_cpu):
        return frozen

    def apart(path: tuple[Any, ...], leaf: Any) -> Any:
        names = path_names(path)
        if names[0] != "language" or "layers" not in names:
            return leaf
        return _apart(leaf, 2 if "groups" in names else 1)

    return jax.tree_util.tree_map_with_path(apart, frozen)


def stacked(frozen: Any) -> Any:
    """While a step is traced: the collection as the model takes it.

    Where the model slices again what is stacked here, XLA leaves both out.
    """

    def whole(leaf: Any) -> Any:
        if not isinstance(leaf, ByLayer):
            return leaf
        return jnp.stack([whole(part) for part in leaf.parts])

    return jax.tree.map(whole, frozen, is_leaf=lambda leaf: isinstance(leaf, ByLayer))


def _apart(leaf: Any, axes: int) -> Any:
    if not axes:
        return leaf
    place = NamedSharding(leaf.sharding.mesh, PartitionSpec(*leaf.sharding.spec[1:]))
    if isinstance(leaf, jax.ShapeDtypeStruct):
        shape = jax.ShapeDtypeStruct(leaf.shape[1:], leaf.dtype, sharding=place)
        parts = [shape] * leaf.shape[0]
    else:
        parts = _splitting(place)(leaf)
    return ByLayer(tuple(_apart(part, axes - 1) for part in parts))


@functools.cache
def _splitting(place: NamedSharding) -> Any:
    """An array's slices along its first axis, laid out so; for arrays of several processes too."""
    return jax.jit(lambda leaf: list(leaf), out_shardings=place)
