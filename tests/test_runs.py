"""Loading from a work directory, and what a folder that is none says."""

import subprocess
import sys
import textwrap
import types

import chex
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import flamingo_jax
from flamingo_jax import runs
from flamingo_jax.checkpoints.store import StepStore, load_params, save_tree
from flamingo_jax.errors import UserError
from flamingo_jax.training.state import TrainState
from tests.inference.conftest import build, quadrants, word_tokenizer
from tests.tiny_run import ROOT, finished


def test_params_of_the_newest_readable_checkpoint(tmp_path):
    store = StepStore(tmp_path)
    for step in (1, 2, 3):
        params = {"a": {"b": jnp.full((2, 3), step)}, "c": jnp.float32(step)}
        store.save(step, TrainState.create(params, optax.identity()), {})
    store.close()
    np.testing.assert_array_equal(load_params(tmp_path)["a"]["b"], np.full((2, 3), 3))
    for file in (tmp_path / "3" / "state").rglob("*"):
        if file.is_file():
            file.write_bytes(b"")
    params = load_params(tmp_path)
    assert float(params["c"]) == 2
    assert set(params) == {"a", "c"}
    assert (tmp_path / "3").exists()


def test_a_loaded_model_equals_the_saved_one(tmp_path, monkeypatch):
    saved = build(0.5)
    (tmp_path / "config.json").write_text("{}")
    word_tokenizer().save(str(tmp_path / "tokenizer.json"))
    save_tree(tmp_path / "frozen", saved.variables["frozen"])
    store = StepStore(tmp_path / "checkpoints")
    params = saved.variables["params"]
    store.save(1, TrainState.create(params, optax.identity()), {})
    store.close()
    config = types.SimpleNamespace(model=saved.config)
    monkeypatch.setattr(runs.configuration, "load", lambda path: config)
    model = runs.load(tmp_path, features=quadrants)
    chex.assert_trees_all_equal(model.weights, saved.weights)
    assert model.tokenizer.encode("a<image>") == [3, 1]


@pytest.mark.slow
def test_python_users_are_told_nothing_that_is_not_theirs():
    """No library's warning comes with a model or its drawings."""
    lines = f"""
        from pathlib import Path
        import flamingo_jax
        from flamingo_jax.data.drawings import load_drawings
        run = Path({str(finished())!r})
        print(flamingo_jax.load(run), len(load_drawings(run / "data")))
    """
    command = [sys.executable, "-c", textwrap.dedent(lines)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=ROOT)
    assert (done.returncode, done.stderr) == (0, "")


def test_no_checkpoint(tmp_path):
    with pytest.raises(UserError, match="No readable checkpoint"):
        load_params(tmp_path)


@pytest.mark.parametrize("name", ["missing", ""])
def test_a_foreign_folder(tmp_path, name):
    with pytest.raises(UserError, match="work directory of a training run"):
        flamingo_jax.load(tmp_path / name)


def test_importing_the_package_is_light():
    code = "import sys, flamingo_jax; print('jax' in sys.modules)"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "False"


def test_the_command_line_tells_a_mistake_in_one_line(tmp_path):
    command = [sys.executable, "-m", "flamingo_jax.generate", f"--model={tmp_path}", "--prompt=a"]
    found = subprocess.run(command, capture_output=True, text=True, check=False)
    assert found.returncode == 1
    assert len(found.stderr.strip().splitlines()) == 1
    assert "has no config.json" in found.stderr


def test_all_public_names_exist():
    assert all(getattr(flamingo_jax, name) for name in flamingo_jax.__all__)
    with pytest.raises(AttributeError):
        _ = flamingo_jax.nothing
