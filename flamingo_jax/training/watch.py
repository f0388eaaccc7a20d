"""Says what goes wrong in a long run while it goes wrong: stalls, loss spikes, slow data."""

import collections
import logging
import statistics
import threading
import time

import jax

_log = logging.getLogger(__name__)

_SPIKE = 6.0
"""A loss this many robust standard deviations above the median is a spike."""
_LEAST = 20  # losses before there is a median to speak of
_SLOW = 0.2  # share of the time that the device may wait for its inputs
_MOMENT_S = 10.0  # seconds of steps below which that share is chance


class Watch:
    """A log line for a step that takes too long, a loss that jumps, a device that waits for data.

    A context manager: a thread looks after stalls meanwhile.
    """

    def __init__(self, stall_minutes: float) -> None:
        self._limit_s = 60 * stall_minutes
        self._losses: collections.deque[float] = collections.deque(maxlen=100)
        self._seconds = self._waited = 0.0
        self._done = threading.Event()
        self.doing("before the first step")

    def __enter__(self) -> "Watch":
        self._thread = threading.Thread(target=self._look, daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._done.set()
        self._thread.join()

    def doing(self, what: str) -> None:
        """Notes what the run begins to do now."""
        self._now = (what, time.monotonic())

    def loss(self, step: int, value: float) -> None:
        """Looks for a spike: far above the median of the last hundred losses, and half as high."""
        if len(self._losses) >= _LEAST:
            middle = statistics.median(self._losses)
            spread = 1.4826 * statistics.median(abs(loss - middle) for loss in self._losses)
            if value > max(middle + _SPIKE * spread, 1.5 * middle):
                _log.warning(
                    "Loss spike at step %d: %.3g; the median of the %d steps before is %.3g.",
                    *(step, value, len(self._losses), middle),
                )
        if value == value:  # not NaN
            self._losses.append(value)

    def step(self, seconds: float, waited: float) -> None:
        """Notes how long a step took, and how much of that the device waited for its inputs."""
        self._seconds += seconds
        self._waited += waited

    def data(self, step: int) -> None:
        """Looks whether the data pipeline kept up, once there are seconds enough to judge it by."""
        if self._seconds < _MOMENT_S:
            return
        share = self._waited / self._seconds
        if share > _SLOW:
            _log.warning(
                "Slow data pipeline at step %d%s: the device waited %.0f%% of the time for its "
                "inputs; raise mixture.workers.",
                *(step, _where(), 100 * share),
            )
        self._seconds = self._waited = 0.0

    def _look(self) -> None:
        told = None
        while not self._done.wait(min(self._limit_s / 4, 10.0)):
            now = self._now
            if now is not told and time.monotonic() - now[1] > self._limit_s:
                told = now
                _log.warning(
                    "Stalled%s: %s for %.3g minutes.", _where(), now[0], self._limit_s / 60
                )


def _where() -> str:
    """Which process this is, if there are several."""
    if jax.process_count() == 1:
        return ""
    return f" in process {jax.process_index()} of {jax.process_count()}"
