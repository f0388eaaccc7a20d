"""Meshes that suit a config and a slice."""

import dataclasses
import logging
import math
from collections.abc import Iterator
from typing import Any

from jax.sharding import AbstractMesh

from flamingo_jax.config import RunConfig
from flamingo_jax.errors import UserError
from flamingo_jax.models.axes import parameter_axes
from flamingo_jax.parallel.layout import Layout
from flamingo_jax.parallel.mesh import AXES, MeshConfig
from flamingo_jax.planning.compiler import argument_bytes
from flamingo_jax.planning.hardware import Topology
from flamingo_jax.planning.program import held

_log = logging.getLogger(__name__)

_ROOM = 0.25  # share of a device's memory that weights and optimizer state may take
_MOST_TENSOR = 64


@dataclasses.dataclass(frozen=True)
class Candidate:
    """A mesh, and the bytes of weights and optimizer state on each of its devices."""

    mesh: MeshConfig
    held_bytes: int

    @property
    def ways(self) -> int:
        """Into how many parts batches are split."""
        return self.mesh.ways("batch")


def with_mesh(config: RunConfig, topology: Topology) -> RunConfig:
    """The config on as many devices as there are chips.

    Its own mesh if it has one; else the one with the least communication that leaves room, and
    batch sizes that cannot be split over it are raised together, by as little as it takes, which
    is told.

    Raises:
      UserError: the config's mesh has another number of devices or cannot split its batches, or
        none suits.
    """
    own = config.mesh.devices > 1
    if config.mesh.devices == 1 < topology.chips:
        found = candidates(config, topology)
        fitting = [c for c in found if c.held_bytes <= _ROOM * topology.chip.hbm] or found
        whole = [c for c in fitting if not _smallest_batch(config) % c.ways]
        # Communication grows with each of them; where batches must grow, tensor spares batch.
        chosen = min(
            whole or [c for c in fitting if c.mesh.tensor <= 16] or fitting,
            key=lambda c: (c.mesh.tensor if whole else -c.mesh.tensor, c.mesh.fsdp),
        )
        config = dataclasses.replace(config, mesh=chosen.mesh)
    if config.mesh.devices != topology.chips:
        raise UserError(
            f"The mesh {config.mesh} has {config.mesh.devices} devices, {topology} has "
            f"{topology.chips}: change config.mesh, or leave it at 1 to have one chosen."
        )
    smallest, ways = _smallest_batch(config), config.mesh.ways("batch")
    needed = -(-smallest // ways) * ways
    if needed == smallest:
        return config
    batch = config.mixture.datasets[0].batch_size
    raised = round(batch * needed / smallest)
    if own:
        raise UserError(
            f"Batches of {batch} and in proportion cannot be split into {ways} parts, as the mesh "
            f"{config.mesh} has them: --batch={raised} can."
        )
    _log.warning(
        "Batches are raised in proportion, from %d to %d, so that the mesh %s can split them.",
        *(batch, raised, config.mesh),
    )
    return scaled(config, needed / smallest)


def scaled(config: RunConfig, factor: float) -> RunConfig:
    """The config with all batch sizes so many times as large.

    Raises:
      UserError: one of them would not be a whole number.
    """
    datasets = []
    for dataset in config.mixture.datasets:
        size = dataset.batch_size * factor
        if abs(size - round(size)) > 1e-6 or round(size) < 1:
            raise UserError(
                f"Data set {dataset.name} would have a batch of {size:g} sequences: choose a "
                f"--batch that keeps the proportions of the config's batch sizes."
            )
        datasets.append(dataclasses.replace(dataset, batch_size=round(size)))
    mixture = dataclasses.replace(config.mixture, datasets=tuple(datasets))
    return dataclasses.replace(config, mixture=mixture)


def candidates(config: RunConfig, topology: Topology) -> list[Candidate]:
    """Meshes whose axes divide what they split.

    Raises:
      UserError: there is none; the message is that of the last one tried.
    """
    shapes = held(config)
    found, mistake = [], None
    for mesh in _meshes(config.mesh, topology):
        no_devices: Any = AbstractMesh(tuple(mesh.shape.values()), AXES)
        layout = Layout(no_devices, mesh, parameter_axes)
        try:
            found.append(Candidate(mesh, argument_bytes(layout.abstract(shapes))))
        except UserError as error:
            mistake = error
    if not found:
        raise mistake or UserError(f"No mesh has {topology.chips} devices.")
    return found


def _meshes(base: MeshConfig, topology: Topology) -> Iterator[MeshConfig]:
    chips = topology.chips // topology.slices
    for tensor in _divisors(chips):
        for fsdp in _divisors(chips // tensor) if tensor <= _MOST_TENSOR else ():
            data = chips // tensor // fsdp
            yield dataclasses.replace(
                base, slice=topology.slices, data=data, fsdp=fsdp, tensor=tensor
            )


def _divisors(number: int) -> list[int]:
    return [d for d in range(1, number + 1) if number % d == 0]


def _smallest_batch(config: RunConfig) -> int:
    """What every split of the batches must divide."""
    return math.gcd(*(dataset.batch_size for dataset in config.mixture.datasets))
