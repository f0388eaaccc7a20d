"""The benchmark: its keys, the parameter counts of its model, and the work it does."""

import json
import runpy
import subprocess
import sys
from typing import Any

import jax
import numpy as np
import pytest

from flamingo_jax.errors import UserError
from flamingo_jax.speed import suite, training, workload
from tests.tiny_run import ROOT

CONFIG = ROOT / "configs" / "benchmark_common.py"
TINY = {
    "vision": {"image_size": 8, "patch_size": 4, "width": 8, "num_layers": 1, "mlp_dim": 8},
    "decoder": {"vocab_size": 30, "width": 16, "num_layers": 3, "head_dim": 2, "mlp_dim": 24},
    "resampler": {"width": 8, "num_layers": 1, "num_latents": 2, "head_dim": 4},
    "xattn": {"head_dim": 4},
    "work": {"batch": 2, "tokens": 6, "prompt": 4, "new_tokens": 3, "repeats": 1},
}
KEYS = {
    "peer",
    "train_step_s",
    "generate_tokens_per_s",
    "compile_s",
    "peak_rss_gb",
    "params_total",
    "params_trainable",
    "common",
}


def recipe(**changes: dict[str, Any]) -> dict[str, Any]:
    values = runpy.run_path(str(CONFIG))["get_config"]().to_dict()
    values["vision"]["num_heads"] = 2 if changes else values["vision"]["num_heads"]
    return {name: _changed(value, changes.get(name)) for name, value in values.items()}


def _changed(value: Any, change: dict[str, Any] | None) -> Any:
    return {**value, **change} if change else value


def block(width: int, mlp: int) -> int:
    """Parameters of a layer's four square projections and its feed-forward, without biases."""
    return 4 * width * width + 2 * width * mlp


def test_parameters_are_those_of_the_common_configuration() -> None:
    """Worked out from the shapes; PyTorch implementations of this configuration count the same."""
    vit, lm, inner, latents, tokens = 384, 512, 8 * 64, 64, 14 * 14 + 1
    layer = block(vit, 4 * vit) + (4 + 4 + 1 + 4) * vit  # biases of four, up, down; two norms
    tower = 3 * 16 * 16 * vit + (1 + tokens + 2 * 2) * vit + 6 * layer
    decoder = (32_000 + 1) * lm + 8 * (block(lm, 4 * lm) + 2 * lm)
    feed_forward = lambda width: 2 * 4 * width * width + 2 * width  # noqa: E731
    attention = 4 * vit * inner + 2 * 2 * vit
    resampler = latents * vit + 2 * (attention + feed_forward(vit)) + 2 * vit
    bridge = 2 * lm * inner + 2 * vit * inner + 2 * lm + feed_forward(lm) + 2
    trainable = resampler + 4 * bridge
    expected = {"params_total": tower + decoder + trainable, "params_trainable": trainable}
    assert workload.count(workload.read(recipe())) == expected
    assert expected == {"params_total": 68_606_728, "params_trainable": 16_028_936}


def test_the_configuration_is_told_in_the_compared_words() -> None:
    told = workload.describe(workload.read(recipe()))
    assert told == {
        "lm_width": 512,
        "lm_layers": 8,
        "lm_heads": 8,
        "vocab": 32_000,
        "ff_multiplier": 4,
        "xattn_every": 2,
        "vit_width": 384,
        "vit_layers": 6,
        "vit_heads": 6,
        "patch": 16,
        "image": 224,
        "resampler_layers": 2,
        "latents": 64,
        "xattn_heads": 8,
        "xattn_head_dim": 64,
        "batch": 4,
        "tokens": 128,
        "images": 2,
        "prompt": 64,
        "new_tokens": 64,
    }


@pytest.mark.slow
def test_generation_makes_all_tokens_and_training_steps_follow_each_other() -> None:
    config = workload.read(recipe(**TINY))
    assert np.shape(workload.generation(config, workload.random_weights(config), 2)()) == (2, 3)
    step = training.training_step(config)
    before = jax.tree.map(np.array, step.state.params)
    assert all(np.isfinite(step()["loss"]) for _ in range(2))
    assert int(step.state.step) == 2
    changed = jax.tree.map(lambda a, b: not np.array_equal(a, b), before, step.state.params)
    assert any(jax.tree.leaves(changed))


def test_a_training_runs_recipe_is_a_config_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(ROOT))
    values = runpy.run_path(str(ROOT / "configs" / "openmoji.py"))["get_config"]()
    config = workload.read(values)
    assert config.model.decoder.num_layers == 30
    told = workload.describe(config)
    assert "patch" not in told
    assert told["image"] == 64


def test_mistakes_name_the_field_and_the_work() -> None:
    with pytest.raises(UserError, match=r"xattn\.evry: did you mean xattn\.every"):
        workload.read(recipe(xattn={"evry": 2}))
    with pytest.raises(UserError, match=r"decoder\.norm must be one of 'rms', 'layer', not 'batch"):
        workload.read(recipe(decoder={"norm": "batch"}))
    with pytest.raises(
        UserError,
        match="--what takes train, generate, evaluation, or scaling alone, not 'learn'",
    ):
        workload.measure(workload.read(recipe()), ("learn",))


@pytest.mark.slow
def test_one_line_of_json_with_all_keys() -> None:
    flags = [f"--config.{room}.{k}={v}" for room, fields in TINY.items() for k, v in fields.items()]
    done = subprocess.run(
        [sys.executable, "-m", "flamingo_jax.benchmark", "--config.vision.num_heads=2", *flags],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    (line,) = done.stdout.splitlines()
    found = json.loads(line)
    assert set(found) == KEYS
    assert set(found["generate_tokens_per_s"]) == {"1", "2"}
    assert 0 < found["params_trainable"] < found["params_total"]


@pytest.mark.slow
def test_few_shot_evaluation_is_timed_in_all_its_ways(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(suite, "_open_flamingo", lambda config: None)
    monkeypatch.setattr(suite, "SHOTS", (0, 2))
    found = suite.measure_evaluation(workload.read(recipe(**TINY)), 8, 1)
    assert list(found) == ["0", "2"]
    assert list(found["0"]) == ["fixed", "reencoded", "fixed_speedup"]
    ways = ["fixed", "rices", "reencoded"]
    assert list(found["2"]) == [*ways, "fixed_speedup", "rices_speedup"]
    assert all(rate > 0 for rate in found["2"].values())
