"""Meshes over host devices: too few are refused, batches are split, all else is replicated."""

import os
import subprocess
import sys

import jax
import numpy as np
import pytest

from flamingo_jax.errors import UserError
from flamingo_jax.parallel.mesh import MeshConfig, make_mesh, replicated, split_batch

TWO = """
import jax, numpy as np
from flamingo_jax.parallel.mesh import MeshConfig, make_mesh, replicated, split_batch
mesh = make_mesh(MeshConfig(2))
x = np.arange(12.0).reshape(4, 3)
rows = jax.device_put(x, split_batch(mesh))
print([shard.data.tolist() for shard in rows.addressable_shards])
print([shard.data.shape for shard in jax.device_put(x, replicated(mesh)).addressable_shards])
print(len(make_mesh(MeshConfig(1)).devices))
"""


def test_more_devices_than_there_are() -> None:
    count = len(jax.devices()) + 1
    with pytest.raises(UserError, match=rf"mesh\.data is {count} but JAX sees .* lower mesh\.data"):
        make_mesh(MeshConfig(count))


def test_one_device_holds_everything() -> None:
    mesh = make_mesh(MeshConfig())
    assert dict(mesh.shape) == {"data": 1}
    x = np.arange(6.0).reshape(2, 3)
    for sharding in (replicated(mesh), split_batch(mesh)):
        np.testing.assert_array_equal(jax.device_put(x, sharding).addressable_shards[0].data, x)


def test_two_devices_share_the_rows_of_a_batch() -> None:
    flags = {"XLA_FLAGS": "--xla_force_host_platform_device_count=2", "JAX_PLATFORMS": "cpu"}
    line = [sys.executable, "-c", TWO]
    done = subprocess.run(line, env={**os.environ, **flags}, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    rows, shapes, alone = done.stdout.splitlines()
    assert rows == "[[[0.0, 1.0, 2.0], [3.0, 4.0, 5.0]], [[6.0, 7.0, 8.0], [9.0, 10.0, 11.0]]]"
    assert shapes == "[(4, 3), (4, 3)]"
    assert alone == "1"
