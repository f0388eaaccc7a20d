"""Perceiver Resampler: OpenFlamingo's form against a restatement in PyTorch, frames, shapes."""

import dataclasses

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
import torch.nn.functional as F

from flamingo_jax.models.layers import widen
from flamingo_jax.models.resampler import (
    PerceiverAttention,
    PerceiverResampler,
    ResamplerConfig,
)
from tests.models.test_xattn import random_tree

B, N, P, D = 2, 3, 6, 12
NORM = ("scale", "bias")
OPEN_FLAMINGO = ResamplerConfig(
    width=D,
    num_layers=2,
    num_latents=4,
    num_heads=2,
    head_dim=5,
    max_frames=0,
    project=False,
    activation="gelu",
    norm_eps=1e-5,
)


def build(config: ResamplerConfig, frames: int, channels: int = D):
    features = np.random.default_rng(1).normal(size=(B, N, frames, P, channels))
    features = features.astype(np.float32)
    model = PerceiverResampler(config)
    params = random_tree(jax.eval_shape(model.init, jax.random.key(0), features)["params"])
    return model, params, features


def restated(params, features, layers, eps):
    """Latents attend to [features; latents], then a feed-forward; one LayerNorm ends it."""
    p = jax.tree.map(lambda leaf: torch.from_numpy(np.asarray(leaf)), params)

    def normed(x, norm):
        return F.layer_norm(x, x.shape[-1:], norm["scale"], norm["bias"], eps)

    x = torch.from_numpy(features).flatten(0, 1).flatten(1, 2)
    latents = p["latents"].expand(len(x), -1, -1)
    for i in range(layers):
        attention, mlp = p[f"attention_{i}"], p[f"mlp_{i}"]
        own = normed(latents, attention["latents_norm"])
        both = torch.cat([normed(x, attention["features_norm"]), own], 1)
        q = torch.einsum("bsd,dkc->bksc", own, attention["query"]["kernel"])
        k = torch.einsum("bsd,dkc->bksc", both, attention["key"]["kernel"])
        v = torch.einsum("bsd,dkc->bksc", both, attention["value"]["kernel"])
        mixed = F.scaled_dot_product_attention(q, k, v)
        latents = latents + torch.einsum("bktc,kcd->btd", mixed, attention["out"]["kernel"])
        hidden = F.gelu(normed(latents, p[f"mlp_norm_{i}"]) @ mlp["up"]["kernel"])
        latents = latents + hidden @ mlp["down"]["kernel"]
    return normed(latents, p["norm"]).unflatten(0, (B, N))


@pytest.mark.parametrize("frames", [1, 3])
def test_open_flamingos_form_equals_its_restatement(frames):
    model, params, features = build(OPEN_FLAMINGO, frames)
    assert {"project", "time_embedding"}.isdisjoint(params)
    got = jax.jit(model.apply)({"params": params}, features)
    chex.assert_shape(got, (B, N, 4, D))
    np.testing.assert_allclose(got, restated(params, features, 2, 1e-5), atol=1e-4)


@pytest.mark.parametrize("frames", [1, 2, 5])
def test_latents_are_as_many_whatever_the_frames(frames):
    config = ResamplerConfig(D, 1, 4, 2, 5, max_frames=2)
    model, params, features = build(config, frames, channels=7)
    chex.assert_shape(params["time_embedding"], (2, D))
    chex.assert_shape(jax.jit(model.apply)({"params": params}, features), (B, N, 4, D))


def test_frames_are_told_apart_by_the_time_embedding_only():
    for config, same in ((OPEN_FLAMINGO, True), (ResamplerConfig(D, 1, 4, 2, 5), False)):
        model, params, features = build(config, 2)
        apply = jax.jit(model.apply)
        forth = apply({"params": params}, features)
        back = apply({"params": params}, features[:, :, ::-1])
        assert np.allclose(forth, back, atol=1e-5) == same


@pytest.mark.parametrize("kind", ["perceiver", "transformer", "mlp"])
@pytest.mark.parametrize(("frames", "positions"), [(1, 3), (3, 5)])
def test_latents_are_as_many_whatever_is_put_in_its_place(kind, frames, positions):
    config = ResamplerConfig(D, 1, 4, 2, 5, kind=kind, max_frames=2)
    features = jax.ShapeDtypeStruct((B, N, frames, positions, 7), jnp.float32)
    media, variables = jax.eval_shape(
        PerceiverResampler(config).init_with_output, jax.random.key(0), features
    )
    chex.assert_shape(media, (B, N, 4, D))
    assert ("latents" in variables["params"]) == (kind != "mlp")


def test_the_transformer_in_its_place_attends_to_all_rows_from_all():
    """Its first layer is the perceiver's with features and latents both as the latents."""
    config = dataclasses.replace(OPEN_FLAMINGO, kind="transformer", num_layers=1)
    model, params, features = build(config, 1)
    got = jax.jit(model.apply)({"params": params}, features)
    flat = features.reshape(B * N, P, D)
    rows = np.concatenate([flat, np.broadcast_to(params["latents"], (B * N, 4, D))], axis=1)
    attention = PerceiverAttention(config).apply({"params": params["attention_0"]}, rows, None)
    rows = rows + np.asarray(attention)
    hidden = F.layer_norm(
        torch.from_numpy(rows), (D,), *(torch.from_numpy(params["mlp_norm_0"][n]) for n in NORM)
    )
    mlp = jax.tree.map(torch.from_numpy, params["mlp_0"])
    rows = rows + (F.gelu(hidden @ mlp["up"]["kernel"]) @ mlp["down"]["kernel"]).numpy()
    ends = [torch.from_numpy(params["norm"][n]) for n in NORM]
    expected = F.layer_norm(torch.from_numpy(rows[:, -4:]), (D,), *ends).unflatten(0, (B, N))
    np.testing.assert_allclose(got, expected, atol=1e-4)


def test_the_mlp_in_its_place_sees_each_feature_alone():
    config = dataclasses.replace(OPEN_FLAMINGO, kind="mlp", num_latents=P)
    model, params, features = build(config, 1)
    apply = jax.jit(model.apply)
    changed = features.copy()
    changed[:, :, 0, 2] += 1
    got = np.asarray(apply({"params": params}, features))
    other = np.asarray(apply({"params": params}, changed))
    different = (got != other).any((0, 1, 3))
    np.testing.assert_array_equal(different, np.arange(P) == 2)


def test_without_a_resampler_all_features_are_media():
    model = PerceiverResampler(dataclasses.replace(OPEN_FLAMINGO, kind="none"))
    features = np.random.default_rng(0).normal(size=(B, N, 2, P, D)).astype(np.float32)
    media, variables = model.init_with_output(jax.random.key(0), features)
    assert not variables
    np.testing.assert_array_equal(media, features.reshape(B, N, 2 * P, D))


def test_widen_is_a_matrix_product_in_value_and_gradients():
    draw = np.random.default_rng(0)
    x, kernel = draw.normal(size=(2, 3, 4)), draw.normal(size=(4, 7))
    weights = draw.normal(size=(2, 3, 7))

    def total(multiply):
        return lambda x, kernel: jnp.sum(weights * jnp.sin(multiply(x, kernel)))

    expected = jax.value_and_grad(total(jnp.matmul), argnums=(0, 1))(x, kernel)
    got = jax.value_and_grad(total(widen), argnums=(0, 1))(x, kernel)
    chex.assert_trees_all_close(got, expected, rtol=1e-5, atol=1e-5)


def test_widen_computes_in_the_type_given():
    x, kernel = jnp.ones((2, 3), jnp.bfloat16), jnp.ones((3, 5), jnp.bfloat16)
    grads = jax.grad(lambda *a: widen(*a).astype(jnp.float32).sum(), argnums=(0, 1))(x, kernel)
    chex.assert_type([widen(x, kernel), *grads], jnp.bfloat16)
