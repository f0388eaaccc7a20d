"""The training loop: batches in, steps, metrics, checkpoints, and a clean way out."""

import contextlib
import dataclasses
import time
from pathlib import Path
from typing import Any, Protocol

import jax
from tqdm import tqdm

from flamingo_jax.checkpoints.store import StepStore
from flamingo_jax.training.loss import Inputs
from flamingo_jax.training.step import Step, TrainState


@dataclasses.dataclass(frozen=True)
class LoopConfig:
    """How long to train and how often to look.

    Attributes:
      steps: optimizer steps.
      log_every: steps between two lines of metrics.
      save_every: steps between two checkpoints; one more is written at the end.
    """

    steps: int
    log_every: int = 10
    save_every: int = 100


class Source(Protocol):
    """An iterator over a step's inputs whose place can be saved and restored."""

    def __next__(self) -> dict[str, Inputs]: ...

    def get_state(self) -> Any:
        """Plain JSON that tells where the iterator stands."""

    def set_state(self, state: Any) -> None:
        """Goes back to a place given by `get_state`."""


class Interrupted(Exception):
    """The run was asked to stop; its state is saved. The message says how to go on."""


def train(
    config: LoopConfig,
    step_fn: Step,
    state: TrainState,
    frozen: Any,
    source: Source,
    folder: Path,
) -> TrainState:
    """Trains from the newest checkpoint in `folder`, or from `state`, to the last step.

    Writes `checkpoints/STEP`, `metrics.jsonl` (loss by data set, gradient norm and gates; the same
    in every run of a config, interrupted or not), `timing.jsonl` and TensorBoard's `events`.

    Args:
      config: lengths and intervals.
      step_fn: from `make_step`.
      state: the state at step 0, also the pattern that checkpoints are restored to.
      frozen: the frozen collection, an argument of every step.
      source: inputs by data set.
      folder: the work directory.

    Raises:
      Interrupted: SIGINT or SIGTERM came; the state was saved first.
      UserError: a checkpoint could not be written.
    """
    store = StepStore(folder / "checkpoints")
    restored = store.restore_latest(state)
    start = 0
    if restored is not None:
        start, state = restored.step, restored.state
        source.set_state(restored.data)
    if start >= config.steps:
        store.close()
        return state
    journal = Journal(folder, start)
    bar = tqdm(total=config.steps, initial=start, desc="Flamingo training", unit="step")
    with stop_signals() as stopped, contextlib.closing(journal), bar:
        inputs = next(source)
        for number in range(start + 1, config.steps + 1):
            began = time.perf_counter()
            state, metrics = step_fn(state, frozen, inputs)
            place = source.get_state()
            waited = time.perf_counter()
            tokens = sum(entry.tokens_BxT.size for entry in inputs.values())
            if number < config.steps:
                inputs = next(source)  # made while the step runs
            fed = time.perf_counter()
            jax.block_until_ready(metrics)
            ended = time.perf_counter()
            del waited
            bar.update()
            journal.time(number, ended - began, tokens, fed, ended)
            if number % config.log_every == 0 or number in (1, config.steps):
                journal.log(number, metrics, state.params)
                bar.set_postfix(journal.summary(metrics, tokens / (ended - began)))
            stop = bool(stopped)
            if number % config.save_every == 0 or number == config.steps or stop:
                store.save(number, state, place)
            if stop and number < config.steps:
                store.close()
                raise Interrupted(
                    f"Stopped at step {number} of {config.steps}, saved in {folder}: "
                    "the same command goes on from there."
                )
    store.close()
    return state
