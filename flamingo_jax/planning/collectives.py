"""The communication in a compiled program: what kinds, how many bytes, over which mesh axes."""

import dataclasses
import math
import re
from collections.abc import Iterator, Sequence

import numpy as np
from jax.sharding import Mesh

from flamingo_jax.planning.hardware import Chip

KINDS = ("all-gather", "all-reduce", "reduce-scatter", "all-to-all", "collective-permute")

_TYPES = {"pred": 1, "s8": 1, "u8": 1, "bf16": 2, "f16": 2, "s16": 2, "u16": 2, "f32": 4}
_TYPES |= {"s32": 4, "u32": 4, "f64": 8, "s64": 8, "u64": 8}
_CONSTANT = r"s32\[\]\S* constant\((\d+)\)"


@dataclasses.dataclass(frozen=True)
class Collective:
    """All communication of one kind over the same mesh axes, in one run of the program.

    Attributes:
      kind: one of `KINDS`.
      axes: mesh axes that it goes along.
      count: how often it is done.
      bytes: of the larger of what a device gives and gets, summed.
      seconds: at the rate of the links that the axes have.
    """

    kind: str
    axes: tuple[str, ...]
    count: int
    bytes: int
    seconds: float


def read_collectives(text: str, mesh: Mesh, chip: Chip) -> list[Collective]:
    """The collectives of a compiled program, each as often as its loops do it.

    Args:
      text: the optimised program (HLO).
      mesh: that it was compiled for.
      chip: whose links they go over.
    """
    found: dict[tuple[str, tuple[str, ...]], Collective] = {}
    for line, times in _lines(text):
        match = re.search(rf" ({'|'.join(KINDS)})(?:-start)?\(", line)
        if not match:
            continue
        kind, group = match[1], _group(line)
        size = _result_bytes(line, match.start())
        if kind == "reduce-scatter":  # what goes in is larger
            size *= len(group)
        axes, rate = _along(group, mesh, chip)
        wire = _share(kind, len(group)) * size
        seconds = wire / rate if axes else 0.0
        before = found.get((kind, axes), Collective(kind, axes, 0, 0, 0.0))
        found[kind, axes] = Collective(
            kind,
            axes,
            before.count + times,
            before.bytes + times * size,
            before.seconds + times * seconds,
        )
    return sorted(found.values(), key=lambda entry: -entry.seconds)


def _share(kind: str, size: int) -> float:
    """What of its bytes a device sends or receives at the least, in a ring."""
    if kind == "collective-permute":
        return 1.0
    return (2.0 if kind == "all-reduce" else 1.0) * (size - 1) / max(size, 1)


def _lines(text: str) -> Iterator[tuple[str, int]]:
    """Every instruction that is run, and how often."""
    bodies: dict[str, list[str]] = {}
    entry = name = ""
    for line in text.splitlines():
        head = re.match(r"(ENTRY )?%?([\w.\-]+) .*\{$", line)
        if head:
            name = head[2]
            bodies[name] = []
            entry = name if head[1] else entry
        elif line.startswith(" ") and name:
            bodies[name].append(line)
    yield from _walk(bodies, entry, 1)


def _walk(bodies: dict[str, list[str]], name: str, times: int) -> Iterator[tuple[str, int]]:
    for line in bodies.get(name, ()):
        yield line, times
        loop = re.search(r" while\(.*condition=%?([\w.\-]+), body=%?([\w.\-]+)", line)
        if loop:
            yield from _walk(bodies, loop[2], times * _turns(bodies[loop[1]]))
        else:
            for called in re.findall(r"(?:calls|to_apply)=%?([\w.\-]+)", line):
                yield from _walk(bodies, called, times)


def _turns(condition: list[str]) -> int:
    """How often a loop goes round: its condition compares a counter from 0 with a constant."""
    bounds = [int(found[1]) for line in condition if (found := re.search(_CONSTANT, line))]
    return max(bounds, default=1)


def _result_bytes(line: str, end: int) -> int:
    """Bytes of the largest array that comes out; of an asynchronous start, that goes in, too."""
    sizes = [
        _TYPES.get(kind, 4) * math.prod(int(side) for side in sides.split(",") if side)
        for kind, sides in re.findall(r"([a-z]+\d*)\[([\d,]*)\]", line[:end])
    ]
    return max(sizes, default=0)


def _group(line: str) -> list[int]:
    """Places in the mesh of the devices of one group that talk to each other.

    Groups are written out, as a transposed range, or as axes of a mesh.
    """
    if found := re.search(r"(?:replica_groups|source_target_pairs)=\{\{([\d,]+)\}", line):
        return [int(place) for place in found[1].split(",")]
    if found := re.search(r"replica_groups=\[(\d+),(\d+)\]<=\[([\d,]+)\](?:T\(([\d,]+)\))?", line):
        sides = [int(side) for side in found[3].split(",")]
        places = np.arange(math.prod(sides)).reshape(sides)
        if found[4]:
            places = places.transpose([int(axis) for axis in found[4].split(",")])
        return places.reshape(int(found[1]), int(found[2]))[0].tolist()
    if found := re.search(r"replica_groups=mesh\[([^\]]+)\](?:[^{]*)\{([^}]*)\}", line):
        sides = {name: int(side) for name, side in re.findall(r"'(\w+)'=(\d+)", found[1])}
        places = np.arange(math.prod(sides.values())).reshape(list(sides.values()))
        # A part of an axis is written 'axis':(parts before it)parts.
        for name, before, part in re.findall(r"'(\w+)'(?::\((\d+)\)(\d+))?", found[2]):
            axis = list(sides).index(name)
            if part:
                step = sides[name] // (int(before) * int(part))
                chosen = np.arange(int(part)) * step
            else:
                chosen = np.arange(sides[name])
            sides[name] = -len(chosen)
            places = places.take(chosen, axis)
        for axis, side in enumerate(sides.values()):
            if side > 0:
                places = places.take([0], axis)
        return places.ravel().tolist()
    return []


def _along(group: Sequence[int], mesh: Mesh, chip: Chip) -> tuple[tuple[str, ...], float]:
    """Mesh axes that differ within a group, and the bytes/s at which it talks.

    A ring along an axis of the torus uses its links in both directions.
    """
    if not group:
        return (), 1.0
    places = np.array(np.unravel_index(list(group), mesh.devices.shape))
    differ = (places != places[:, :1]).any(axis=1)
    axes = tuple(name for name, varies in zip(mesh.axis_names, differ, strict=True) if varies)
    devices = [mesh.devices.flat[place] for place in group]
    if len({getattr(device, "slice_index", 0) for device in devices}) > 1:
        return axes, chip.network_rate
    coordinates = np.array([device.coords for device in devices])
    spanned = int((coordinates != coordinates[0]).any(axis=0).sum())
    spanned = max(1, min(spanned, len(group).bit_length() - 1))  # a pair has one axis at most
    return axes, 2 * spanned * chip.link_rate
