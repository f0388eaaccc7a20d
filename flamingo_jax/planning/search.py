"""Which mesh and which rematerialisation: the sensible ones are compiled and compared."""

import dataclasses

from tqdm import tqdm

from flamingo_jax.config import RunConfig
from flamingo_jax.parallel.mesh import MeshConfig
from flamingo_jax.planning.hardware import Topology
from flamingo_jax.planning.meshes import Candidate, candidates
from flamingo_jax.planning.plan import Plan, plan_training

_TENSORS = 3  # degrees of tensor parallelism that are tried
_MOST_HELD = 0.6  # share of the memory that may be taken before anything is computed


def search(name: str, start: RunConfig, topology: Topology) -> list[Plan]:
    """Plans of several meshes and policies: those that fit first, then the fastest.

    The meshes have the config's own rematerialisation; the best of them is tried with the others.

    Args:
      name: of the recipe.
      start: with a mesh as large as the slice, which is tried first.
      topology: the slice.
    """
    meshes = _sensible(start, topology)
    others = [policy for policy in ("none", "dots", "full") if policy != start.remat]
    plans: list[Plan] = []
    with tqdm(total=len(meshes) + len(others), desc="Compiling meshes", unit="plan") as bar:
        for mesh in meshes:
            tried = dataclasses.replace(start, mesh=mesh)
            plans.append(plan_training(name, tried, topology))
            bar.update()
        best = dataclasses.replace(start.mesh, **min(plans, key=_rank).mesh)
        for policy in others:
            tried = dataclasses.replace(start, mesh=best, remat=policy)
            plans.append(plan_training(name, tried, topology))
            bar.update()
    return sorted(plans, key=_rank)


def _rank(plan: Plan) -> tuple[bool, float]:
    return not plan.fits, plan.roofline_seconds_per_step


def _sensible(config: RunConfig, topology: Topology) -> list[MeshConfig]:
    """Of the least degrees of tensor parallelism, the least and the most of `fsdp` that fit.

    The mesh that a plan without a search has comes first.
    """
    sizes = [dataset.batch_size for dataset in config.mixture.datasets]
    room = _MOST_HELD * topology.chip.hbm
    by_tensor: dict[int, list[Candidate]] = {}
    for candidate in candidates(config, topology):
        if all(size % candidate.ways == 0 for size in sizes) and candidate.held_bytes <= room:
            by_tensor.setdefault(candidate.mesh.tensor, []).append(candidate)
    meshes = [config.mesh]
    for tensor in sorted(by_tensor)[:_TENSORS]:
        ordered = sorted(by_tensor[tensor], key=lambda candidate: candidate.mesh.fsdp)
        ends = (ordered[0].mesh, ordered[-1].mesh)
        meshes += [mesh for i, mesh in enumerate(ends) if mesh not in (*meshes, *ends[:i])]
    return meshes
