"""Several processes as one program: start-up, and what they must agree upon.

One process a host, each with its own devices, all running the same code in the same order.
"""

import contextlib
import json
import os
import re
import signal
import sys
from collections.abc import Iterator
from types import FrameType
from typing import Any

import jax
import numpy as np
from jax.experimental import multihost_utils

from flamingo_jax.errors import STOPPED, UserError

_LOST = re.compile(r"by peer|gloo|heartbeat|coordination|UNAVAILABLE|DEADLINE_EXCEEDED", re.I)


def start(coordinator: str | None, count: int | None, index: int | None) -> None:
    """Joins the other processes; to be called before anything else asks JAX for its devices.

    Args:
      coordinator: address of the first process, HOST:PORT. None, for it and the rest, on TPUs:
        these tell.
      count: processes in all.
      index: this one's number, from 0.

    Raises:
      UserError: there are no others, or they cannot be reached.
    """
    jax.config.update("jax_cpu_collectives_implementation", "gloo")
    try:
        jax.distributed.initialize(coordinator, count, index)
    except (ValueError, RuntimeError) as error:
        reason = str(error).splitlines()[0]
        raise UserError(
            f"The other processes cannot be joined ({reason}): with --multihost the machine must "
            "be a host of a TPU slice; else say --coordinator, --num_processes and --process_index."
        ) from error


@contextlib.contextmanager
def ended_by_a_loss() -> Iterator[None]:
    """Ends this process, with a message and status 1, where the loss of another one shows inside.

    At once, since all that is done on the way out waits for every process. Where the network does
    not tell, JAX's heartbeat ends what is left after 100 seconds.
    """
    try:
        yield
    except (jax.errors.JaxRuntimeError, ValueError) as error:  # as which depends on the place
        if jax.process_count() == 1 or not _LOST.search(str(error)):
            raise
        reason = str(error).splitlines()[0][:200]
        print(
            f"Process {jax.process_index()} of {jax.process_count()} lost another one ({reason}): "
            "start all of them again with the same command, which goes on from the newest "
            "checkpoint.",
            file=sys.stderr,
            flush=True,
        )
        os._exit(1)


def end_when_told() -> None:
    """From here on SIGTERM and SIGINT end this process, one of several, at once with status 130.

    For what comes after the loops that all stop after the same step: JAX, which tells them, leaves
    the signal without effect elsewhere. The others end when they next wait for this one.
    """
    if jax.process_count() == 1:
        return

    def end(number: int, frame: FrameType | None) -> None:
        print(STOPPED, file=sys.stderr, flush=True)
        os._exit(130)  # on the way out, too, JAX would wait for the others

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, end)


def lead() -> bool:
    """Whether this is the process that prints, and writes what is written once."""
    return jax.process_index() == 0


def all_agree(yes: bool) -> bool:
    """Whether every process says yes."""
    if jax.process_count() == 1:
        return yes
    return bool(np.all(_from_all(np.array(yes))))


def gathered(value: Any) -> list[Any]:
    """A value of every process, plain JSON, in the order of the processes."""
    if jax.process_count() == 1:
        return [value]
    text = json.dumps(value).encode()
    sizes = _from_all(np.array(len(text)))
    padded = np.zeros(int(sizes.max()), np.uint8)
    padded[: len(text)] = np.frombuffer(text, np.uint8)
    texts = _from_all(padded)
    return [json.loads(row[:size].tobytes()) for row, size in zip(texts, sizes, strict=True)]


def _from_all(array: np.ndarray) -> np.ndarray:
    """Every process's array, of one shape and type in all, along a new first axis."""
    with ended_by_a_loss():
        return np.asarray(multihost_utils.process_allgather(array))


def wait_for_all(name: str) -> None:
    """Returns when every process has come here; `name` tells places apart."""
    if jax.process_count() > 1:
        with ended_by_a_loss():
            multihost_utils.sync_global_devices(name)


@contextlib.contextmanager
def lead_first(name: str) -> Iterator[None]:
    """What is inside is done by the first process, then by the others, who find its files.

    Raises:
      UserError: in the others, where the first one failed.
    """
    if lead():
        done = False
        try:
            yield
            done = True
        finally:
            all_agree(done)
    elif all_agree(True):
        yield
    else:
        raise UserError(f"Process 0 stopped in its part of {name!r}, for the reason that it tells.")
