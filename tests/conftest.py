"""What tests share: the main job in small, run once, and the language model's tokenizer."""

import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import jax
import pytest

from flamingo_jax.data.tokenizer import Tokenizer
from tests.tiny_run import CACHE, FAST, ROOT, SCRATCH, as_users, tokenizer_file

# The TPU compiler is installed for the planner: JAX must not look for a TPU.
OPTIONS = {"jax_platforms": "cpu", **FAST}
"""Of JAX, here and in the processes that tests start."""

WRITTEN_LATER = ("results", "gallery", "attention", "report")


def pytest_configure(config: pytest.Config) -> None:
    if not hasattr(config, "workerinput"):  # workers inherit it
        os.environ[SCRATCH] = tempfile.mkdtemp(prefix="flamingo_tests_")
    compiled = str(Path(os.environ[SCRATCH], "compiled"))
    for name, value in {**OPTIONS, CACHE: compiled}.items():
        os.environ[name.upper()] = str(value)
        jax.config.update(name, value)


def pytest_unconfigure(config: pytest.Config) -> None:
    if not hasattr(config, "workerinput"):
        shutil.rmtree(os.environ.pop(SCRATCH), ignore_errors=True)


@pytest.fixture(scope="session")
def tokenizer() -> Tokenizer:
    """That of the language model."""
    return Tokenizer.load(tokenizer_file())


@pytest.fixture(scope="session")
def smoke_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The work directory of a whole run of configs/openmoji_smoke.py, not to be written to.

    With FLAMINGO_SMOKE_RUN set to such a folder that is one, which saves minutes.
    """
    if ready := os.environ.get("FLAMINGO_SMOKE_RUN"):
        return Path(ready).absolute()
    folder = tmp_path_factory.mktemp("smoke") / "run"
    command = [sys.executable, "-m", "flamingo_jax.train"]
    command += ["--config=configs/openmoji_smoke.py", f"--workdir={folder}"]
    options = {"cwd": ROOT, "env": as_users()}
    done = subprocess.run(command, capture_output=True, text=True, check=False, **options)
    assert done.returncode == 0, done.stderr
    return folder


@pytest.fixture
def trained(smoke_run: Path, tmp_path: Path) -> Path:
    """A work directory that shares the smoke run's model and data, with no results in it yet."""
    folder = tmp_path / "trained"
    folder.mkdir()
    for path in smoke_run.iterdir():
        if not path.name.startswith(WRITTEN_LATER):
            (folder / path.name).symlink_to(path)
    return folder
