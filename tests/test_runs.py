"""Loading from a work directory, and what a folder that is none says."""

import subprocess
import sys

import jax.numpy as jnp
import numpy as np
import pytest

import flamingo_jax
from flamingo_jax.checkpoints.store import StepStore, load_params
from flamingo_jax.errors import UserError
from flamingo_jax.training.step import TrainState


def test_params_of_the_newest_readable_checkpoint(tmp_path):
    store = StepStore(tmp_path)
    for step in (1, 2, 3):
        params = {"a": {"b": jnp.full((2, 3), step)}, "c": jnp.float32(step)}
        store.save(step, TrainState(step=jnp.int32(step), params=params, opt_state=params), {})
    store.close()
    np.testing.assert_array_equal(load_params(tmp_path)["a"]["b"], np.full((2, 3), 3))
    for file in (tmp_path / "3" / "state").rglob("*"):
        if file.is_file():
            file.write_bytes(b"")
    params = load_params(tmp_path)
    assert float(params["c"]) == 2
    assert set(params) == {"a", "c"}
    assert (tmp_path / "3").exists()


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
