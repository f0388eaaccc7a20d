"""TPUs that a run can be planned for: what a chip can do, and slices of them with none at hand.

Peak rates are those of Google Cloud's TPU documentation (v4, v5e, v5p, v6e). Rates of
links are theirs a chip, over the number of links; those of the data centre's network are "How to
Scale Your Model" (Austin et al., 2025, chapter 2).
"""

import dataclasses
import math
import os
import re
from collections.abc import Sequence
from typing import Any

from flamingo_jax.errors import UserError


@dataclasses.dataclass(frozen=True)
class Chip:
    """One TPU chip, a single device to JAX.

    Attributes:
      name: as in a topology.
      flops: bfloat16 FLOP/s at most.
      hbm: bytes of memory that the compiler gives to a program.
      hbm_rate: its bytes/s.
      links: to other chips; two along each axis of the slice's torus.
      link_rate: bytes/s of one link in one direction.
      network_rate: bytes/s between slices, a chip.
      megacore: whether its two cores are compiled for as one.
    """

    name: str
    flops: float
    hbm: int
    hbm_rate: float
    links: int
    link_rate: float
    network_rate: float
    megacore: bool


_GIB = 2**30
CHIPS = {
    chip.name: chip
    for chip in (
        Chip("v4", 275e12, int(30.75 * _GIB), 1.228e12, 6, 50e9, 6.25e9, True),
        Chip("v5e", 197e12, int(15.75 * _GIB), 0.819e12, 4, 50e9, 3.125e9, False),
        Chip("v5p", 459e12, int(95.73 * _GIB), 2.765e12, 6, 100e9, 6.25e9, True),
        Chip("v6e", 918e12, int(31.24 * _GIB), 1.640e12, 4, 100e9, 12.5e9, False),
    )
}


@dataclasses.dataclass(frozen=True)
class Topology:
    """Slices of chips.

    Attributes:
      chip: of which kind.
      sides: chips along each axis of a slice.
      slices: joined by the data centre's network.
    """

    chip: Chip
    sides: tuple[int, ...]
    slices: int = 1

    @property
    def chips(self) -> int:
        """Chips of all slices."""
        return self.slices * math.prod(self.sides)

    def __str__(self) -> str:
        name = f"{self.chip.name}:{'x'.join(map(str, self.sides))}"
        return name if self.slices == 1 else f"{self.slices}*{name}"


def parse(text: str) -> Topology:
    """A topology such as `v4:8x8x16`, or `2*v5e:16x16` for two slices.

    Raises:
      UserError: it is none; the message says how one is written.
    """
    found = re.fullmatch(r"(?:(\d+)\*)?(\w+):(\d+(?:x\d+)*)", text.strip().lower())
    if not found or found[2] not in CHIPS:
        raise UserError(
            f"--topology={text} is no TPU topology of {', '.join(CHIPS)}: write v4:8x8x16, "
            "v5e:16x16, or 2*v5e:16x16 for two slices."
        )
    chip, sides = CHIPS[found[2]], tuple(map(int, found[3].split("x")))
    if len(sides) != chip.links // 2:
        raise UserError(
            f"--topology={text}: a slice of {chip.name} has {chip.links // 2} sides, "
            f"not {len(sides)}."
        )
    if min(sides) < 1 or found[1] == "0":
        raise UserError(f"--topology={text}: every number in it must be at least 1.")
    return Topology(chip, sides, int(found[1] or 1))


def devices(topology: Topology) -> Sequence[Any]:
    """Devices to compile for, described by the TPU compiler; none need be there.

    Raises:
      UserError: there is no TPU compiler, or it knows no such slice.
    """
    # There is nothing to ask a metadata server or to log, and another process may compile, too.
    os.environ.setdefault("TPU_SKIP_MDS_QUERY", "1")
    os.environ.setdefault("TPU_LOG_DIR", "disabled")
    os.environ.setdefault("ALLOW_MULTIPLE_LIBTPU_LOAD", "1")
    os.environ.setdefault("TPU_ACCELERATOR_TYPE", "v4-8")
    os.environ.setdefault("TPU_WORKER_HOSTNAMES", "localhost")
    from jax.experimental import topologies

    options: dict[str, Any] = {"num_slices": topology.slices} if topology.slices > 1 else {}
    if topology.chip.megacore:
        options["chip_config_name"] = "megacore"
    if topology.chips == topology.slices:
        options["chips_per_host_bounds"] = (1, 1, 1)
    one = dataclasses.replace(topology, slices=1)
    try:
        return topologies.get_topology_desc(
            platform="tpu", topology_name=str(one), **options
        ).devices
    except ModuleNotFoundError as error:
        raise UserError(_NO_COMPILER) from error
    except Exception as error:
        words = str(error).splitlines()[0]
        if "TPU support not installed" in words:
            raise UserError(_NO_COMPILER) from error
        raise UserError(f"--topology={topology}: the TPU compiler refuses it: {words}") from error


_NO_COMPILER = (
    "Planning needs the TPU compiler: install it with pip install 'flamingo_jax[plan]' "
    "(or pip install libtpu)."
)
