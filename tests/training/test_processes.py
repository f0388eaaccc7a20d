"""Two processes of four devices are one of eight, and a run moves from one to two and back."""

import dataclasses
import functools
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import chex
import jax
import numpy as np
import pytest

from flamingo_jax.checkpoints.store import load_params
from flamingo_jax.parallel import processes
from flamingo_jax.training.inputs import Inputs
from flamingo_jax.training.journal import read_rows
from flamingo_jax.training.loop import LoopConfig, train
from flamingo_jax.training.optimizer import OptimizerConfig, make_optimizer
from flamingo_jax.training.step import make_step
from tests.tiny_run import free_port
from tests.training.test_step import WEIGHTS, layout_of, pixel_setting, state_of, with_images

DEVICES = 8
HEARD = 5.0
"""Seconds in which JAX, which looks for a SIGTERM once a second, has told the other process."""
CONFIG = LoopConfig(steps=6, log_every=1, save_every=2)
pytestmark = pytest.mark.slow


class Rows:
    """A source of which each process makes its rows; it is killed or told to stop at a step."""

    encoding = (0.0, 0.0)

    def __init__(self, layout: Any, stop_at: int, number: int, log: Path) -> None:
        self._layout, self._stop = layout, (stop_at, number)
        self._log, self._taken = log, 0

    def __next__(self) -> dict[str, Inputs]:
        i, self._taken = self._taken, self._taken + 1
        if i == self._stop[0]:
            signal.raise_signal(self._stop[1])
            time.sleep(HEARD)
        rows = self._layout.rows(4)
        with self._log.open("a") as file:
            file.write(json.dumps([i, rows]) + "\n")
        both = {"episodes": with_images(2 * i), "pairs": with_images(2 * i + 1, T=5, N=1)}
        return {name: self._mine(entry, rows) for name, entry in both.items()}

    def _mine(self, entry: Inputs, rows: tuple[int, ...]) -> Inputs:
        arrays = {
            name: self._layout.from_rows(np.asarray(value)[list(rows)], 4)
            for name, value in vars(entry).items()
            if value is not None
        }
        return dataclasses.replace(entry, **arrays)

    def get_state(self) -> Any:
        return {"taken": self._taken}

    def set_state(self, state: Any) -> None:
        self._taken = state["taken"]


def work(folder: Path, port: int, count: int, index: int, stop_at: int, number: int) -> None:
    """What each process does; the one told to stop, or killed, is the last."""
    if count > 1:
        # That one is lost is noticed in seconds, not in the usual hundred.
        soon = functools.partial(jax.distributed.initialize, heartbeat_timeout_seconds=10)
        jax.distributed.initialize = soon
        processes.start(f"127.0.0.1:{port}", count, index)
    model, params, frozen = pixel_setting()
    layout = layout_of(data=2, fsdp=2, tensor=2)
    optimizer = make_optimizer(OptimizerConfig(1e-4, 1e-4, warmup_steps=0), CONFIG.steps)
    log = folder / f"records.{index}.jsonl"
    train(
        CONFIG,
        make_step(model, optimizer, WEIGHTS, layout),
        state_of(params, optimizer, layout),
        layout.place(frozen),
        Rows(layout, stop_at if index == count - 1 else -1, number, log),
        folder,
        lambda params: {},
    )


def start(folder: Path, count: int, stop_at: int = -1, number: int = signal.SIGTERM) -> list[Any]:
    port, running = free_port(), []
    flags = f"--xla_force_host_platform_device_count={DEVICES // count}"
    options = {**os.environ, "XLA_FLAGS": flags}
    for index in range(count):
        call = f"work(Path({str(folder)!r}), {port}, {count}, {index}, {stop_at}, {int(number)})"
        code = f"from pathlib import Path\nfrom tests.training.test_processes import work\n{call}"
        line = [sys.executable, "-c", code]
        told = (folder / f"told.{index}.txt").open("w")  # a pipe would fill while nobody reads it
        running.append((subprocess.Popen(line, env=options, stdout=told, stderr=told), told))
    return running


def finish(running: list[Any]) -> list[str]:
    """Waits; what each process said, and, last, its exit status."""
    said = []
    for process, told in running:
        process.wait(timeout=200)
        told.close()
        said.append(f"{Path(told.name).read_text()}\n{process.returncode}")
    return said


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The run in one process, never disturbed."""
    folder = tmp_path_factory.mktemp("alone")
    (said,) = finish(start(folder, 1))
    assert said.endswith("\n0"), said
    return folder


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The run in two processes, never disturbed."""
    folder = tmp_path_factory.mktemp("pair")
    for said in finish(start(folder, 2)):
        assert said.endswith("\n0"), said
    return folder


def assert_same(folder: Path, alone: Path) -> None:
    rows = zip(read_rows(folder / "metrics.jsonl"), read_rows(alone / "metrics.jsonl"), strict=True)
    for found, expected in rows:
        assert found == pytest.approx(expected, rel=1e-5)
    found, expected = (load_params(path / "checkpoints") for path in (folder, alone))
    chex.assert_trees_all_close(found, expected, rtol=1e-5, atol=1e-5)


def test_two_processes_are_as_one(alone: Path, pair: Path) -> None:
    assert_same(pair, alone)
    made = [
        dict(map(json.loads, (pair / f"records.{i}.jsonl").read_text().splitlines()))
        for i in (0, 1)
    ]
    assert made[0] == {i: [0, 1] for i in range(6)}  # each makes half of every batch
    assert made[1] == {i: [2, 3] for i in range(6)}


def test_one_process_then_two_then_one(alone: Path, tmp_path: Path) -> None:
    """SIGTERM to one of two processes is enough: both save after the same step."""
    (first,) = finish(start(tmp_path, 1, stop_at=2))
    assert "Interrupted: Stopped at step 2 of 6" in first
    second = finish(start(tmp_path, 2, stop_at=4))
    steps = [path.name for path in (tmp_path / "checkpoints").iterdir()]
    assert all("Interrupted: Stopped at step" in said for said in second), second
    assert max(map(int, steps)) in (4, 5), steps
    (said,) = finish(start(tmp_path, 1))
    assert said.endswith("\n0"), said
    assert_same(tmp_path, alone)


def test_when_one_of_two_is_killed_the_other_ends_and_both_go_on_bit_for_bit(
    pair: Path, tmp_path: Path
) -> None:
    left, killed = finish(start(tmp_path, 2, stop_at=5, number=signal.SIGKILL))
    assert killed.endswith(f"\n{-signal.SIGKILL}"), killed
    # It hears of it in a step, and says so, or from JAX's heartbeat while it waits to save.
    assert left.endswith(("\n1", f"\n{-signal.SIGABRT}")), left
    assert "Process 0 of 2 lost another one" in left or "another task died" in left
    for said in finish(start(tmp_path, 2)):
        assert said.endswith("\n0"), said
    names = ("checkpoints", "metrics.jsonl")
    found, expected = (load_params(path / names[0]) for path in (tmp_path, pair))
    chex.assert_trees_all_equal(found, expected)
    assert (tmp_path / names[1]).read_bytes() == (pair / names[1]).read_bytes()
