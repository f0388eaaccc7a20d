"""The loop: goes on bit for bit, says how it was stopped, leaves the frozen weights alone."""

import dataclasses
import functools
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import chex
import jax
import numpy as np
import optax
import pytest

from flamingo_jax.checkpoints.store import load_params
from flamingo_jax.errors import Interrupted, UserError
from flamingo_jax.training.inputs import Inputs
from flamingo_jax.training.journal import read_rows
from flamingo_jax.training.loop import LoopConfig, train
from flamingo_jax.training.optimizer import OptimizerConfig, make_optimizer
from flamingo_jax.training.state import TrainState
from flamingo_jax.training.step import make_step
from tests.checkpoints.test_store import damage
from tests.tiny_run import ROOT
from tests.training.test_step import WEIGHTS, inputs_of, layout_of, setting, state_of

CONFIG = LoopConfig(steps=7, log_every=2, save_every=3)


class Numbered:
    """A source whose i-th inputs depend on i alone; `at` is called before each."""

    encoding = (0.0, 0.0)

    def __init__(self, at: Callable[[int], None] = lambda number: None) -> None:
        self._number, self._at = 0, at

    def __next__(self) -> dict[str, Inputs]:
        i, self._number = self._number, self._number + 1
        self._at(i)
        return {"episodes": inputs_of(2 * i), "pairs": inputs_of(2 * i + 1, B=2, T=5, N=1)}

    def get_state(self) -> Any:
        return {"number": self._number}

    def set_state(self, state: Any) -> None:
        self._number = state["number"]


@functools.cache
def compiled() -> tuple[Any, Any]:
    """(optimizer, step), the same for all runs: compiling takes longer than they do."""
    optimizer = make_optimizer(OptimizerConfig(1e-2, 1e-2, warmup_steps=2), CONFIG.steps)
    return optimizer, make_step(setting()[0], optimizer, WEIGHTS, layout_of())


def run(
    folder: Path, source: Any = None, config: LoopConfig = CONFIG, profiled: range = range(0)
) -> tuple[TrainState, Any, Any]:
    """(final state, frozen weights after, frozen weights before)."""
    _, params, frozen = setting()
    layout = layout_of()
    optimizer, step = compiled()
    on_device = layout.place(frozen)
    state = train(
        config,
        step,
        state_of(params, optimizer, layout),
        on_device,
        source or Numbered(),
        folder,
        lambda params: {"latents": float(np.asarray(params["resampler"]["latents"]).sum())},
        profiled=profiled,
    )
    return state, on_device, frozen


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, TrainState]:
    folder = tmp_path_factory.mktemp("loop")
    return folder, run(folder)[0]


def test_what_is_written(whole: tuple[Path, TrainState]) -> None:
    folder, state = whole
    assert int(state.step) == 7
    rows = read_rows(folder / "metrics.jsonl")
    assert [row["step"] for row in rows] == [1, 2, 4, 6, 7]
    assert set(rows[0]) == {
        *("step", "loss", "loss/episodes", "loss/pairs", "grad_norm", "latents"),
        *("skipped", "bad_steps"),
    }
    for row in rows:
        expected = sum(weight * row[f"loss/{name}"] for name, weight in WEIGHTS.items())
        assert row["loss"] == pytest.approx(expected, rel=1e-5)
    times = read_rows(folder / "timing.jsonl")
    assert [row["step"] for row in times] == [*range(1, 8)]
    tokens = 4 * 12 + 2 * 5
    for row in times:
        assert row["tokens_per_s"] == pytest.approx(tokens / row["seconds"], rel=0.05)
        assert 0 <= row["wait_s"] <= row["seconds"]
    assert sorted(path.name for path in (folder / "checkpoints").iterdir()) == ["3", "6", "7"]
    chex.assert_trees_all_equal(load_params(folder / "checkpoints"), jax.device_get(state.params))


def test_frozen_weights_are_bit_identical(tmp_path: Path) -> None:
    _, after, before = run(tmp_path)
    chex.assert_trees_all_equal(after, before)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_saves_and_the_next_run_goes_on(
    whole: tuple[Path, TrainState], tmp_path: Path, number: signal.Signals
) -> None:
    def at(i: int) -> None:
        if i == 5:
            signal.raise_signal(number)

    with pytest.raises(Interrupted, match="Stopped at step 5 of 7, saved in"):
        run(tmp_path, Numbered(at))
    assert (tmp_path / "checkpoints" / "5").is_dir()
    assert_goes_on(tmp_path, whole)


def test_what_dies_between_two_saves_is_done_again(
    whole: tuple[Path, TrainState], tmp_path: Path
) -> None:
    def at(i: int) -> None:
        if i == 6:
            raise MemoryError

    with pytest.raises(MemoryError):
        run(tmp_path, Numbered(at))
    with (tmp_path / "metrics.jsonl").open("a") as file:
        file.write('{"step": 6, "lo')
    assert_goes_on(tmp_path, whole)


def test_a_damaged_checkpoint_is_passed_over(
    whole: tuple[Path, TrainState], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    run(tmp_path)
    damage(tmp_path / "checkpoints" / "7", "truncated")
    damage(tmp_path / "checkpoints" / "6", "zeroed")
    assert_goes_on(tmp_path, whole)
    assert caplog.text.count("going back to the one before") == 2


def test_rows_of_all_data_sets_that_take_turns(tmp_path: Path) -> None:
    class InTurn(Numbered):
        def __next__(self) -> dict[str, Inputs]:
            both = list(super().__next__().items())
            return dict([both[(self._number - 1) % 2]])

    def step(state: TrainState, _: Any, inputs: Any) -> tuple[TrainState, dict[str, Any]]:
        (name,) = inputs
        told = {"loss": 0.5, f"loss/{name}": 0.5, "bad_steps": 0}
        return state.replace(step=state.step + 1), told

    state = TrainState.create({"x": jax.numpy.ones(2)}, optax.identity())
    config = LoopConfig(steps=10, log_every=4, save_every=10)
    train(config, step, state, {}, InTurn(), tmp_path, lambda params: {}, turns=2)
    written = read_rows(tmp_path / "metrics.jsonl")
    rows = [(row["step"], *(name for name in row if "/" in name)) for row in written]
    names = {1: "episodes", 4: "pairs", 5: "episodes", 8: "pairs", 9: "episodes", 10: "pairs"}
    assert rows == [(step, f"loss/{name}") for step, name in names.items()]


def assert_goes_on(folder: Path, whole: tuple[Path, TrainState]) -> None:
    state, _, _ = run(folder)
    chex.assert_trees_all_equal(jax.device_get(state), jax.device_get(whole[1]))
    metrics = [path / "metrics.jsonl" for path in (folder, whole[0])]
    assert metrics[0].read_bytes() == metrics[1].read_bytes()
    assert [row["step"] for row in read_rows(folder / "timing.jsonl")] == [*range(1, 8)]


def test_a_finished_run_takes_no_step(whole: tuple[Path, TrainState]) -> None:
    def at(i: int) -> None:
        raise AssertionError(f"inputs {i} were asked for")

    before = (whole[0] / "metrics.jsonl").stat().st_mtime_ns
    state, _, _ = run(whole[0], Numbered(at))
    chex.assert_trees_all_equal(jax.device_get(state), jax.device_get(whole[1]))
    assert (whole[0] / "metrics.jsonl").stat().st_mtime_ns == before


def test_gradients_that_stay_infinite_stop_the_run_and_leave_the_batch(tmp_path: Path) -> None:
    class Broken(Numbered):
        def __next__(self) -> dict[str, Inputs]:
            good = super().__next__()
            if self._number <= 2:
                return good
            endless = np.full_like(good["pairs"].weights_BxA, np.inf)
            return {**good, "pairs": good["pairs"].replace(weights_BxA=endless)}

    config, wanted = CONFIG, inputs_of(2 * 4 + 1, B=2, T=5, N=1)
    message = r"3 steps in a row, up to step 5, were not finite.* in .*bad_batch\.npz: lower"
    with pytest.raises(UserError, match=message):
        run(tmp_path, Broken(), dataclasses.replace(config, max_bad_steps=3))
    with np.load(tmp_path / "bad_batch.npz") as file:
        np.testing.assert_array_equal(file["pairs/tokens_BxT"], wanted.tokens_BxT)
        assert np.isinf(file["pairs/weights_BxA"]).all()
    assert [row["bad_steps"] for row in read_rows(tmp_path / "metrics.jsonl")] == [0, 0, 2]
    assert load_params(tmp_path / "checkpoints")  # of step 3
    state, _, _ = run(tmp_path)
    assert int(state.step) == 7
    assert int(state.skipped) == 1  # step 3 itself; 4 and 5 were done again


def alone(function: Callable[[Path], None], folder: Path) -> None:
    """Calls a function of this file in a process of its own.

    Tests of the planner load the TPU's compiler, with which a profile crashes.
    """
    code = f"""
from pathlib import Path
from tests.training import test_loop
test_loop.{function.__name__}(Path({str(folder)!r}))
"""
    line = [sys.executable, "-c", code]
    done = subprocess.run(line, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def profiled(folder: Path) -> None:
    run(folder, profiled=range(2, 4))


@pytest.mark.slow
def test_a_profile_of_some_steps(tmp_path: Path) -> None:
    alone(profiled, tmp_path)
    (trace,) = (tmp_path / "tensorboard" / "plugins" / "profile").rglob("*.xplane.pb")
    names = {
        event.name
        for plane in jax.profiler.ProfileData.from_file(str(trace)).planes
        for line in plane.lines
        for event in line.events
    }
    assert any("step" in name for name in names)  # the jitted function's


def traces(folder: Path) -> list[Path]:
    return [*(folder / "tensorboard" / "plugins" / "profile").rglob("*.xplane.pb")]


def stopped_within_a_profile(folder: Path) -> None:
    def stop(i: int) -> None:
        if i == 4:  # asked for while step 4 runs
            signal.raise_signal(signal.SIGINT)

    with pytest.raises(Interrupted, match="Stopped at step 4 of 7"):
        run(folder, Numbered(stop), profiled=range(3, 10))
    assert len(traces(folder)) == 1  # of steps 3 and 4
    time.sleep(1.1)  # a trace is named by the second
    run(folder, profiled=range(3, 10))
    assert len(traces(folder)) == 2  # of steps 5 to 7
    with pytest.raises(RuntimeError):  # none is left running
        jax.profiler.stop_trace()


@pytest.mark.slow
def test_a_run_that_stops_within_a_profile_goes_on(tmp_path: Path) -> None:
    alone(stopped_within_a_profile, tmp_path)


def test_a_profile_of_no_step_to_come_is_told(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    run(tmp_path, profiled=range(10, 15))
    assert caplog.messages == ["No profile is written: the steps to come are 1 to 7."]
    assert not traces(tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("encodes", [False, True])
def test_the_encoder_s_work_is_no_wait_for_data(tmp_path: Path, encodes: bool) -> None:
    class Slow(Numbered):
        def __next__(self) -> dict[str, Inputs]:
            began = time.perf_counter()
            time.sleep(1.0)
            if encodes:
                self.encoding = (began, time.perf_counter())
            return super().__next__()

    run(tmp_path, Slow())
    waited = [row["wait_s"] for row in read_rows(tmp_path / "timing.jsonl")][1:-1]
    assert (max(waited) < 0.5) == encodes
