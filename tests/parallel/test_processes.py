"""What one of several processes meets, the others hear of."""

import subprocess
import sys
from pathlib import Path

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
