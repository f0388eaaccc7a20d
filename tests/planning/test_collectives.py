"""Communication read from compiled programs: written by hand, and by the compiler."""

import math
from typing import Any

import jax
import jax.numpy as jnp
import pytest
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from flamingo_jax.parallel.mesh import MeshConfig, make_mesh
from flamingo_jax.planning.collectives import read_collectives
from flamingo_jax.planning.compiler import Program, compile_program
from flamingo_jax.planning.hardware import CHIPS, devices, parse

HLO = """HloModule jit_step, is_scheduled=true

%body (p: (s32[], f32[8,4])) -> (s32[], f32[8,4]) {
  %all-gather.1 = f32[8,4]{1,0} all-gather(%x), channel_id=1, GROUPS, dimensions={0}
  %start = (f32[2]{0}, f32[2]{0}) collective-permute-start(%y), source_target_pairs={{0,1},{1,0}}
}

%condition (p.1: (s32[], f32[8,4])) -> pred[] {
  %seven = s32[]{:T(128)} constant(7)
  ROOT %less = pred[]{:T(512)} compare(%i, %seven), direction=LT
}

%fused (q: f32[4]) -> f32[1] {
  ROOT %reduce-scatter = f32[1]{0} reduce-scatter(%q), channel_id=2, GROUPS, dimensions={0}
}

ENTRY %main (a: f32[8,4]) -> f32[8,4] {
  %while.1 = (s32[], f32[8,4]) while(%t), condition=%condition, body=%body
  %fusion = f32[1]{0} fusion(%z), kind=kCustom, calls=%fused
  ROOT %all-reduce = f32[16]{0} all-reduce(%u), channel_id=3, GROUPS, to_apply=%add
}
"""


def mesh_of(topology: str, **axes: int) -> Mesh:
    return make_mesh(MeshConfig(**axes), devices(parse(topology)))


@pytest.mark.parametrize(
    ("groups", "axis"),
    [
        ("replica_groups={{0,1},{2,3}}", "tensor"),
        ("replica_groups={{0,2},{1,3}}", "fsdp"),
        ("replica_groups=[2,2]<=[4]", "tensor"),
        ("replica_groups=[2,2]<=[2,2]T(1,0)", "fsdp"),
        ("replica_groups=mesh['a'=2,'b'=2] {'b'}", "tensor"),
        ("replica_groups=mesh['a'=2,'b'=2] {'a'}", "fsdp"),
        ("replica_groups=mesh['a'=4] {'a':(1)2}", "fsdp"),
        ("replica_groups=mesh['a'=4] {'a':(2)2}", "tensor"),
    ],
)
def test_kinds_bytes_times_and_axes(groups: str, axis: str) -> None:
    mesh, chip = mesh_of("v5e:2x2", fsdp=2, tensor=2), CHIPS["v5e"]
    found = read_collectives(HLO.replace("GROUPS", groups), mesh, chip)
    told = {entry.kind: (entry.axes, entry.count, entry.bytes) for entry in found}
    assert told == {
        "all-gather": ((axis,), 7, 7 * 8 * 4 * 4),
        "collective-permute": (("tensor",), 7, 7 * 2 * 4),
        "reduce-scatter": ((axis,), 1, 2 * 4),
        "all-reduce": ((axis,), 1, 16 * 4),
    }
    seconds = {entry.kind: entry.seconds for entry in found}
    rate = 2 * chip.link_rate  # both directions of one axis of the torus
    # In a ring of two each sends half of what is gathered, and twice that where it is summed.
    assert seconds["all-gather"] == pytest.approx(7 * 128 / 2 / rate)
    assert seconds["all-reduce"] == pytest.approx(2 * 64 / 2 / rate)


def test_between_slices_it_goes_over_the_network() -> None:
    mesh = mesh_of("2*v5e:2x2", slice=2, fsdp=4)
    (found,) = (
        entry
        for entry in read_collectives(
            HLO.replace("GROUPS", "replica_groups=[4,2]<=[2,4]T(1,0)"), mesh, CHIPS["v5e"]
        )
        if entry.kind == "all-reduce"
    )
    assert found.axes == ("slice",)
    assert found.seconds == pytest.approx(64 / CHIPS["v5e"].network_rate)


def split_product(topology: str) -> Program:
    """x @ w with w split over what it contracts: an all-reduce of the product, in a loop of 3."""
    mesh = Mesh(mesh_of(topology, tensor=parse(topology).chips).devices.reshape(-1), ("tensor",))

    def of(*axes: str | None) -> NamedSharding:
        return NamedSharding(mesh, PartitionSpec(*axes))

    def run(x: Any, w: Any) -> Any:
        def turn(y: Any, _: Any) -> tuple[Any, None]:
            y = jax.lax.with_sharding_constraint(y, of(None, "tensor"))
            return jax.lax.with_sharding_constraint(y @ w, of()), None

        return jax.lax.scan(turn, x, None, length=3)[0]

    x = jax.ShapeDtypeStruct((512, 1024), jnp.bfloat16, sharding=of())
    w = jax.ShapeDtypeStruct((1024, 1024), jnp.bfloat16, sharding=of("tensor"))
    return Program(jax.jit(run, out_shardings=of()), (x, w), "told")


@pytest.mark.parametrize("topology", ["v5e:2x2", "v5p:2x2x1"])
def test_a_real_program_of_each_form(topology: str) -> None:
    compiled = compile_program(split_product, topology)
    assert compiled.told == "told"
    assert compiled.text is not None
    mesh = mesh_of(topology, tensor=4)
    found = read_collectives(compiled.text, mesh, parse(topology).chip)
    assert {entry.axes for entry in found} == {("tensor",)}
    moved = {entry.kind: entry.bytes for entry in found}
    product = 512 * 1024 * 2
    assert moved["all-reduce"] == 3 * product
    assert math.isclose(compiled.argument_bytes, product + 1024 * 1024 * 2 / 4, rel_tol=0.01)
