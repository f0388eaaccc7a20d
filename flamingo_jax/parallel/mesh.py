"""The device mesh and how arrays lie on it."""

import dataclasses

import jax
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from flamingo_jax.errors import UserError


@dataclasses.dataclass(frozen=True)
class MeshConfig:
    """Devices along each mesh axis.

    Attributes:
      data: devices over which a batch is split; each batch size must be a multiple of it.
    """

    data: int = 1


def make_mesh(config: MeshConfig) -> Mesh:
    """A mesh over the first devices.

    Raises:
      UserError: fewer devices than the config asks for.
    """
    devices = jax.devices()
    if config.data > len(devices):
        raise UserError(
            f"mesh.data is {config.data} but JAX sees {len(devices)} device(s): lower mesh.data."
        )
    return Mesh(np.array(devices[: config.data]), ("data",))


def replicated(mesh: Mesh) -> NamedSharding:
    """The same array on every device."""
    return NamedSharding(mesh, PartitionSpec())


def split_batch(mesh: Mesh) -> NamedSharding:
    """The leading axis split over the `data` axis."""
    return NamedSharding(mesh, PartitionSpec("data"))
