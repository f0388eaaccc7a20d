"""Groups, rates, decay and clipping of the optimizer."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from flamingo_jax.training.optimizer import (
    OptimizerConfig,
    clipped,
    labels,
    make_optimizer,
    schedule,
)

PARAMS = {
    "resampler": {"latents": jnp.ones((2, 3)), "project": {"kernel": jnp.ones((3, 3))}},
    "language": {
        "groups": {
            "xattn": {
                "alpha_xattn": jnp.ones(2),
                "alpha_dense": jnp.ones(2),
                "attention": {
                    "norm": {"scale": jnp.ones(3)},
                    "query": {"kernel": jnp.ones((2, 3))},
                },
            }
        }
    },
}


def test_labels() -> None:
    xattn = {"norm": {"scale": "xattn"}, "query": {"kernel": "xattn"}}
    bridge = {"alpha_xattn": "gates", "alpha_dense": "gates", "attention": xattn}
    assert labels(PARAMS) == {
        "resampler": {"latents": "resampler", "project": {"kernel": "resampler"}},
        "language": {"groups": {"xattn": bridge}},
    }


def test_labels_of_a_language_model_that_is_trained_and_of_what_grows_on_it() -> None:
    kernel, alpha = {"kernel": 0}, {"alpha_xattn": 0, "query": {"kernel": 0}}
    layers = {"layers": {"mlp": {"up": kernel}}}
    language = {
        "vocabulary": {"embedding": 0, "norm": {"scale": 0}},
        "below": layers,
        "groups": {"xattn": alpha, "language": layers},
        "last_group": {"xattn": alpha, "language": layers},
        "grafts": {"xattn": alpha, "layer": {"mlp": {"up": kernel}}},
        "media": kernel,
    }
    own = {"layers": {"mlp": {"up": {"kernel": "language"}}}}
    xattn = {"alpha_xattn": "gates", "query": {"kernel": "xattn"}}
    assert labels({"language": language})["language"] == {
        "vocabulary": {"embedding": "language", "norm": {"scale": "language"}},
        "below": own,
        "groups": {"xattn": xattn, "language": own},
        "last_group": {"xattn": xattn, "language": own},
        "grafts": {"xattn": xattn, "layer": {"mlp": {"up": {"kernel": "xattn"}}}},
        "media": {"kernel": "xattn"},
    }


def test_a_trained_language_model_learns_and_its_matrices_decay() -> None:
    params = {"language": {"below": {"up": {"kernel": jnp.ones((2, 2))}, "norm": jnp.ones(2)}}}
    optimizer = make_optimizer(OptimizerConfig(1e-2, 0.0, warmup_steps=0, weight_decay=0.1), 10)
    for gradient, expected in ((0.0, (1e-3, 0.0)), (1.0, (1.1e-2, 1e-2))):
        grads = jax.tree.map(lambda x, g=gradient: g * jnp.ones_like(x), params)
        updates, _ = optimizer.update(grads, optimizer.init(params), params)
        below = updates["language"]["below"]
        np.testing.assert_allclose(below["up"]["kernel"], -expected[0], rtol=1e-3)
        np.testing.assert_allclose(below["norm"], -expected[1], rtol=1e-3)


def test_only_the_cross_attention_matrices_decay() -> None:
    config = OptimizerConfig(1e-2, 1e-2, warmup_steps=0, weight_decay=0.1)
    optimizer = make_optimizer(config, 10)
    zeros = jax.tree.map(jnp.zeros_like, PARAMS)
    updates, _ = optimizer.update(zeros, optimizer.init(PARAMS), PARAMS)
    changed = jax.tree_util.tree_leaves_with_path(updates)
    moved = {jax.tree_util.keystr(path[-2:]) for path, leaf in changed if np.any(leaf != 0)}
    assert moved == {"['query']['kernel']"}
    kernel = updates["language"]["groups"]["xattn"]["attention"]["query"]["kernel"]
    np.testing.assert_allclose(kernel, -1e-2 * 0.1, rtol=1e-5)


def test_gates_have_their_own_rate() -> None:
    optimizer = make_optimizer(OptimizerConfig(0.0, 0.5, warmup_steps=0, weight_decay=0.0), 10)
    ones = jax.tree.map(jnp.ones_like, PARAMS)
    updates, _ = optimizer.update(ones, optimizer.init(PARAMS), PARAMS)
    xattn = updates["language"]["groups"]["xattn"]
    np.testing.assert_allclose(xattn["alpha_xattn"], -0.5, rtol=1e-3)
    np.testing.assert_allclose(xattn["attention"]["query"]["kernel"], 0.0)
    np.testing.assert_allclose(updates["resampler"]["latents"], 0.0)


@pytest.mark.parametrize("size", [0.0, 1e-3, 1.0, 1e3])
def test_clipping_is_optaxs(size: float) -> None:
    grads = {"a": size * jnp.array([3.0, -4.0]), "b": {"c": size * jnp.ones((2, 2))}}
    expected = optax.clip_by_global_norm(2.0).update(grads, optax.EmptyState())[0]
    chex.assert_trees_all_close(clipped(grads, 2.0), expected, rtol=1e-6)


def test_clipping_bounds_the_global_norm() -> None:
    # Adam's first step is scale-free, so compare the moments that it keeps of the gradient.
    optimizer = make_optimizer(OptimizerConfig(warmup_steps=0, clip_norm=1.0), 10)
    huge = jax.tree.map(lambda x: 1e3 * jnp.ones_like(x), PARAMS)
    _, state = optimizer.update(huge, optimizer.init(PARAMS), PARAMS)
    moments = [
        part.mu
        for part in jax.tree.leaves(state, is_leaf=lambda x: isinstance(x, optax.ScaleByAdamState))
        if isinstance(part, optax.ScaleByAdamState)
    ]
    leaves = [leaf for tree in moments for leaf in jax.tree.leaves(tree)]
    np.testing.assert_allclose(optax.global_norm(leaves), 0.1, rtol=1e-4)  # (1 - b1) * 1


@pytest.mark.parametrize(
    ("step", "expected"), [(0, 0.0), (5, 0.5), (10, 1.0), (80, 1.0), (90, 0.5), (100, 0.0)]
)
def test_schedule(step: int, expected: float) -> None:
    rate = schedule(1.0, OptimizerConfig(warmup_steps=10, decay_steps=20), 100)
    np.testing.assert_allclose(rate(step), expected, atol=1e-6)
