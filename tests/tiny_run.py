"""A finished run of `tests.tiny_job`, made once for all tests that need a work directory."""

import atexit
import functools
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).parent.parent


@functools.cache
def _scratch() -> Path:
    folder = tempfile.mkdtemp(prefix="tiny_run_")
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return Path(folder)


def environment() -> dict[str, str]:
    """For processes that the tests start: programs are compiled once for all of them."""
    return {
        **os.environ,
        "JAX_COMPILATION_CACHE_DIR": str(_scratch() / "compiled"),
        "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
    }


def python(
    module: str, *arguments: object, folder: Path = ROOT
) -> subprocess.CompletedProcess[str]:
    """Runs a module as a program in the repository, or another folder."""
    command = [sys.executable, "-m", module, *map(str, arguments)]
    return subprocess.run(
        command, capture_output=True, text=True, check=False, cwd=folder, env=environment()
    )


def said(errors: str) -> list[str]:
    """Lines on stderr that are not progress bars."""
    lines = errors.replace("\r", "\n").splitlines()
    return [line for line in lines if line.strip() and "|" not in line]


@functools.cache
def finished() -> Path:
    """The work directory of an undisturbed run, not to be changed."""
    folder = _scratch() / "whole"
    done = python("tests.tiny_job", folder)
    assert done.returncode == 0, done.stderr
    assert said(done.stderr) == []
    assert f"Report: {folder / 'report.html'}" in done.stdout
    return folder
