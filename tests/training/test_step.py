"""The training step on a tiny model: accumulation, what changes, what is computed, two devices."""

import functools
import json
import os
import subprocess
import sys
from typing import Any

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax.sharding import Mesh

from flamingo_jax.models.flamingo import FlamingoModel
from flamingo_jax.parallel.mesh import MeshConfig, make_mesh, replicated
from flamingo_jax.training.loss import Inputs
from flamingo_jax.training.optimizer import OptimizerConfig, labels, make_optimizer
from flamingo_jax.training.step import TrainState, dataset_loss, make_step
from tests.models.test_flamingo import tiny_config

WEIGHTS = {"episodes": 1.0, "pairs": 0.25}


def inputs_of(seed: int, B: int = 4, T: int = 12, N: int = 2, A: int = 3) -> Inputs:
    rng = np.random.default_rng(seed)
    return Inputs(
        tokens_BxT=rng.integers(0, 50, (B, T)).astype(np.int32),
        media_index_BxT=np.sort(rng.integers(0, N + 1, (B, T)), axis=1).astype(np.int32),
        features_BxNxFxPxC=rng.normal(size=(B, N, 1, 4, 5)).astype(np.float32),
        at_BxA=rng.integers(0, T, (B, A)).astype(np.int32),
        targets_BxA=rng.integers(0, 50, (B, A)).astype(np.int32),
        weights_BxA=rng.random((B, A)).astype(np.float32),
    )


@functools.cache
def setting() -> tuple[FlamingoModel, Any, Any]:
    """(model, params, frozen); host arrays, since the step donates its state."""
    model, one = FlamingoModel(tiny_config(0.5, layers=3)), inputs_of(0)
    arguments = (one.tokens_BxT, one.features_BxNxFxPxC, one.media_index_BxT)
    variables = jax.jit(model.init)(jax.random.key(0), *arguments)
    embedding = jax.random.normal(jax.random.key(1), (50, 16))
    variables["frozen"]["language"]["vocabulary"]["embedding"] = embedding
    host = jax.tree.map(np.array, variables)
    return model, host["params"], host["frozen"]


def state_of(params: Any, optimizer: Any, mesh: Mesh) -> TrainState:
    opt_state = jax.jit(optimizer.init)(params)
    state = TrainState(step=np.zeros((), np.int32), params=params, opt_state=opt_state)
    return jax.device_put(state, replicated(mesh))


def run(
    steps: int = 3, devices: int = 1, **rates: float
) -> tuple[TrainState, list[dict[str, Any]]]:
    model, params, frozen = setting()
    optimizer = make_optimizer(OptimizerConfig(**{"warmup_steps": 0, **rates}), steps)
    mesh = make_mesh(MeshConfig(devices))
    step = make_step(model, optimizer, WEIGHTS, mesh)
    state, rows = state_of(params, optimizer, mesh), []
    frozen = jax.device_put(frozen, replicated(mesh))
    for i in range(steps):
        inputs = {"episodes": inputs_of(2 * i), "pairs": inputs_of(2 * i + 1, B=2, T=5, N=1)}
        state, metrics = step(state, frozen, inputs)
        rows.append({name: float(value) for name, value in metrics.items()})
    return state, rows


def test_gradients_are_the_weighted_sum_of_the_data_sets() -> None:
    model, params, frozen = setting()
    inputs = {"episodes": inputs_of(0), "pairs": inputs_of(1, B=2, T=5, N=1)}

    def weighted(params: Any) -> jax.Array:
        parts = [w * dataset_loss(model, params, frozen, inputs[n]) for n, w in WEIGHTS.items()]
        return jnp.sum(jnp.stack(parts))

    expected_loss, expected = jax.jit(jax.value_and_grad(weighted))(params)
    # Plain gradient descent of rate 1 shows the accumulated gradient as the change.
    mesh = make_mesh(MeshConfig())
    step = make_step(model, optax.sgd(1.0), WEIGHTS, mesh)
    state, metrics = step(state_of(params, optax.sgd(1.0), mesh), frozen, inputs)
    got = jax.tree.map(lambda before, after: before - after, params, state.params)
    chex.assert_trees_all_close(got, expected, atol=1e-5)
    np.testing.assert_allclose(metrics["loss"], expected_loss, rtol=1e-5)
    np.testing.assert_allclose(metrics["grad_norm"], optax.global_norm(expected), rtol=1e-5)


def test_another_shape_is_refused_rather_than_compiled() -> None:
    model, params, frozen = setting()
    mesh = make_mesh(MeshConfig())
    step = make_step(model, optax.sgd(1.0), {"episodes": 1.0}, mesh)
    state, _ = step(state_of(params, optax.sgd(1.0), mesh), frozen, {"episodes": inputs_of(0)})
    with pytest.raises(AssertionError, match="traced"):
        step(state, frozen, {"episodes": inputs_of(0, T=13)})


def test_data_sets_in_turn_take_one_program_each() -> None:
    """Round robin: a step with the inputs of one data set has that data set's loss alone."""
    model, params, frozen = setting()
    mesh, optimizer = make_mesh(MeshConfig()), optax.sgd(1.0)
    step = make_step(model, optimizer, WEIGHTS, mesh)
    inputs = {"episodes": inputs_of(0), "pairs": inputs_of(1, B=2, T=5, N=1)}
    after = []
    for name in ("pairs", "episodes", "pairs"):
        before = state_of(params, optimizer, mesh)
        state, metrics = step(before, frozen, {name: inputs[name]})
        assert set(metrics) == {"loss", f"loss/{name}", "grad_norm"}
        assert metrics["loss"] == WEIGHTS[name] * metrics[f"loss/{name}"]
        after.append(jax.tree.map(np.array, state.params))
    chex.assert_trees_all_equal(after[0], after[2])
    loss = functools.partial(dataset_loss, model)
    expected_loss, grads = jax.jit(jax.value_and_grad(loss))(params, frozen, inputs["pairs"])
    np.testing.assert_allclose(metrics["loss/pairs"], expected_loss, rtol=1e-5)
    got = jax.tree.map(lambda before, after: before - after, params, after[0])
    expected = jax.tree.map(lambda gradient: WEIGHTS["pairs"] * gradient, grads)
    chex.assert_trees_all_close(got, expected, atol=1e-5)


def test_only_groups_with_a_rate_change() -> None:
    _, params, _ = setting()
    state, _ = run(learning_rate=0.0, gate_learning_rate=0.1)
    groups = labels(params)
    same = jax.tree.map(lambda a, b: bool(np.array_equal(a, b)), params, state.params)
    assert jax.tree.map(lambda group: group != "gates", groups) == same


def test_the_state_holds_no_frozen_weight() -> None:
    state, _ = run(1)
    shapes = {leaf.shape for leaf in jax.tree.leaves(state)}
    assert (50, 16) not in shapes  # the embedding, and nothing shaped like it


def test_loss_falls_on_one_batch() -> None:
    model, params, frozen = setting()
    optimizer = make_optimizer(OptimizerConfig(3e-3, 3e-3, warmup_steps=0), 30)
    mesh = make_mesh(MeshConfig())
    step = make_step(model, optimizer, {"episodes": 1.0}, mesh)
    state, losses = state_of(params, optimizer, mesh), []
    frozen = jax.device_put(frozen, replicated(mesh))
    for _ in range(30):
        state, metrics = step(state, frozen, {"episodes": inputs_of(0)})
        losses.append(float(metrics["loss"]))
    assert losses[-1] < losses[0] - 0.5


def test_frozen_weights_cost_no_gradient() -> None:
    """FLOPs: the trained step costs less than one that also differentiates the frozen weights."""
    model, params, frozen = setting()
    inputs = inputs_of(0, B=8, T=64)

    def flops(function: Any, *arguments: Any) -> float:
        return jax.jit(function).lower(*arguments).compile().cost_analysis()["flops"]

    def loss(params: Any, frozen: Any) -> jax.Array:
        return dataset_loss(model, params, frozen, inputs)

    forward = flops(loss, params, frozen)
    ours = flops(jax.grad(loss), params, frozen)
    both = flops(jax.grad(loss, argnums=(0, 1)), params, frozen)
    # Differentiating the frozen weights too would cost another pass over the language model.
    assert ours < both - 0.15 * forward


@pytest.mark.slow
def test_two_devices_give_the_losses_of_one() -> None:
    script = (
        "import jax, json\nfrom tests.training.test_step import run\n"
        "assert len(jax.devices()) == 2\nprint(json.dumps(run(devices=2)[1]))"
    )
    flags = "--xla_force_host_platform_device_count=2"
    done = subprocess.run(
        [sys.executable, "-c", script],
        env={**os.environ, "XLA_FLAGS": flags, "JAX_PLATFORMS": "cpu"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    two, one = json.loads(done.stdout.splitlines()[-1]), run()[1]
    for row, expected in zip(two, one, strict=True):
        assert row == pytest.approx(expected, rel=1e-4)
