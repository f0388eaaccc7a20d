import dataclasses

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from flamingo_jax.models.nfnet import (
    Block,
    NFNet,
    SqueezeExcite,
    VisionConfig,
    VisionEncoder,
    activation,
    standardise,
)

TINY = VisionConfig(
    image_size=32, stem=(8, 16), widths=(16, 32), depths=(1, 1), strides=(1, 2), features=24
)


def test_features_have_the_promised_shape_and_type():
    images = jax.random.randint(jax.random.key(0), (3, 32, 32, 3), 0, 256).astype(jnp.uint8)
    encoder = VisionEncoder(TINY)
    variables = jax.jit(encoder.init)(jax.random.key(1), images)
    features = jax.jit(encoder.apply)(variables, images)
    chex.assert_shape(features, (3, 16, 24))
    chex.assert_type(features, jnp.float32)
    chex.assert_tree_all_finite(features)
    half = jax.eval_shape(VisionEncoder(TINY, jnp.bfloat16).apply, variables, images)
    assert half.dtype == jnp.float32


def test_default_shape_has_sixteen_positions_and_one_to_two_million_parameters():
    images = jax.ShapeDtypeStruct((1, 64, 64, 3), jnp.uint8)
    encoder = VisionEncoder(VisionConfig())
    features, variables = jax.eval_shape(encoder.init_with_output, jax.random.key(0), images)
    assert features.shape[:2] == (1, 16)
    assert 1e6 < sum(leaf.size for leaf in jax.tree.leaves(variables)) < 2e6


def test_the_shape_of_nfnet_f6_can_be_told():
    """arXiv:2102.06171, table 1 and appendix C: F6 has 438.4 M parameters with its classifier."""
    f6 = VisionConfig(
        image_size=448,
        stem=(16, 32, 64, 128),
        stem_strides=(2, 1, 1, 2),
        widths=(256, 512, 1536, 1536),
        depths=(7, 14, 42, 21),
        strides=(1, 2, 2, 2),
        group_width=128,
        features=3072,
    )
    images = jax.ShapeDtypeStruct((1, 64, 64, 3), jnp.uint8)
    variables = jax.eval_shape(NFNet(f6).init, jax.random.key(0), images)
    classifier = 3072 * 1000 + 1000
    total = sum(leaf.size for leaf in jax.tree.leaves(variables)) + classifier
    assert total == pytest.approx(438.4e6, rel=0.005)


def test_weight_standardisation_matches_numpy():
    rng = np.random.default_rng(0)
    kernel, gain = rng.normal(2.0, 3.0, (3, 3, 5, 7)), rng.normal(size=7)
    flat = kernel.reshape(-1, 7)
    expected = gain * (flat - flat.mean(0)) / (flat.std(0) * np.sqrt(45))
    found = standardise(jnp.array(kernel, jnp.float32), jnp.array(gain, jnp.float32))
    np.testing.assert_allclose(found.reshape(-1, 7), expected, rtol=1e-4, atol=1e-5)


def test_activation_keeps_the_variance_of_a_normal_input():
    x = jax.random.normal(jax.random.key(0), (100_000,))
    assert float(jnp.var(activation(x))) == pytest.approx(1.0, abs=0.02)


def test_squeeze_excite_keeps_its_input_when_the_gate_is_undecided():
    x = jax.random.normal(jax.random.key(0), (2, 4, 4, 8))
    layer = SqueezeExcite(4)
    variables = jax.tree.map(jnp.zeros_like, layer.init(jax.random.key(1), x))
    np.testing.assert_allclose(layer.apply(variables, x), x, rtol=1e-6)


def test_signal_variance_grows_by_alpha_squared_a_block_and_starts_anew_at_transitions():
    """arXiv:2101.08692, §3: 1 after a transition, plus alpha² for each residual branch.

    At stride 1: the paper's sums leave out that the average pooling of a strided shortcut lowers
    the variance of whatever varies within its window, as noise does.
    """
    config = VisionConfig(widths=(64, 64), depths=(3, 2), strides=(1, 1), se_ratio=0.5, alpha=0.5)
    images = jax.random.normal(jax.random.key(0), (8, 32, 32, 3))
    found = stage_variances(config, images)
    np.testing.assert_allclose(found, [1.25, 1.5, 1.75, 1.25, 1.5], rtol=0.25)


def stage_variances(config, images):
    """Variance of every block's output, in order."""
    net = NFNet(config)
    params = jax.jit(net.init)(jax.random.key(1), images)["params"]
    _, kept = jax.jit(
        lambda p, x: net.apply({"params": p}, x, capture_intermediates=True, mutable=True)
    )(params, images)
    names = [f"stage_{s}_{b}" for s, depth in enumerate(config.depths) for b in range(depth)]
    return [float(jnp.var(kept["intermediates"][name]["__call__"][0])) for name in names]


def test_a_strided_shortcut_is_the_mean_of_each_window_of_the_scaled_activation():
    """arXiv:2102.06171, appendix C: average pooling, then a 1x1 convolution; alpha 0 shows it."""
    config = dataclasses.replace(TINY, alpha=0.0)
    block = Block(config, 6, 2, 2.0, True)
    x = np.random.default_rng(0).normal(size=(3, 4, 4, 5)).astype(np.float32)
    params = jax.jit(block.init)(jax.random.key(0), x)["params"]
    found = jax.jit(block.apply)({"params": params}, x)
    scaled = np.asarray(activation(x)) / 2.0
    pooled = scaled.reshape(3, 2, 2, 2, 2, 5).mean((2, 4))
    weights = standardise(params["shortcut"]["kernel"], params["shortcut"]["gain"])[0, 0]
    np.testing.assert_allclose(found, pooled @ weights, rtol=1e-4, atol=1e-5)
