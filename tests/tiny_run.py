"""A finished run of `tests.tiny_job`, made once for all tests that need a work directory."""

import functools
import os
import socket
import subprocess
import sys
from pathlib import Path

import filelock

from flamingo_jax.checkpoints import smollm2

ROOT = Path(__file__).parent.parent
SCRATCH = "FLAMINGO_TEST_SCRATCH"
"""Name of the variable that tells a folder, the same for all processes of one run of the tests."""
FAST = {"jax_disable_most_optimizations": True, "jax_persistent_cache_min_compile_time_secs": 0}
"""Options of JAX. Compiling takes most of the tests' time, and their programs run once: half of it
is saved, and what one process compiled the others take from it."""
CACHE = "jax_compilation_cache_dir"
"""Option of JAX that names the folder where they take it from."""


def as_users() -> dict[str, str]:
    """The environment without `FAST` and `CACHE`: for jobs whose steps take longer than compiling.

    They share a user's own cache of programs.
    """
    ours = {name.upper() for name in (*FAST, CACHE)}
    return {name: value for name, value in os.environ.items() if name not in ours}


def python(
    module: str, *arguments: object, folder: Path = ROOT
) -> subprocess.CompletedProcess[str]:
    """Runs a module as a program in the repository, or another folder."""
    command = [sys.executable, "-m", module, *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=False, cwd=folder)


def free_port() -> int:
    """Of this machine, for processes that look for each other."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


def said(errors: str) -> list[str]:
    """Lines on stderr that are not progress bars."""
    lines = errors.replace("\r", "\n").splitlines()
    return [line for line in lines if line.strip() and "|" not in line]


@functools.cache
def tokenizer_file() -> Path:
    """The language model's tokenizer, read out of its package once."""
    path = Path(os.environ[SCRATCH], "tokenizer.json")
    with filelock.FileLock(f"{path}.lock"):  # another worker may be making it
        if not path.exists():
            smollm2.write_tokenizer(smollm2.find_gguf(), path.with_suffix(".part"))
            path.with_suffix(".part").rename(path)
    return path


@functools.cache
def finished() -> Path:
    """The work directory of an undisturbed run, not to be changed; beside it, how many changes."""
    folder = Path(os.environ[SCRATCH], "whole")
    with filelock.FileLock(f"{folder}.lock"):  # another worker may be making it
        if not (folder / "report.html").exists():
            done = python("tests.tiny_job", folder, 0)
            assert done.returncode == 0, done.stderr
            assert said(done.stderr) == []
            assert f"Report: {folder / 'report.html'}" in done.stdout
            folder.with_name("changes").write_text(done.stdout.rsplit("Changes: ", 1)[1])
    return folder
