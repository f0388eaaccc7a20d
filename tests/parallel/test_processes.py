"""What one of several processes meets, the others hear of."""

import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from flamingo_jax import config as configuration
from tests import tiny_job
from tests.tiny_run import ROOT, free_port

CONFIG = """
from configs import openmoji_smoke

def get_config():
    config = openmoji_smoke.get_config()
    for dataset in config.mixture.datasets:
        dataset["batch_size"] = 2
    config.mesh = dict(data=2)
    return config
"""
"""A batch of each data set that two processes can share."""
AFTER_THE_LOOPS = """
import sys, time
from flamingo_jax.parallel import processes
processes.start(f"127.0.0.1:{sys.argv[1]}", 2, int(sys.argv[2]))
processes.wait_for_all("loops")
processes.end_when_told()
print("ready", flush=True)
if sys.argv[2] == "0":
    processes.wait_for_all("report")
time.sleep(100)
"""
"""The first waits for the second, which works."""


@pytest.mark.slow
def test_a_mistake_that_the_first_process_finds_ends_all(tmp_path: Path) -> None:
    recipe, workdir = tmp_path / "recipe.py", tmp_path / "run"
    recipe.write_text(CONFIG)
    workdir.mkdir()
    configuration.save(tiny_job.CONFIG, workdir / "config.json")
    line = [sys.executable, "-m", "flamingo_jax.train", f"--config={recipe}"]
    line += [f"--workdir={workdir}", f"--coordinator=127.0.0.1:{free_port()}", "--num_processes=2"]
    options = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True, "cwd": ROOT}
    running = [subprocess.Popen([*line, f"--process_index={i}"], **options) for i in (0, 1)]
    first, second = (process.communicate(timeout=150)[0] for process in running)
    assert [process.returncode for process in running] == [1, 1], (first, second)
    assert f"{workdir} holds a run of another config (" in first
    assert "Process 0 stopped in its part of 'claim'" in second
    assert "Traceback" not in first + second


@pytest.mark.slow
def test_sigterm_after_the_loops_ends_all() -> None:
    port = str(free_port())
    options: dict[str, Any] = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    lines = [[sys.executable, "-c", AFTER_THE_LOOPS, port, str(i)] for i in (0, 1)]
    running: list[Any] = [subprocess.Popen(line, text=True, cwd=ROOT, **options) for line in lines]
    for process in running:
        assert any("ready" in line for line in process.stdout)  # after what gloo says of itself
    running[1].send_signal(signal.SIGTERM)
    first, second = (process.communicate(timeout=60)[1] for process in running)
    assert [process.returncode for process in running] == [1, 130], (first, second)
    assert "Process 0 of 2 lost another one" in first
    assert second.endswith("Stopped: the same command goes on from the last finished stage.\n")
    assert "Traceback" not in first + second
