"""The training step on a tiny model: accumulation, what changes, what is computed, two devices."""

import dataclasses
import functools
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from flamingo_jax.models.axes import parameter_axes
from flamingo_jax.models.flamingo import FlamingoModel
from flamingo_jax.models.nfnet import VisionConfig
from flamingo_jax.parallel.layout import Layout, make_layout
from flamingo_jax.parallel.mesh import RULES, MeshConfig
from flamingo_jax.training.inputs import Inputs
from flamingo_jax.training.optimizer import OptimizerConfig, labels, make_optimizer
from flamingo_jax.training.state import TrainState, init_variables
from flamingo_jax.training.step import dataset_loss, make_step, update
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


def layout_of(**mesh: Any) -> Layout:
    return make_layout(MeshConfig(**mesh), parameter_axes)


def state_of(params: Any, optimizer: Any, layout: Layout) -> TrainState:
    return layout.place(TrainState.create(params, optimizer))


def run(
    steps: int = 3, mesh: dict[str, Any] | None = None, **rates: float
) -> tuple[TrainState, list[dict[str, Any]]]:
    model, params, frozen = setting()
    optimizer = make_optimizer(OptimizerConfig(**{"warmup_steps": 0, **rates}), steps)
    layout = layout_of(**(mesh or {}))
    step = make_step(model, optimizer, WEIGHTS, layout)
    state, rows = state_of(params, optimizer, layout), []
    frozen = layout.place(frozen)
    for i in range(steps):
        inputs = {"episodes": inputs_of(2 * i), "pairs": inputs_of(2 * i + 1, B=2, T=5, N=1)}
        state, metrics = step(state, frozen, inputs)
        rows.append({name: float(value) for name, value in metrics.items()})
    return state, rows


@pytest.mark.slow
def test_gradients_are_the_weighted_sum_of_the_data_sets() -> None:
    model, params, frozen = setting()
    inputs = {"episodes": inputs_of(0), "pairs": inputs_of(1, B=2, T=5, N=1)}

    def weighted(params: Any) -> jax.Array:
        parts = [w * dataset_loss(model, params, frozen, inputs[n]) for n, w in WEIGHTS.items()]
        return jnp.sum(jnp.stack(parts))

    expected_loss, expected = jax.jit(jax.value_and_grad(weighted))(params)
    # Plain gradient descent of rate 1 shows the accumulated gradient as the change.
    layout = layout_of()
    step = make_step(model, optax.sgd(1.0), WEIGHTS, layout)
    state, metrics = step(state_of(params, optax.sgd(1.0), layout), frozen, inputs)
    got = jax.tree.map(lambda before, after: before - after, params, state.params)
    chex.assert_trees_all_close(got, expected, atol=1e-5)
    np.testing.assert_allclose(metrics["loss"], expected_loss, rtol=1e-5)
    np.testing.assert_allclose(metrics["grad_norm"], optax.global_norm(expected), rtol=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("unroll", [False, True])
def test_remat_changes_memory_and_no_number(unroll: bool) -> None:
    config, inputs = tiny_config(0.5, layers=4), inputs_of(0, B=8, T=48)
    # Feed-forwards are what remat saves; attention keeps none of its weights anyway.
    config = dataclasses.replace(
        config,
        decoder=dataclasses.replace(config.decoder, mlp_dim=256),
        xattn=dataclasses.replace(config.xattn, mlp_multiplier=32),
    )
    arguments = (inputs.tokens_BxT, inputs.features_BxNxFxPxC, inputs.media_index_BxT)
    variables = jax.jit(FlamingoModel(config).init)(jax.random.key(0), *arguments)
    memory, found = {}, {}
    for remat in ("none", "dots", "full"):
        model = FlamingoModel(dataclasses.replace(config, remat=remat, unroll=unroll))
        graded = jax.jit(jax.value_and_grad(functools.partial(dataset_loss, model)))
        lowered = graded.lower(variables["params"], variables["frozen"], inputs)
        program = lowered.compile()
        memory[remat] = program.memory_analysis().temp_size_in_bytes
        found[remat] = program(variables["params"], variables["frozen"], inputs)
    assert memory["none"] > memory["dots"] > memory["full"]
    for remat in ("dots", "full"):
        chex.assert_trees_all_close(found[remat], found["none"], rtol=1e-5, atol=1e-6)


def test_an_update_copies_no_moments() -> None:
    _, params, _ = setting()
    optimizer = make_optimizer(OptimizerConfig(), 10)
    state = state_of(params, optimizer, layout_of())
    updated = jax.jit(lambda state, grads: update(state, optimizer, grads, 1.0), donate_argnums=0)
    program = updated.lower(state, params).compile()
    assert program.memory_analysis().temp_size_in_bytes < sum(
        leaf.nbytes for leaf in jax.tree.leaves(params)
    )


@pytest.mark.slow
def test_a_step_on_a_cpu_keeps_what_remat_saves() -> None:
    """In XLA's usual order of operations it would lose the most of it."""
    _, params, frozen = setting()
    layout, optimizer = layout_of(), make_optimizer(OptimizerConfig(), 10)
    state = state_of(params, optimizer, layout)
    inputs = {"episodes": inputs_of(0, B=8, T=48)}
    config = dataclasses.replace(tiny_config(0.5, layers=3), remat="full")
    step = make_step(FlamingoModel(config), optimizer, WEIGHTS, layout)
    program = step.compile(state, frozen, inputs)
    usual = step.jitted.lower(state, frozen, inputs).compile(
        {"xla_cpu_scheduler_type": "CPU_SCHEDULER_TYPE_DEFAULT"}
    )
    needed, lost = (p.memory_analysis().temp_size_in_bytes for p in (program, usual))
    assert needed < 0.9 * lost, (needed, lost)


def test_a_step_finds_room_for_what_it_allocates(monkeypatch: pytest.MonkeyPatch) -> None:
    model, params, frozen = setting()
    layout, asked = layout_of(), []
    step = make_step(model, optax.sgd(1.0), {"episodes": 1.0}, layout)
    state, inputs = state_of(params, optax.sgd(1.0), layout), {"episodes": inputs_of(0)}
    program = step.compile(state, frozen, inputs)
    monkeypatch.setattr("flamingo_jax.training.step.make_room", asked.append)
    for _ in range(2):
        state, _ = step(state, frozen, inputs)
    assert asked == 2 * [program.memory_analysis().temp_size_in_bytes]


def test_another_shape_is_refused_rather_than_compiled() -> None:
    model, params, frozen = setting()
    layout = layout_of()
    step = make_step(model, optax.sgd(1.0), {"episodes": 1.0}, layout)
    state, _ = step(state_of(params, optax.sgd(1.0), layout), frozen, {"episodes": inputs_of(0)})
    with pytest.raises(TypeError, match="compiled"):
        step(state, frozen, {"episodes": inputs_of(0, T=13)})


@pytest.mark.slow
def test_data_sets_in_turn_take_one_program_each() -> None:
    """Round robin: a step with the inputs of one data set has that data set's loss alone."""
    model, params, frozen = setting()
    layout, optimizer = layout_of(), optax.sgd(1.0)
    step = make_step(model, optimizer, WEIGHTS, layout)
    inputs = {"episodes": inputs_of(0), "pairs": inputs_of(1, B=2, T=5, N=1)}
    after = []
    for name in ("pairs", "episodes", "pairs"):
        before = state_of(params, optimizer, layout)
        state, metrics = step(before, frozen, {name: inputs[name]})
        assert set(metrics) == {"loss", f"loss/{name}", "grad_norm", "skipped", "bad_steps"}
        assert metrics["loss"] == WEIGHTS[name] * metrics[f"loss/{name}"]
        after.append(jax.tree.map(np.array, state.params))
    chex.assert_trees_all_equal(after[0], after[2])
    loss = functools.partial(dataset_loss, model)
    expected_loss, grads = jax.jit(jax.value_and_grad(loss))(params, frozen, inputs["pairs"])
    np.testing.assert_allclose(metrics["loss/pairs"], expected_loss, rtol=1e-5)
    got = jax.tree.map(lambda before, after: before - after, params, after[0])
    expected = jax.tree.map(lambda gradient: WEIGHTS["pairs"] * gradient, grads)
    chex.assert_trees_all_close(got, expected, atol=1e-5)


@pytest.mark.slow
def test_only_groups_with_a_rate_change() -> None:
    _, params, _ = setting()
    state, _ = run(learning_rate=0.0, gate_learning_rate=0.1)
    groups = labels(params)
    same = jax.tree.map(lambda a, b: bool(np.array_equal(a, b)), params, state.params)
    assert jax.tree.map(lambda group: group != "gates", groups) == same


@pytest.mark.slow
def test_the_state_holds_no_frozen_weight() -> None:
    state, _ = run(1)
    shapes = {leaf.shape for leaf in jax.tree.leaves(state)}
    assert (50, 16) not in shapes  # the embedding, and nothing shaped like it


def test_loss_falls_on_one_batch() -> None:
    model, params, frozen = setting()
    optimizer = make_optimizer(OptimizerConfig(3e-3, 3e-3, warmup_steps=0), 30)
    layout = layout_of()
    step = make_step(model, optimizer, {"episodes": 1.0}, layout)
    state, losses = state_of(params, optimizer, layout), []
    frozen = layout.place(frozen)
    for _ in range(30):
        state, metrics = step(state, frozen, {"episodes": inputs_of(0)})
        losses.append(float(metrics["loss"]))
    assert losses[-1] < losses[0] - 0.5


@pytest.mark.slow
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


def test_a_gradient_that_is_not_finite_changes_nothing_and_is_counted() -> None:
    model, params, frozen = setting()
    optimizer, layout = make_optimizer(OptimizerConfig(warmup_steps=0), 10), layout_of()
    step = make_step(model, optimizer, {"episodes": 1.0}, layout)
    good = inputs_of(0)
    bad = good.replace(weights_BxA=np.full_like(good.weights_BxA, np.inf))
    state, counts = state_of(params, optimizer, layout), []
    for inputs in (good, bad, bad, good, bad):
        before = jax.tree.map(np.array, (state.params, state.opt_state))
        state, metrics = step(state, frozen, {"episodes": inputs})
        counts.append((int(metrics["skipped"]), int(metrics["bad_steps"])))
        after = jax.tree.map(np.array, (state.params, state.opt_state))
        if inputs is bad:
            chex.assert_trees_all_equal(after, before)
        else:
            assert not np.array_equal(
                after[0]["resampler"]["latents"], before[0]["resampler"]["latents"]
            )
    assert counts == [(0, 0), (1, 1), (2, 2), (2, 0), (3, 1)]
    assert int(state.step) == 5


def with_images(seed: int, **sizes: int) -> Inputs:
    """Inputs of pixels, as uint8, in place of features."""
    one = inputs_of(seed, **sizes)
    B, N = np.shape(one.features_BxNxFxPxC)[:2]
    images = np.random.default_rng(seed).integers(0, 256, (B, N, 1, 16, 16, 3), np.uint8)
    return one.replace(features_BxNxFxPxC=None, images_BxNxFxHxWx3=images)


@functools.cache
def pixel_setting() -> tuple[FlamingoModel, Any, Any]:
    """`setting` with a vision encoder."""
    vision = VisionConfig(16, (8,), (4,), (16,), (1,), (1,), features=8)
    model = FlamingoModel(dataclasses.replace(tiny_config(0.5, layers=3), vision=vision))
    variables = jax.tree.map(np.array, jax.jit(lambda: init_variables(model, 0))())
    return model, variables["params"], variables["frozen"]


@pytest.mark.slow
def test_images_are_encoded_in_the_step_as_before_it() -> None:
    model, params, frozen = pixel_setting()
    pixels = {"episodes": with_images(0), "pairs": with_images(1, B=2, T=5, N=1)}
    features = {}
    for name, entry in pixels.items():
        images = entry.images_BxNxFxHxWx3
        flat = images.reshape(-1, *images.shape[-3:])
        made = model.apply({"frozen": frozen}, flat, method="encode")
        features[name] = entry.replace(
            images_BxNxFxHxWx3=None,
            features_BxNxFxPxC=np.reshape(made, (*images.shape[:3], *made.shape[1:])),
        )
    found = []
    for inputs in (pixels, features):
        layout, optimizer = layout_of(), optax.sgd(1.0)
        step = make_step(model, optimizer, WEIGHTS, layout)
        state, metrics = step(state_of(params, optimizer, layout), frozen, inputs)
        found.append((jax.device_get(state.params), float(metrics["loss"])))
    chex.assert_trees_all_close(*found, rtol=1e-5, atol=1e-6)


MESHES: list[dict[str, Any]] = [
    dict(data=2, fsdp=2, tensor=2),
    dict(data=2),
    dict(fsdp=2),
    dict(tensor=2),
    dict(slice=2, data=2, tensor=2, rules={**RULES, "heads": (), "kv_heads": ()}),
    dict(
        data=2, fsdp=2, tensor=2, rules={**RULES, "embed": ("data", "fsdp"), "length": ("tensor",)}
    ),
]


def ten_steps(mesh: dict[str, Any]) -> dict[str, Any]:
    """Losses of ten steps from pixels, and what the parameters are then, by name."""
    model, params, frozen = pixel_setting()
    # The paper's rate: Adam makes as much of a gradient that is rounding alone as of any other.
    optimizer = make_optimizer(OptimizerConfig(1e-4, 1e-4, warmup_steps=0), 10)
    layout = layout_of(**mesh)
    step = make_step(model, optimizer, WEIGHTS, layout)
    state, losses = state_of(params, optimizer, layout), []
    for i in range(10):
        inputs = {"episodes": with_images(2 * i), "pairs": with_images(2 * i + 1, T=5, N=1)}
        state, metrics = step(state, layout.place(frozen), inputs)
        losses.append(float(metrics["loss"]))
    flat = jax.tree_util.tree_leaves_with_path(jax.device_get(state.params))
    return {"losses": losses, **{jax.tree_util.keystr(path): leaf for path, leaf in flat}}


@pytest.mark.slow
def test_every_mesh_gives_the_losses_and_parameters_of_one_device(tmp_path: Path) -> None:
    script = (
        "import numpy as np\nfrom tests.training.test_step import MESHES, ten_steps\n"
        f"for i, mesh in enumerate(MESHES): np.savez(r'{tmp_path}/%d' % i, **ten_steps(mesh))"
    )
    flags = "--xla_force_host_platform_device_count=8"
    done = subprocess.run(
        [sys.executable, "-c", script],
        env={**os.environ, "XLA_FLAGS": flags},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    expected = ten_steps({})
    for i, mesh in enumerate(MESHES):
        found = dict(np.load(tmp_path / f"{i}.npz"))
        assert found.keys() == expected.keys()
        for name, value in expected.items():
            np.testing.assert_allclose(found[name], value, rtol=1e-5, atol=1e-5, err_msg=str(mesh))
