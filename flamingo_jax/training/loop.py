"""The training loop: inputs in, steps, metrics, checkpoints, and a clean way out."""

import concurrent.futures
import contextlib
import dataclasses
import logging
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import jax
import numpy as np
from jax.experimental import multihost_utils

from flamingo_jax.checkpoints.files import replaced
from flamingo_jax.checkpoints.store import StepStore
from flamingo_jax.data.datasets import MixtureConfig
from flamingo_jax.errors import Interrupted, UserError
from flamingo_jax.parallel.processes import ended_by_a_loss
from flamingo_jax.training.inputs import Inputs
from flamingo_jax.training.journal import Journal, progress
from flamingo_jax.training.source import Source
from flamingo_jax.training.state import TrainState
from flamingo_jax.training.step import Step
from flamingo_jax.training.stopping import stop_signals
from flamingo_jax.training.tally import Tally
from flamingo_jax.training.watch import Watch

_log = logging.getLogger(__name__)


@dataclasses.dataclass(frozen=True)
class LoopConfig:
    """How long to train and how often to look.

    Attributes:
      steps: optimizer steps.
      log_every: steps between two lines of metrics, or between as many lines as there are data
        sets, where these take turns.
      save_every: steps between two checkpoints; one more is written at the end.
      max_bad_steps: steps in a row whose gradient is not finite before the run stops.
      stall_minutes: time without a step before a log line says so.
    """

    steps: int
    log_every: int = 10
    save_every: int = 100
    max_bad_steps: int = 10
    stall_minutes: float = 10.0


def train(
    config: LoopConfig,
    step_fn: Step,
    state: TrainState,
    frozen: Any,
    source: Source,
    folder: Path,
    describe: Callable[[Any], Mapping[str, Any]],
    turns: int = 1,
    profiled: range = range(0),
    tally: Tally | None = None,
) -> TrainState:
    """Trains from the newest checkpoint in `folder`, or from `state`, to the last step.

    Writes `checkpoints/STEP`, `metrics.jsonl` (losses, gradient norm and what `describe` tells),
    `timing.jsonl`, TensorBoard's events and, if asked for, a profile. Several processes write the
    checkpoints together; all else is the first one's.

    Args:
      config: lengths and intervals.
      step_fn: from `make_step`.
      state: the state at step 0, also the pattern that checkpoints are restored to.
      frozen: the frozen collection, an argument of every step.
      source: inputs by data set.
      folder: the work directory.
      describe: parameters -> a row for `metrics.jsonl`, the gates for instance.
      turns: steps until every data set has been trained on.
      profiled: numbers of the steps to write a trace of, for TensorBoard's profiler.
      tally: of the records that `source` skips; None where it has none to skip.

    Raises:
      Interrupted: SIGINT or SIGTERM came; the state was saved first.
      UserError: a checkpoint could not be written, or too many steps in a row had a gradient that
        is not finite: the last one's batch is saved first; or too many records were skipped.
    """
    tally = tally or Tally(MixtureConfig(()), folder, dict)
    store = StepStore(folder / "checkpoints")
    restored = store.restore_latest(state)
    start = 0
    if restored is not None:
        start, state = restored.step, restored.state
        source.set_state(restored.data)
    with contextlib.ExitStack() as stack:
        stack.callback(store.close)
        if start >= config.steps:
            return state
        journal = stack.enter_context(contextlib.closing(Journal(folder, start)))
        bar = stack.enter_context(progress("Training Flamingo", config.steps, start))
        asked_to_stop = stack.enter_context(stop_signals())
        clock = stack.enter_context(_Clock())
        watch = stack.enter_context(Watch(config.stall_minutes))
        trace = stack.enter_context(_Trace(folder, profiled, range(start + 1, config.steps + 1)))
        stack.enter_context(ended_by_a_loss())  # last, so that nothing before waits in vain
        tally.begin(start)
        inputs = next(source)
        for number in range(start + 1, config.steps + 1):
            trace.at(number)
            clock.start()
            state, metrics = step_fn(state, frozen, inputs)
            clock.watch(metrics)
            used, place, skipped = inputs, source.get_state(), tally.take()
            if number < config.steps:
                watch.doing(f"making the inputs of step {number + 1}")
                inputs = next(source)  # made while the step runs
            watch.doing(f"in step {number}")
            tokens = sum(np.size(entry.tokens_BxT) for entry in used.values())
            times = clock.stop(tokens, source.encoding)
            values = {name: float(value) for name, value in metrics.items()}
            tally.add(number, skipped)
            if number % config.log_every < turns or number in (1, config.steps):
                journal.metrics(number, {**values, **describe(state.params), **tally.metrics()})
                watch.data(number)
            journal.timing(number, times)
            bar.set_postfix(_shown(values, times), refresh=False)
            bar.update()
            watch.loss(number, values["loss"])
            watch.step(times["seconds"], times["wait_s"])
            check_gradient(config, number, int(values["bad_steps"]), used, folder)
            tally.check(number, number == config.steps)
            stopping = asked_to_stop()
            if number % config.save_every == 0 or number == config.steps or stopping:
                store.save(number, state, place)
            if stopping:
                store.wait()
                raise Interrupted(
                    f"Stopped at step {number} of {config.steps}, saved in {folder}: "
                    "the same command goes on from there."
                )
    return state


def check_gradient(
    config: LoopConfig, step: int, bad_steps: int, inputs: Mapping[str, Inputs], folder: Path
) -> None:
    """Looks whether the last steps' gradients were finite.

    Raises:
      UserError: they were not; `folder / "bad_batch.npz"` holds the inputs of the last one.
    """
    if bad_steps < config.max_bad_steps:
        return
    arrays = {
        f"{name}/{field}": multihost_utils.process_allgather(array, tiled=True)
        for name, entry in inputs.items()
        for field, array in vars(entry).items()
        if array is not None
    }
    path = folder / "bad_batch.npz"
    if jax.process_index() == 0:
        with replaced(path) as part, part.open("wb") as file:
            np.savez(file, **arrays)
    raise UserError(
        f"The gradients of {bad_steps} steps in a row, up to step {step}, were not finite. They "
        f"changed nothing; the inputs of the last one are in {path}: lower "
        "optimizer.learning_rate, or look for what is wrong with them."
    )


def _shown(values: Mapping[str, float], times: Mapping[str, float]) -> dict[str, str]:
    """Loss by data set and tokens a second, for the progress bar."""
    losses = {k.split("/")[1]: f"{v:.2f}" for k, v in values.items() if k.startswith("loss/")}
    return {**losses, "tok/s": f"{times['tokens_per_s']:.0f}"}


class _Trace:
    """Writes a profile of some of a run's steps."""

    def __init__(self, folder: Path, profiled: range, steps: range) -> None:
        """`profiled`: what was asked for, of which `steps` are to come."""
        wanted = [number for number in steps if number in profiled]
        if profiled and not wanted:
            _log.warning(
                "No profile is written: the steps to come are %d to %d.", steps[0], steps[-1]
            )
        self._folder, self._wanted, self._running = folder, wanted, False

    def __enter__(self) -> "_Trace":
        return self

    def __exit__(self, *_: object) -> None:
        self._stop()

    def at(self, number: int) -> None:
        """Begins before the first of the steps, and ends after the last."""
        if self._wanted and number == self._wanted[0]:
            options = jax.profiler.ProfileOptions()
            # Its hooks in every thread can crash a process, and slow each call of Python.
            options.python_tracer_level = 0
            folder = str(self._folder / "tensorboard")
            jax.profiler.start_trace(folder, profiler_options=options)
            self._running = True
        elif self._wanted and number > self._wanted[-1]:
            self._stop()

    def _stop(self) -> None:
        if self._running:
            self._running = False
            jax.profiler.stop_trace()


class _Clock:
    """Times a step, and how long the device waited for the next inputs."""

    def __enter__(self) -> "_Clock":
        self._watcher = concurrent.futures.ThreadPoolExecutor(1)
        return self

    def __exit__(self, *_: object) -> None:
        self._watcher.shutdown()

    def start(self) -> None:
        self._began = time.perf_counter()

    def watch(self, results: Any) -> None:
        """Notes in the background when the step's results are there."""

        def when_ready() -> float:
            jax.block_until_ready(results)
            return time.perf_counter()

        self._ready = self._watcher.submit(when_ready)

    def stop(self, tokens: int, encoding: tuple[float, float]) -> dict[str, float]:
        """Waits for the step; returns `seconds`, `tokens_per_s` and `wait_s`.

        While the encoder works, from and to `encoding`, nothing waits.
        """
        fed = time.perf_counter()
        ready = self._ready.result()
        seconds = max(fed, ready) - self._began
        encoded = max(encoding[1] - max(encoding[0], ready), 0.0)
        return {
            "seconds": round(seconds, 4),
            "tokens_per_s": round(tokens / seconds, 1),
            "wait_s": round(max(fed - ready - encoded, 0.0), 4),
        }
