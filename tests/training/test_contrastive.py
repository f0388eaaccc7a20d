import dataclasses
import json
import os
import signal
import subprocess
import sys
import time
import types

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from flamingo_jax.checkpoints.store import load_tree
from flamingo_jax.errors import Interrupted, UserError
from flamingo_jax.models.contrastive import ContrastiveConfig
from flamingo_jax.models.nfnet import VisionConfig, VisionEncoder
from flamingo_jax.training import contrastive
from flamingo_jax.training.contrastive import VisionTrainingConfig, make_optimizer, pretrain
from flamingo_jax.training.journal import read_rows
from flamingo_jax.training.pairs import Pairs
from tests.training.drawings import WORDS, make_drawings
from tests.training.test_step import layout_of

VISION = VisionConfig(
    image_size=32,
    stem=(8,),
    stem_strides=(4,),
    widths=(16,),
    depths=(1,),
    strides=(2,),
    features=16,
)
CONFIG = VisionTrainingConfig(
    steps=6,
    batch=4,
    warmup_steps=2,
    log_every=1,
    save_every=2,
    towers=ContrastiveConfig(embedding=8, text_hidden=8),
)


def run(folder, config=CONFIG, mesh=None, **options):
    embedding = np.random.default_rng(0).normal(size=(len(WORDS), 12)).astype(np.float32)
    tokenizer = types.SimpleNamespace(encode=lambda text: [ord(c) % len(WORDS) for c in text])
    layout = layout_of(**(mesh or {}))
    drawings = make_drawings()
    return pretrain(config, VISION, drawings, embedding, tokenizer, folder, layout, **options)


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    folder = tmp_path_factory.mktemp("vision")
    return folder, run(folder)


@pytest.mark.slow
def test_results_are_told_for_both_held_out_splits(whole):
    folder, _ = whole
    results = json.loads((folder / "results.json").read_text())
    assert set(results) == {"validation", "test"}
    for split in results.values():
        assert (split["candidates"], split["drawings"]) == (4, 8)
        assert all(0 <= split[name] <= 1 for name in ("knn5_category", "retrieval_top5"))


@pytest.mark.slow
def test_a_stall_is_told(tmp_path, monkeypatch, caplog):
    make = Pairs.__call__

    def slow(pairs, step, rows):
        time.sleep(0.5 * (step == 3))
        return make(pairs, step, rows)

    monkeypatch.setattr(Pairs, "__call__", slow)
    run(tmp_path, stall_minutes=0.2 / 60)
    assert "Stalled: making the pairs of step 4 of vision pretraining for 0.00333" in caplog.text


@pytest.mark.slow
def test_a_step_that_is_not_finite_is_not_saved(tmp_path):
    config = dataclasses.replace(CONFIG, learning_rate=float("inf"))
    with pytest.raises(UserError, match=r"step \d of vision pretraining was not finite.*lower vis"):
        run(tmp_path, config)
    assert not (tmp_path / "encoder").exists()
    for step in (tmp_path / "checkpoints").iterdir():
        for leaf in jax.tree.leaves(load_tree(step / "state")):
            assert np.isfinite(leaf).all()


def test_frozen_features_are_standardised(whole):
    _, variables = whole
    train = {d.base: d.image for d in reversed(make_drawings()) if d.split == "train"}
    features = VisionEncoder(VISION).apply(variables, np.stack(list(train.values())))
    np.testing.assert_allclose(features.mean((0, 1)), 0.0, atol=1e-3)
    np.testing.assert_allclose(features.std((0, 1)), 1.0, atol=1e-2)


def test_a_finished_stage_is_read_back(whole, monkeypatch):
    folder, variables = whole
    monkeypatch.setattr(contrastive, "Pairs", None)  # would fail if it trained again
    chex.assert_trees_all_equal(run(folder), variables)


@pytest.mark.slow
def test_stopped_and_resumed_equals_uninterrupted(whole, tmp_path, monkeypatch):
    inputs = contrastive._inputs

    def stop_at_4(*arguments):
        if arguments[-1] == 4:
            signal.raise_signal(signal.SIGTERM)
        return inputs(*arguments)

    monkeypatch.setattr(contrastive, "_inputs", stop_at_4)
    with pytest.raises(Interrupted, match="step 4 of 6"):
        run(tmp_path)
    monkeypatch.setattr(contrastive, "_inputs", inputs)
    folder, variables = whole
    chex.assert_trees_all_equal(run(tmp_path), variables)
    assert read_rows(tmp_path / "metrics.jsonl") == read_rows(folder / "metrics.jsonl")


@pytest.mark.slow
def test_the_batch_may_lie_on_any_mesh(whole, tmp_path):
    """The loss is that of the whole batch: eight devices find what one does."""
    script = (
        "from pathlib import Path\nfrom tests.training.test_contrastive import run\n"
        f"run(Path(r'{tmp_path}'), mesh=dict(data=2, fsdp=2, tensor=2))"
    )
    flags = "--xla_force_host_platform_device_count=8"
    environment = {**os.environ, "XLA_FLAGS": flags}
    line = [sys.executable, "-c", script]
    done = subprocess.run(line, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    folder, variables = whole
    rows = zip(*(read_rows(path / "metrics.jsonl") for path in (tmp_path, folder)), strict=True)
    for found, expected in rows:
        assert found == pytest.approx(expected, rel=1e-4)
    found = load_tree(tmp_path / "encoder")
    chex.assert_trees_all_close(found, variables, rtol=1e-3, atol=1e-4)


@pytest.mark.slow
def test_training_finds_the_pairs(tmp_path):
    config = dataclasses.replace(CONFIG, steps=60, learning_rate=1e-2, log_every=10, save_every=60)
    run(tmp_path, config)
    losses = [row["loss"] for row in read_rows(tmp_path / "metrics.jsonl")]
    assert losses[-1] < losses[0] - 0.5


def test_clipping_is_adaptive_and_only_of_the_encoder():
    """arXiv:2102.06171, eq. 3: a unit's gradient is at most clip times its weights."""
    rng = np.random.default_rng(0)
    weights, grads = rng.normal(size=(2, 3, 3, 4, 5)).astype(np.float32)
    grads[..., 0] *= 1e-4

    def tree(x):
        return {"image": {"encoder": {"kernel": jnp.array(x)}, "project": {"kernel": jnp.array(x)}}}

    clipper = contrastive._clip_encoder(0.1)
    found, _ = clipper.update(tree(grads), clipper.init(tree(weights)), tree(weights))
    norm = np.sqrt((grads**2).sum((0, 1, 2)))
    bound = 0.1 * np.sqrt((weights**2).sum((0, 1, 2)))
    expected = grads * np.minimum(1, bound / norm)
    np.testing.assert_allclose(found["image"]["encoder"]["kernel"], expected, rtol=1e-4)
    np.testing.assert_array_equal(found["image"]["project"]["kernel"], grads)


def test_weight_decay_is_for_kernels():
    optimizer = make_optimizer(dataclasses.replace(CONFIG, weight_decay=0.5))
    params = {"image": {"encoder": {"kernel": jnp.ones((2, 2)), "gain": jnp.ones(2)}}}
    state = optimizer.init(params)
    for _ in range(3):
        updates, state = optimizer.update(jax.tree.map(jnp.zeros_like, params), state, params)
        params = optax.apply_updates(params, updates)
    assert float(params["image"]["encoder"]["kernel"][0, 0]) < 1
    np.testing.assert_array_equal(params["image"]["encoder"]["gain"], 1.0)
