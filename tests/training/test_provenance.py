"""Where figures come from: versions of what is installed, and seconds that add up over runs."""

import importlib.metadata
import json
import re
import subprocess
from pathlib import Path

import jax
import pytest

from flamingo_jax.training import provenance
from flamingo_jax.training.provenance import timed, write_versions


def test_versions_are_those_installed(tmp_path: Path) -> None:
    write_versions(tmp_path / "versions.json")
    found = json.loads((tmp_path / "versions.json").read_text())
    for package in ("jax", "flax", "grain"):
        assert found[package] == importlib.metadata.version(package)
    assert found["device"] == f"{len(jax.devices())} x {jax.devices()[0].device_kind}"
    assert re.fullmatch(r"[0-9a-f]{40}(-dirty)?|unknown", found["git"])


def test_outside_a_checkout_the_revision_is_unknown(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object, **__: object) -> None:
        raise subprocess.CalledProcessError(128, "git")

    monkeypatch.setattr(provenance.subprocess, "run", fail)
    assert provenance._revision() == "unknown"


def test_seconds_add_up_over_runs_and_failures(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, clock = tmp_path / "stages.json", iter([10.0, 12.5, 100.0, 101.0, 200.0, 203.0])
    monkeypatch.setattr(provenance.time, "perf_counter", lambda: next(clock))

    def fail() -> None:
        with timed(path, "vision"):
            raise KeyboardInterrupt

    with timed(path, "vision"):
        pass
    with pytest.raises(KeyboardInterrupt):
        fail()
    with timed(path, "flamingo"):
        pass
    assert json.loads(path.read_text()) == {"vision": 3.5, "flamingo": 3.0}


def test_a_full_disk_does_not_hide_what_the_stage_says(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(provenance, "write_json", full)

    def fail() -> None:
        with timed(tmp_path / "stages.json", "vision"):
            raise ValueError("the stage's own")

    with pytest.raises(ValueError, match="the stage's own"):
        fail()
