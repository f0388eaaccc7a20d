"""A finished run of `tests.tiny_job`, made once for all tests that need a work directory."""

import functools
import os
import socket
import subprocess
import sys
from pathlib import Path

import filelock

ROOT = Path(__file__).parent.parent
SCRATCH = "FLAMINGO_TEST_SCRATCH"
"""Name of the variable that tells a folder, the same for all processes of one run of the tests."""


def environment() -> dict[str, str]:
    """For processes that the tests start: programs are compiled once for all of them, and fast."""
    return {
        **os.environ,
        "JAX_COMPILATION_CACHE_DIR": str(Path(os.environ[SCRATCH], "compiled")),
        "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
        "JAX_DISABLE_MOST_OPTIMIZATIONS": "1",
    }


def python(
    module: str, *arguments: object, folder: Path = ROOT
) -> subprocess.CompletedProcess[str]:
    """Runs a module as a program in the repository, or another folder."""
    command = [sys.executable, "-m", module, *map(str, arguments)]
    return subprocess.run(
        command, capture_output=True, text=True, check=False, cwd=folder, env=environment()
    )


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
def finished() -> Path:
    """The work directory of an undisturbed run, not to be changed."""
    folder = Path(os.environ[SCRATCH], "whole")
    with filelock.FileLock(f"{folder}.lock"):  # another worker may be making it
        if not (folder / "report.html").exists():
            done = python("tests.tiny_job", folder)
            assert done.returncode == 0, done.stderr
            assert said(done.stderr) == []
            assert f"Report: {folder / 'report.html'}" in done.stdout
    return folder
