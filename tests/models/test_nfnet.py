import dataclasses

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
import torch.nn.functional as F

from flamingo_jax.models.nfnet import (
    Block,
    NFNet,
    SqueezeExcite,
    Stage,
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


def parameters(config: VisionConfig) -> int:
    images = jax.ShapeDtypeStruct((1, 64, 64, 3), jnp.float32)
    variables = jax.eval_shape(NFNet(config).init, jax.random.key(0), images)
    return sum(leaf.size for leaf in jax.tree.leaves(variables))


@pytest.mark.parametrize(
    ("variant", "millions"), enumerate([71.49, 132.63, 193.78, 254.92, 316.07, 377.21, 438.36])
)
def test_the_family_has_the_published_parameters(variant: int, millions: float):
    """arXiv:2102.06171, table 1, which counts the classifier of 1000 classes too."""
    classifier = 3072 * 1000 + 1000
    total = parameters(VisionConfig.nfnet_f(variant)) + classifier
    assert round(total / 1e6, 2) == millions


def test_f6_without_its_classifier_to_the_parameter():
    """Flamingo's 435 M (arXiv:2204.14198, appendix)."""
    assert parameters(VisionConfig.nfnet_f(6)) == 435_286_116


def test_the_grid_of_features_has_a_thirty_second_of_the_side():
    """Strides 2, 1, 1, 2 of the stem and 1, 2, 2, 2 of the stages: 32 in all, rounded up."""
    for side, positions in ((192, 6), (320, 10), (200, 7)):
        images = jax.ShapeDtypeStruct((1, side, side, 3), jnp.float32)
        net = NFNet(VisionConfig.nfnet_f(0))
        grid, _ = jax.eval_shape(net.init_with_output, jax.random.key(0), images)
        assert grid.shape == (1, positions, positions, 3072)


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


@pytest.mark.slow
def test_signal_variance_grows_by_alpha_squared_a_block_and_starts_anew_at_transitions():
    """arXiv:2101.08692, §3: 1 after a transition, plus alpha² for each residual branch.

    At stride 1: the paper's sums leave out that the average pooling of a strided shortcut lowers
    the variance of whatever varies within its window, as noise does.
    """
    config = VisionConfig(depths=(3, 2), se_ratio=0.5, alpha=0.5)
    x, beta, found = jax.random.normal(jax.random.key(0), (8, 32, 32, 64)), 1.0, []
    for depth in config.depths:
        stage = Stage(config, 64, depth, 1)
        params = jax.jit(stage.init)(jax.random.key(1), x, beta)["params"]
        outputs = blocks_in_turn(stage, params, x, beta)
        # The loop over a stage's blocks does what they do one after another.
        whole = jax.jit(stage.apply)({"params": params}, x, beta)
        np.testing.assert_allclose(whole, outputs[-1], rtol=1e-4, atol=1e-4)
        found += [float(jnp.var(output)) for output in outputs]
        x, beta = outputs[-1], config.deviation(depth)
    np.testing.assert_allclose(found, [1.25, 1.5, 1.75, 1.25, 1.5], rtol=0.25)


def blocks_in_turn(stage, params, x, beta):
    """Output of each block; their expected deviations by the paper's sum."""
    outputs = []
    for b in range(stage.depth):
        block = Block(stage.config, stage.channels, 1, b == 0)
        own = params["first"] if b == 0 else jax.tree.map(lambda p, b=b: p[b - 1], params["rest"])
        deviation = beta if b == 0 else (1 + b * stage.config.alpha**2) ** 0.5
        x = jax.jit(block.apply)({"params": own}, x, deviation)
        outputs.append(x)
    return outputs


def test_a_strided_shortcut_is_the_mean_of_each_window_of_the_scaled_activation():
    """arXiv:2102.06171, appendix C: average pooling, then a 1x1 convolution; alpha 0 shows it."""
    config = dataclasses.replace(TINY, alpha=0.0)
    block = Block(config, 6, 2, True)
    x = np.random.default_rng(0).normal(size=(3, 4, 4, 5)).astype(np.float32)
    params = jax.jit(block.init)(jax.random.key(0), x, 2.0)["params"]
    found = jax.jit(block.apply)({"params": params}, x, 2.0)
    scaled = np.asarray(activation(x)) / 2.0
    pooled = scaled.reshape(3, 2, 2, 2, 2, 5).mean((2, 4))
    weights = standardise(params["shortcut"]["kernel"], params["shortcut"]["gain"])[0, 0]
    np.testing.assert_allclose(found, pooled @ weights, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("transition", [True, False])
def test_a_block_is_that_of_the_paper(transition: bool):
    """arXiv:2102.06171, figure 5 and appendix C, in PyTorch, at random parameters."""
    config = VisionConfig(group_width=4, alpha=0.2)
    stride, beta = (2, 1.3) if transition else (1, 1.3)
    block = Block(config, 16, stride, transition)
    x = np.random.default_rng(0).normal(size=(2, 6, 6, 6 if transition else 16)).astype(np.float32)
    variables = drawn(block, x, beta)
    there = torch.tensor(x).permute(0, 3, 1, 2)
    expected = published_block(variables["params"], there, stride, beta)
    found = jax.jit(block.apply)(variables, x, beta)
    np.testing.assert_allclose(found, expected.permute(0, 2, 3, 1), rtol=1e-4, atol=1e-4)


def drawn(block, *inputs):
    """Standard normal variables: compiling their initialisation takes longer than all else."""
    rng = np.random.default_rng(1)
    shapes = jax.eval_shape(block.init, jax.random.key(0), *inputs)
    return jax.tree.map(lambda leaf: rng.normal(size=leaf.shape).astype(np.float32), shapes)


def published_block(params, x_MxCxHxW, stride, beta):
    p = jax.tree.map(lambda leaf: torch.tensor(np.asarray(leaf)), params)

    def act(x):
        return F.gelu(x, approximate="tanh") * 1.7015043497085571

    def conv(name, x, step=1):
        kernel, gain, bias = (p[name][part] for part in ("kernel", "gain", "bias"))
        weight = kernel.permute(3, 2, 0, 1)
        variance, mean = torch.var_mean(weight, dim=(1, 2, 3), keepdim=True, correction=0)
        weight = (weight - mean) / torch.sqrt(variance * weight[0].numel())
        weight = weight * gain[:, None, None, None]
        if weight.shape[-1] == 3:  # "SAME": at stride 2 an even side is padded at its end only
            x = F.pad(x, (0, 1, 0, 1) if step == 2 else (1, 1, 1, 1))
        return F.conv2d(x, weight, bias, step, groups=x.shape[1] // weight.shape[1])

    out = act(x_MxCxHxW) / beta
    shortcut = x_MxCxHxW
    if "shortcut" in p:
        shortcut = conv("shortcut", F.avg_pool2d(out, 2) if stride == 2 else out)
    out = conv("conv_0", out)
    out = conv("conv_1", act(out), stride)
    out = conv("conv_2", act(out))
    out = conv("conv_3", act(out))
    down, up = p["squeeze_excite"]["down"], p["squeeze_excite"]["up"]
    hidden = F.relu(out.mean((2, 3)) @ down["kernel"] + down["bias"])
    gate = torch.sigmoid(hidden @ up["kernel"] + up["bias"])[:, :, None, None]
    return shortcut + 0.2 * p["skip_gain"] * (2 * gate * out)


def test_a_window_that_hangs_over_the_edge_is_averaged_over_what_it_covers():
    block = Block(dataclasses.replace(TINY, alpha=0.0), 6, 2, True)
    x = np.full((1, 3, 3, 5), 0.5, np.float32)
    found = jax.jit(block.apply)(drawn(block, x, 1.0), x, 1.0)
    np.testing.assert_allclose(found, np.broadcast_to(found[:, :1, :1], found.shape), rtol=1e-5)


@pytest.mark.parametrize(("depth", "loops"), [(2, 0), (5, 0), (6, 1)])
def test_few_blocks_are_no_loop_in_the_gradient(depth: int, loops: int) -> None:
    """A kernel's gradient inside of one made the vision stage five times as long on a CPU."""
    config = VisionConfig(32, (8, 8), (2, 2), (16,), (depth,), (1,))
    model, images = VisionEncoder(config), jnp.ones((1, 32, 32, 3))
    variables = jax.eval_shape(model.init, jax.random.key(0), images)
    gradient = jax.grad(lambda variables: model.apply(variables, images).sum())
    program = jax.jit(gradient).lower(variables).as_text()
    assert ("stablehlo.while" in program) == bool(loops)
