"""Trees of arrays on a mesh: from logical axes to shardings, and arrays put there."""

import collections
import contextlib
import dataclasses
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import flax.linen as nn
import jax
import numpy as np
from jax.experimental import multihost_utils
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from flamingo_jax.errors import UserError
from flamingo_jax.parallel.mesh import MeshConfig, make_mesh

NamesAxes = Callable[[tuple[Any, ...], int], tuple[str | None, ...]]
"""From a tree path and a number of axes to their logical names."""


@dataclasses.dataclass(frozen=True)
class Layout:
    """A mesh, its config, and the logical axes of parameters.

    Attributes:
      mesh: of devices.
      config: its sizes and rules.
      names: tells the logical axes of a leaf.
    """

    mesh: Mesh
    config: MeshConfig
    names: NamesAxes

    @property
    def replicated(self) -> NamedSharding:
        """The same array on every device."""
        return NamedSharding(self.mesh, PartitionSpec())

    @property
    def on_cpu(self) -> bool:
        """Whether the devices are CPUs."""
        return self.mesh.devices.flat[0].platform == "cpu"

    @property
    def batch(self) -> NamedSharding:
        """The leading axis split as batches are."""
        return NamedSharding(self.mesh, self._spec(("batch",)))

    def shardings(self, tree: Any) -> Any:
        """A tree like that of arrays or their shapes, holding each leaf's sharding.

        Raises:
          UserError: a rule cannot be kept; the message names the leaf, its shape and the mesh.
        """

        def of(path: tuple[Any, ...], leaf: Any) -> NamedSharding:
            axes = self.names(path, leaf.ndim)
            self._check(path, leaf.shape, axes)
            return NamedSharding(self.mesh, self._spec(axes))

        return jax.tree_util.tree_map_with_path(of, tree)

    def abstract(self, tree: Any) -> Any:
        """A tree of shapes and types with their shardings."""
        return jax.tree.map(
            lambda leaf, place: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=place),
            tree,
            self.shardings(tree),
        )

    def place(self, tree: Any) -> Any:
        """Puts a tree that every process has whole where it belongs."""
        return jax.tree.map(_placed, tree, self.shardings(tree))

    def whole(self, tree: Any) -> Any:
        """A tree on the mesh, as arrays that every process has whole."""
        if jax.process_count() == 1:
            return tree
        return multihost_utils.process_allgather(tree, tiled=True)

    def constrain(self, tree: Any) -> Any:
        """While a function is traced: a tree laid out as `place` would."""
        if self.mesh.size == 1:
            return tree
        return jax.lax.with_sharding_constraint(tree, self.shardings(tree))

    def rows(self, batch: int) -> tuple[int, ...]:
        """The rows of a batch that this process's devices hold."""
        parts = self.batch.addressable_devices_indices_map((batch,)).values()
        held = {row for part in parts for row in _within(part, batch)}
        return tuple(sorted(held))

    def own_rows(self, batch: int) -> tuple[int, ...]:
        """Of this process's `rows`, those that no process before it holds too."""
        holders: dict[int, set[int]] = collections.defaultdict(set)
        for device, part in self.batch.devices_indices_map((batch,)).items():
            for row in _within(part, batch):
                holders[row].add(device.process_index)
        return tuple(row for row in sorted(holders) if min(holders[row]) == jax.process_index())

    def from_rows(self, local: np.ndarray, batch: int) -> jax.Array:
        """A whole batch made of what each process has of it.

        Args:
          local: this process's `rows` of the batch.
          batch: rows of all processes together.
        """
        place = {row: i for i, row in enumerate(self.rows(batch))}

        def part(index: Any) -> np.ndarray:
            return local[[place[row] for row in _within(index, batch)]]

        return jax.make_array_from_callback((batch, *local.shape[1:]), self.batch, part)

    @contextlib.contextmanager
    def active(self) -> Iterator[None]:
        """While a function is traced: activations are laid out by the rules."""
        if self.mesh.size == 1:
            yield
            return
        rules = [(name, self.config.split(name) or None) for name in self.config.rules]
        mesh = jax.sharding.use_abstract_mesh(self.mesh.abstract_mesh)
        with mesh, nn.logical_axis_rules(rules):
            yield

    def _spec(self, axes: Sequence[str | None]) -> PartitionSpec:
        return PartitionSpec(*(self.config.split(axis) or None for axis in axes))

    def _check(
        self, path: tuple[Any, ...], shape: tuple[int, ...], axes: Sequence[str | None]
    ) -> None:
        name = jax.tree_util.keystr(path, simple=True, separator="/")
        where = f"Parameter {name} of shape {shape} on the mesh {self.config}"
        holder: dict[str, str | None] = {}
        for size, axis in zip(shape, axes, strict=True):
            ways, split = self.config.ways(axis), self.config.split(axis)
            if size % ways:
                raise UserError(
                    f"{where}: its axis {axis!r} of {size} cannot be split into the {ways} parts "
                    f"of {' and '.join(split)}: change these, or mesh.rules.{axis}."
                )
            for mesh_axis in split:
                if mesh_axis in holder:
                    raise UserError(
                        f"{where}: its axes {holder[mesh_axis]!r} and {axis!r} are both split "
                        f"over {mesh_axis}: change mesh.rules.{axis}."
                    )
                holder[mesh_axis] = axis


def make_layout(config: MeshConfig, names: NamesAxes, devices: Any = None) -> Layout:
    """The layout of a config on the devices that JAX sees, or on those given.

    Raises:
      UserError: as `make_mesh`.
    """
    return Layout(make_mesh(config, devices), config, names)


def _within(part: Any, batch: int) -> range:
    """The rows of a batch that a device's part of it holds."""
    return range(*part[0].indices(batch)) if part else range(0)


def _placed(leaf: Any, sharding: NamedSharding) -> jax.Array:
    if sharding.is_fully_addressable:
        return jax.device_put(leaf, sharding)
    whole = np.asarray(leaf)
    return jax.make_array_from_callback(whole.shape, sharding, lambda index: whole[index])
