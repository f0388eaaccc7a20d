"""Gated cross-attention: OpenFlamingo's form against a restatement in PyTorch, masks, caches."""

import dataclasses

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
import torch.nn.functional as F

from flamingo_jax.models.xattn import (
    CrossAttentionConfig,
    GatedCrossAttentionDense,
    media_mask,
    size,
)

B, T, N, R, D, WIDTH = 2, 7, 3, 4, 12, 10
INDEX = np.array([[0, 0, 1, 1, 2, 3, 3], [1, 1, 1, 2, 2, 2, 2]])
OPEN_FLAMINGO = CrossAttentionConfig(
    num_heads=2, head_dim=5, alpha_init=0.7, alpha_dense_init=-0.4, activation="gelu", norm_eps=1e-5
)


def random_tree(shapes, seed: int = 0, scale: float = 0.4):
    """Random values for all leaves, norms and gates included."""
    draw = np.random.default_rng(seed)
    return jax.tree.map(
        lambda leaf: (draw.normal(size=leaf.shape) * scale).astype(np.float32), shapes
    )


def build(config: CrossAttentionConfig):
    draw = np.random.default_rng(1)
    x = draw.normal(size=(B, T, D)).astype(np.float32)
    media = draw.normal(size=(B, N, R, WIDTH)).astype(np.float32)
    mask = media_mask(jnp.array(INDEX), N)
    layer = GatedCrossAttentionDense(config)
    params = random_tree(jax.eval_shape(layer.init, jax.random.key(0), x, media, mask)["params"])
    return layer, params, x, media, mask


def restated(params, x, media, index, eps):
    """x += tanh(a) attention(norm(x), media); x += tanh(b) mlp(x), by explicit masks in PyTorch."""
    p = jax.tree.map(lambda leaf: torch.from_numpy(np.asarray(leaf)), params)
    x, media = torch.from_numpy(x), torch.from_numpy(media)
    attention, mlp = p["attention"], p["mlp"]

    def normed(x, norm):
        return F.layer_norm(x, x.shape[-1:], norm["scale"], norm["bias"], eps)

    def heads(x, kernel):
        return torch.einsum("bsd,dkc->bksc", x, kernel)

    flat = media.flatten(1, 2)
    q = heads(normed(x, attention["norm"]), attention["query"]["kernel"])
    k, v = heads(flat, attention["key"]["kernel"]), heads(flat, attention["value"]["kernel"])
    of_media = torch.arange(N).repeat_interleave(R) + 1
    index = torch.from_numpy(index)
    hidden = (index[:, :, None] != of_media)[:, None]
    scores = (q @ k.transpose(-1, -2) / q.shape[-1] ** 0.5).masked_fill(hidden, -1e30)
    mixed = (scores.softmax(-1) @ v).masked_fill((index == 0)[:, None, :, None], 0.0)
    out = torch.einsum("bktc,kcd->btd", mixed, attention["out"]["kernel"])
    x = x + p["alpha_xattn"].tanh() * out
    hidden = F.gelu(normed(x, p["mlp_norm"]) @ mlp["up"]["kernel"])
    return x + p["alpha_dense"].tanh() * (hidden @ mlp["down"]["kernel"])


def test_open_flamingos_form_equals_its_restatement():
    layer, params, x, media, mask = build(OPEN_FLAMINGO)
    got = jax.jit(layer.apply)({"params": params}, x, media, mask)
    chex.assert_shape(got, (B, T, D))
    expected = restated(params, x, media, INDEX, 1e-5)
    np.testing.assert_allclose(got, expected, atol=1e-4)


def test_the_papers_form_has_the_same_parameters_and_another_activation():
    layer, params, x, media, mask = build(OPEN_FLAMINGO)
    paper = GatedCrossAttentionDense(CrossAttentionConfig(2, 5))
    shapes = jax.eval_shape(paper.init, jax.random.key(0), x, media, mask)["params"]
    chex.assert_trees_all_equal_shapes(shapes, params)
    outputs = [jax.jit(m.apply)({"params": params}, x, media, mask) for m in (layer, paper)]
    assert float(jnp.abs(outputs[0] - outputs[1]).max()) > 1e-2


@pytest.mark.parametrize("gate", ["alpha_xattn", "alpha_dense"])
def test_a_closed_gate_closes_its_branch_only(gate):
    layer, params, x, media, mask = build(OPEN_FLAMINGO)
    apply = jax.jit(layer.apply)
    closed = {**params, gate: jnp.zeros(())}
    both = {**params, "alpha_xattn": jnp.zeros(()), "alpha_dense": jnp.zeros(())}
    assert not np.allclose(apply({"params": closed}, x, media, mask), x)
    np.testing.assert_array_equal(apply({"params": both}, x, media, mask), x)


def test_kept_keys_and_values_give_the_same_output():
    layer, params, x, media, mask = build(OPEN_FLAMINGO)
    first, kept = layer.apply({"params": params}, x, media, mask, mutable=["cache"])
    again = layer.apply({"params": params, **kept}, x, None, mask)
    chex.assert_tree_shape_prefix(kept["cache"], (B, N * R, 2, 5))
    np.testing.assert_allclose(again, first, atol=1e-6)


def test_relative_outputs_follow_the_size_of_the_hidden_state():
    """What is added is mean |x| times what the plain layer adds, so it scales with its input."""
    config = CrossAttentionConfig(2, 5, norm_eps=1e-12)
    plain, params, x, media, mask = build(config)
    params["alpha_dense"] = np.zeros_like(params["alpha_dense"])
    relative = GatedCrossAttentionDense(dataclasses.replace(config, relative=True))
    apply = jax.jit(
        lambda layer, x: layer.apply({"params": params}, x, media, mask), static_argnums=0
    )
    added, expected = apply(relative, x) - x, apply(plain, x) - x
    np.testing.assert_allclose(added, np.abs(x).mean(-1, keepdims=True) * expected, atol=1e-5)
    np.testing.assert_allclose(apply(relative, 100 * x), 100 * apply(relative, x), rtol=1e-3)


def test_no_gradient_flows_through_the_size():
    x = jnp.arange(6.0).reshape(1, 2, 3) - 2
    np.testing.assert_array_equal(jax.grad(lambda x: size(x).sum())(x), 0)


def test_without_gates_all_is_added():
    """Gates of infinity are open: tanh is 1."""
    layer, params, x, media, mask = build(OPEN_FLAMINGO)
    open_wide = {**params, "alpha_xattn": jnp.float32(50), "alpha_dense": jnp.float32(50)}
    free = GatedCrossAttentionDense(dataclasses.replace(OPEN_FLAMINGO, gating=False))
    kept = {name: tree for name, tree in params.items() if not name.startswith("alpha")}
    shapes = jax.eval_shape(free.init, jax.random.key(0), x, media, mask)["params"]
    chex.assert_trees_all_equal_shapes(shapes, kept)
    expected = jax.jit(layer.apply)({"params": open_wide}, x, media, mask)
    got = jax.jit(free.apply)({"params": kept}, x, media, mask)
    np.testing.assert_allclose(got, expected, atol=1e-5)


def test_vanilla_cross_attention_has_neither_gates_nor_feed_forward():
    layer, params, x, media, mask = build(OPEN_FLAMINGO)
    vanilla = GatedCrossAttentionDense(
        dataclasses.replace(OPEN_FLAMINGO, conditioning="vanilla_xattn")
    )
    kept = {"attention": params["attention"]}
    shapes = jax.eval_shape(vanilla.init, jax.random.key(0), x, media, mask)["params"]
    chex.assert_trees_all_equal_shapes(shapes, kept)
    attended = {**params, "alpha_xattn": jnp.float32(50), "alpha_dense": jnp.float32(0)}
    expected = jax.jit(layer.apply)({"params": attended}, x, media, mask)
    got = jax.jit(vanilla.apply)({"params": kept}, x, media, mask)
    np.testing.assert_allclose(got, expected, atol=1e-5)


def test_gates_of_equal_channels_are_one_gate():
    layer, params, x, media, mask = build(OPEN_FLAMINGO)
    many = GatedCrossAttentionDense(dataclasses.replace(OPEN_FLAMINGO, vector_gates=True))
    wide = {n: np.full(D, params[n]) if n.startswith("alpha") else params[n] for n in params}
    got = jax.jit(many.apply)({"params": wide}, x, media, mask)
    expected = jax.jit(layer.apply)({"params": params}, x, media, mask)
    np.testing.assert_allclose(got, expected, atol=1e-6)


@pytest.mark.parametrize("sees", ["last", "all"])
def test_media_that_a_token_sees(sees):
    index = np.array([[0, 1, 2, 3], [0, 0, 2, 2]])
    got = media_mask(index, 3, sees)
    for b, t, n in np.ndindex(2, 4, 3):
        seen = n + 1 == index[b, t] if sees == "last" else n + 1 <= index[b, t]
        assert got[b, t, n] == seen
