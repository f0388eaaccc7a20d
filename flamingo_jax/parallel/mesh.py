"""The device mesh, and the rules by which logical axes lie on it.

Arrays are split by GSPMD (arXiv:2105.04663): a module's parameters and activations have logical
axes, a table maps these to the axes of the mesh, and the compiler puts in the communication.
"""

import dataclasses
import difflib
import math
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import numpy as np
from jax.experimental import mesh_utils
from jax.sharding import Mesh

from flamingo_jax.errors import UserError

AXES = ("slice", "data", "fsdp", "tensor")
"""Axes of every mesh, slowest network first."""

RULES: dict[str, tuple[str, ...]] = {
    "batch": ("slice", "data", "fsdp"),
    "images": ("slice", "data", "fsdp", "tensor"),
    "embed": ("fsdp",),
    "channels": ("fsdp",),
    "vocab": ("tensor",),
    "heads": ("tensor",),
    "kv_heads": ("tensor",),
    "mlp": ("tensor",),
}
"""Batches over all data axes, weights over `fsdp` (arXiv:2004.13336) and `tensor` (1909.08053)."""


@dataclasses.dataclass(frozen=True)
class MeshConfig:
    """Devices along each mesh axis, and what is split over them.

    Attributes:
      slice: slices of TPUs, joined by the data centre's network.
      data: devices over which batches are split and weights are copied.
      fsdp: devices over which batches and weights are split.
      tensor: devices over which heads, feed-forwards and vocabulary are split.
      rules: mesh axes of each logical axis (`flamingo_jax.models.axes`); others are not split.
    """

    slice: int = 1
    data: int = 1
    fsdp: int = 1
    tensor: int = 1
    rules: dict[str, tuple[str, ...]] = dataclasses.field(default_factory=lambda: dict(RULES))

    @property
    def shape(self) -> dict[str, int]:
        """Devices by mesh axis."""
        return {axis: getattr(self, axis) for axis in AXES}

    @property
    def devices(self) -> int:
        """Devices in all."""
        return math.prod(self.shape.values())

    def split(self, logical: str | None) -> tuple[str, ...]:
        """Mesh axes of more than one device over which a logical axis is split."""
        return tuple(a for a in self.rules.get(logical or "", ()) if self.shape[a] > 1)

    def ways(self, logical: str | None) -> int:
        """Into how many parts a logical axis is split."""
        return math.prod(self.shape[axis] for axis in self.split(logical))

    def __str__(self) -> str:
        return ", ".join(f"{axis}={size}" for axis, size in self.shape.items())


def make_mesh(config: MeshConfig, devices: Sequence[Any] | None = None) -> Mesh:
    """A mesh over the first devices, over all of them where there are several processes.

    Neighbours on the last mesh axes are neighbours in the machine; `slice` goes across slices.

    Args:
      config: sizes of the axes.
      devices: None for those that JAX sees.

    Raises:
      UserError: there are fewer devices than the config asks for, or more in several processes,
        or they do not make a mesh of this shape.
    """
    found = list(jax.devices() if devices is None else devices)
    if config.devices > len(found) or (jax.process_count() > 1 and config.devices < len(found)):
        raise UserError(
            f"The mesh {config} has {config.devices} devices but JAX sees {len(found)}: "
            "change mesh.data, mesh.fsdp or mesh.tensor."
        )
    try:
        return Mesh(_arranged(config, found[: config.devices]), AXES)
    except (ValueError, NotImplementedError, AssertionError) as error:
        raise UserError(f"No mesh {config} can be laid on these devices: {error}") from error


def _arranged(config: MeshConfig, devices: list[Any]) -> np.ndarray:
    shape = tuple(config.shape.values())
    slices = {getattr(device, "slice_index", 0) for device in devices}
    if len(slices) > 1:
        across = (config.slice, 1, 1, 1)
        within = (1, *shape[1:])
        return mesh_utils.create_hybrid_device_mesh(
            within, across, devices, allow_split_physical_axes=True
        )
    return mesh_utils.create_device_mesh(shape, devices, allow_split_physical_axes=True)


def check_rules(rules: Mapping[str, Sequence[str]], logical: frozenset[str]) -> None:
    """Looks for names in a rules table that mean nothing.

    Raises:
      UserError: a logical axis or a mesh axis is unknown; the message names the nearest one.
    """
    for name, axes in rules.items():
        for kind, known, words in (("logical", sorted(logical), (name,)), ("mesh", AXES, axes)):
            for word in set(words) - set(known):
                nearest = difflib.get_close_matches(word, known, 1, 0.0)[0]
                raise UserError(
                    f"mesh.rules.{name}: there is no {kind} axis {word!r}; "
                    f"did you mean {nearest!r}?"
                )
