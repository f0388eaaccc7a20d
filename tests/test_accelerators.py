"""Only where there is nothing but a CPU is JAX told so."""

import importlib.metadata
import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import pytest

from flamingo_jax.accelerators import only_a_cpu
from tests.tiny_run import ROOT


@pytest.fixture
def bare(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """A machine with a network card and without plugins; the folder of its devices."""
    monkeypatch.setattr(importlib.metadata, "entry_points", lambda group: ())
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    monkeypatch.setattr("flamingo_jax.accelerators.Path", lambda path: tmp_path)
    for name in ("TPU_LIBRARY_PATH", "JAX_FORCE_TPU_INIT"):
        monkeypatch.delenv(name, raising=False)
    (tmp_path / "card").mkdir()
    (tmp_path / "card" / "vendor").write_text("0x1af4\n")
    return tmp_path


@pytest.mark.usefixtures("bare")
def test_a_cpu_alone() -> None:
    assert only_a_cpu()


def test_a_tpu_is_seen(bare: Path) -> None:
    (bare / "chip").mkdir()
    (bare / "chip" / "vendor").write_text("0x1ae0\n")
    assert not only_a_cpu()


@pytest.mark.usefixtures("bare")
def test_plugins_may_have_devices(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.metadata, "entry_points", lambda group: ("jax_cuda12",))
    assert not only_a_cpu()


@pytest.mark.usefixtures("bare")
def test_a_tpu_that_is_asked_for_is_looked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("JAX_FORCE_TPU_INIT", "1")
    assert not only_a_cpu()


@pytest.mark.parametrize("said", [None, "cuda"])
def test_entry_points_tell_jax_and_keep_what_the_user_says(said: str | None) -> None:
    environment = {k: v for k, v in os.environ.items() if k != "JAX_PLATFORMS"}
    environment |= {"JAX_PLATFORMS": said} if said else {}
    code = "import os, flamingo_jax.cli; print(os.environ.get('JAX_PLATFORMS', 'any'))"
    told = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True, cwd=ROOT
    )
    assert told.stdout.strip() == (said or ("cpu" if only_a_cpu() else "any"))
