"""A clean way out of a long loop when the user or the scheduler asks for one."""

import contextlib
import itertools
import signal
from collections.abc import Callable, Iterator
from types import FrameType

import jax
from jax.experimental import multihost_utils

_calls = itertools.count()
"""Steps of all loops of this process: JAX agrees on one, and misses it if they begin anew."""


@contextlib.contextmanager
def stop_signals() -> Iterator[Callable[[], bool]]:
    """Yields `asked()`, True once SIGINT or SIGTERM has come; a second signal ends at once.

    It is to be called once a step; a signal after the last call is raised when the loop is left.
    Of several processes one that gets SIGTERM is enough: JAX tells the others, and all hear of it
    after the same step.
    """
    if jax.process_count() > 1:
        yield lambda: multihost_utils.reached_preemption_sync_point(next(_calls))
        return
    came: list[int] = []
    told: list[int] = []

    def note(number: int, frame: FrameType | None) -> None:
        if came:
            signal.default_int_handler(number, frame)
        came.append(number)

    def asked() -> bool:
        told[:] = came
        return bool(came)

    before = {number: signal.signal(number, note) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield asked
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    if came and not told:
        signal.raise_signal(came[0])
