"""What a program would need and take on a slice of TPUs, before anyone pays for it."""

import collections
import dataclasses
import statistics
from collections.abc import Callable
from typing import Any

from flamingo_jax.config import RunConfig
from flamingo_jax.parallel.mesh import MeshConfig, make_mesh
from flamingo_jax.planning.collectives import Collective, read_collectives
from flamingo_jax.planning.compiler import Compiled, compile_program
from flamingo_jax.planning.hardware import Topology, devices
from flamingo_jax.planning.program import Work, train_program

_DAY = 86_400.0


@dataclasses.dataclass(frozen=True)
class Plan:
    """A compiled program on slices of TPUs, and how fast they could run it at best.

    Attributes:
      config: the recipe's name.
      program: `train_step`, `prefill` or `decode`.
      topology: of the slices.
      chips: in all of them.
      mesh: devices by mesh axis.
      remat: what is computed anew in the backward pass.
      batch_sizes: sequences a step, by data set.
      params: parameters, trained and frozen.
      fits: whether `peak_bytes` is no more than the memory of a device.
      hbm_bytes_per_device: memory that the compiler gives to a program.
      argument_bytes: of parameters, optimizer state and inputs, a device.
      temp_bytes: of intermediate values, a device.
      peak_bytes: of all that is in memory at once, a device; machine code, a hundredth or so of the
        memory, comes on top.
      compile_seconds: from shapes to a program with its memory assigned.
      model_flops_per_step: of all devices, nothing computed twice.
      hardware_flops_per_step: with what is computed anew.
      roofline: seconds a step by limit: `compute`, `hbm`, `interconnect`.
      roofline_seconds_per_step: the longest of these.
      bound: which that is.
      estimated_days: of the config's steps at that speed, a lower bound; None for other programs.
      collectives: the communication of a step; None if there is no program for want of room.
    """

    config: str
    program: str
    topology: str
    chips: int
    mesh: dict[str, int]
    remat: str
    batch_sizes: dict[str, int]
    params: int
    fits: bool
    hbm_bytes_per_device: int
    argument_bytes: int
    temp_bytes: int
    peak_bytes: int
    compile_seconds: float
    model_flops_per_step: int
    hardware_flops_per_step: int
    roofline: dict[str, float]
    roofline_seconds_per_step: float
    bound: str
    estimated_days: float | None
    collectives: list[Collective] | None

    @property
    def free(self) -> float:
        """Share of a device's memory that is left."""
        return 1.0 - self.peak_bytes / self.hbm_bytes_per_device


def plan_training(name: str, config: RunConfig, topology: Topology) -> Plan:
    """Compiles the training step of a config whose mesh has as many devices as there are chips.

    Where data sets take turns there is a step for each: bytes and collectives are those of the
    largest, seconds and operations the mean.

    Args:
      name: of the recipe.
      config: with its mesh and batch sizes.
      topology: of the slices.

    Raises:
      UserError: there is no such slice, or something cannot be split as the rules say.
    """
    plans = []
    for taken in _steps(config):
        compiled = compile_program(train_program, taken, topology)
        sizes = {dataset.name: dataset.batch_size for dataset in taken.mixture.datasets}
        plans.append(judged(name, "train_step", taken, topology, config.mesh, sizes, compiled))
    plan = plans[0] if len(plans) == 1 else _in_turn(plans)
    days = plan.roofline_seconds_per_step * config.loop.steps / _DAY
    return dataclasses.replace(plan, estimated_days=days)


def _steps(config: RunConfig) -> list[RunConfig]:
    """The config, or one for each of its data sets if its steps take them in turn."""
    mixture = config.mixture
    if mixture.turns == 1:
        return [config]
    alone = [dataclasses.replace(mixture, datasets=(dataset,)) for dataset in mixture.datasets]
    return [dataclasses.replace(config, mixture=each) for each in alone]


def _in_turn(plans: list[Plan]) -> Plan:
    """Steps that follow each other: what the largest needs, and what they take on average."""
    largest = max(plans, key=lambda plan: plan.peak_bytes)

    def mean(value: Callable[[Plan], float]) -> float:
        return statistics.fmean(map(value, plans))

    roofline = {limit: mean(lambda plan, k=limit: plan.roofline[k]) for limit in largest.roofline}
    return dataclasses.replace(
        largest,
        batch_sizes={name: size for plan in plans for name, size in plan.batch_sizes.items()},
        compile_seconds=round(sum(plan.compile_seconds for plan in plans), 1),
        model_flops_per_step=round(mean(lambda plan: plan.model_flops_per_step)),
        hardware_flops_per_step=round(mean(lambda plan: plan.hardware_flops_per_step)),
        roofline=roofline,
        roofline_seconds_per_step=mean(lambda plan: plan.roofline_seconds_per_step),
        bound=max(roofline, key=lambda limit: roofline[limit]),
    )


def judged(
    name: str,
    program: str,
    config: RunConfig,
    topology: Topology,
    mesh: MeshConfig,
    batch_sizes: dict[str, int],
    compiled: Compiled,
) -> Plan:
    """The plan of a compiled program, without `estimated_days`."""
    work, chip = compiled.told, topology.chip
    found = None
    if compiled.text is not None:
        found = read_collectives(compiled.text, make_mesh(mesh, devices(topology)), chip)
    roofline = limits(work, topology, mesh, found or [])
    bound = max(roofline, key=lambda limit: roofline[limit])
    return Plan(
        config=name,
        program=program,
        topology=str(topology),
        chips=topology.chips,
        mesh=mesh.shape,
        remat=config.remat,
        batch_sizes=batch_sizes,
        params=work.params,
        fits=compiled.peak_bytes <= chip.hbm,
        hbm_bytes_per_device=chip.hbm,
        argument_bytes=compiled.argument_bytes,
        temp_bytes=compiled.temp_bytes,
        peak_bytes=compiled.peak_bytes,
        compile_seconds=round(compiled.seconds, 1),
        model_flops_per_step=work.model_flops,
        hardware_flops_per_step=work.hardware_flops,
        roofline=roofline,
        roofline_seconds_per_step=roofline[bound],
        bound=bound,
        estimated_days=None,
        collectives=found,
    )


def limits(
    work: Work,
    topology: Topology,
    mesh: MeshConfig,
    communication: list[Collective],
) -> dict[str, float]:
    """Seconds a step at the full rate of each of a chip's resources.

    Weights are read whole but for what `tensor` splits; parameters and optimizer state are read and
    written once besides. Axes of the mesh have links of their own, so the busiest one counts.
    """
    chip, chips = topology.chip, topology.chips
    moved = work.traffic.weights / mesh.tensor + work.traffic.activations / chips
    by_axes: dict[Any, float] = collections.defaultdict(float)
    for entry in communication:
        by_axes[entry.axes] += entry.seconds
    return {
        "compute": work.hardware_flops / chips / chip.flops,
        "hbm": (moved + 2 * work.updated_bytes) / chip.hbm_rate,
        "interconnect": max(by_axes.values(), default=0.0),
    }
