"""Several processes as one program: start-up, and what they must agree upon.

One process a host, each with its own devices, all running the same code in the same order.
"""

import contextlib
from collections.abc import Iterator

import jax
import numpy as np
from jax.experimental import multihost_utils


def start(coordinator: str | None, count: int | None, index: int | None) -> None:
    """Joins the other processes; to be called before anything else asks JAX for its devices.

    Args:
      coordinator: address of the first process, HOST:PORT. None, for it and the rest, on TPUs:
        these tell.
      count: processes in all.
      index: this one's number, from 0.
    """
    jax.config.update("jax_cpu_collectives_implementation", "gloo")
    jax.distributed.initialize(coordinator, count, index)


def lead() -> bool:
    """Whether this is the process that prints, and writes what is written once."""
    return jax.process_index() == 0


def all_agree(yes: bool) -> bool:
    """Whether every process says yes."""
    if jax.process_count() == 1:
        return yes
    return bool(np.all(multihost_utils.process_allgather(np.array(yes))))


def wait_for_all(name: str) -> None:
    """Returns when every process has come here; `name` tells places apart."""
    if jax.process_count() > 1:
        multihost_utils.sync_global_devices(name)


@contextlib.contextmanager
def lead_first(name: str) -> Iterator[None]:
    """What is inside is done by the first process, then by the others, who find its files."""
    if not lead():
        wait_for_all(name)
    yield
    if lead():
        wait_for_all(name)
