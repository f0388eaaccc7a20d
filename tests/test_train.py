"""The command itself, at smoke size with the real language model, killed and run again."""

import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import chex
import pytest

from flamingo_jax.checkpoints.store import load_params, load_tree
from flamingo_jax.training.journal import read_rows
from tests.tiny_run import ROOT, as_users


def start(folder: Path) -> subprocess.Popen[str]:
    command = [
        *(sys.executable, "-m", "flamingo_jax.train", f"--workdir={folder}"),
        "--config=configs/openmoji_smoke.py",
        # The evaluation is not what is compared here.
        "--config.evaluation.families=('category',)",
        "--config.evaluation.shots=(0,)",
    ]
    options: Any = {"cwd": ROOT, "env": as_users()}
    return subprocess.Popen(command, stderr=subprocess.PIPE, stdout=-1, text=True, **options)


def finish(process: subprocess.Popen[str]) -> tuple[int, list[str]]:
    """(status, lines on stderr that are not progress bars)."""
    lines = process.communicate()[1].replace("\r", "\n").splitlines()
    return process.returncode, [line for line in lines if line.strip() and "|" not in line]


def kill_at(folder: Path, name: str, rows: int) -> None:
    process = start(folder)
    while len(read_rows(folder / name)) < rows and process.poll() is None:
        time.sleep(0.02)
    process.send_signal(signal.SIGKILL)
    assert finish(process)[0] == -signal.SIGKILL


@pytest.mark.slow
def test_killed_twice_equals_uninterrupted(smoke_run: Path, tmp_path: Path) -> None:
    """In vision pretraining before its first save, and in Flamingo training after one."""
    killed = tmp_path / "killed"
    kill_at(killed, "vision/metrics.jsonl", 1)
    kill_at(killed, "metrics.jsonl", 4)
    assert finish(start(killed)) == (0, [])
    for name in ("metrics.jsonl", "vision/metrics.jsonl"):
        assert (killed / name).read_bytes() == (smoke_run / name).read_bytes(), name
    chex.assert_trees_all_equal(
        load_params(killed / "checkpoints"), load_params(smoke_run / "checkpoints")
    )
    chex.assert_trees_all_equal(load_tree(killed / "frozen"), load_tree(smoke_run / "frozen"))
