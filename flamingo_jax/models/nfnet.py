"""Normalizer-Free ResNet and the frozen vision encoder made of it.

Brock et al., "High-Performance Large-Scale Image Recognition Without Normalization"
(arXiv:2102.06171), and "Characterizing signal propagation to close the performance gap in
unnormalized ResNets" (arXiv:2101.08692), whose equations are named below.

A stage's blocks after its first have one shape: they are a loop over stacked parameters, so that
a network of hundreds of layers compiles as fast as a shallow one.

Axes: M images, H and W pixels, P grid positions, C feature channels, h and w of a kernel with I
channels in and O out.
"""

import dataclasses

import flax.linen as nn
import jax
import jax.numpy as jnp

from flamingo_jax.models.axes import constrain

Array = jax.Array

_GAIN = 1.7015043497085571
"""Keeps unit variance through a GELU of a standard normal input (arXiv:2102.06171, §2)."""
_FEW = 4
"""So many blocks are no loop: XLA for CPUs takes many times as long for a gradient inside one."""


@dataclasses.dataclass(frozen=True)
class VisionConfig:
    """Shape of the encoder; `nfnet_f` gives those of the paper.

    Attributes:
      image_size: side of the square input, pixels.
      stem: output channels of each 3x3 convolution of the stem.
      stem_strides: their strides.
      widths: output channels of each stage.
      depths: blocks of each stage.
      strides: stride of each stage's first block.
      bottleneck: hidden channels of a block as a share of its output channels.
      group_width: channels of a group in the 3x3 convolutions; None for one group.
      se_ratio: hidden channels of squeeze-excite as a share of the block's output channels.
      alpha: scale of the residual branch, h + alpha * gain * f(h / beta); 0.2 in NFNet-F.
      gain_init: initial SkipInit gain; 0 in NFNet-F, which a short run has no time to raise.
      features: C, channels of the last 1x1 convolution.
    """

    image_size: int = 64
    stem: tuple[int, ...] = (24, 48)
    stem_strides: tuple[int, ...] = (2, 2)
    widths: tuple[int, ...] = (64, 128, 256)
    depths: tuple[int, ...] = (1, 1, 2)
    strides: tuple[int, ...] = (1, 2, 2)
    bottleneck: float = 0.5
    group_width: int | None = None
    se_ratio: float = 0.5
    alpha: float = 1.0
    gain_init: float = 1.0
    features: int = 256

    def deviation(self, blocks: int) -> float:
        """Expected standard deviation after so many blocks of a stage, at the start.

        A transition's shortcut is normalised, so variance starts anew (arXiv:2101.08692, §3).
        """
        return (1.0 + blocks * self.alpha**2) ** 0.5

    @classmethod
    def nfnet_f(cls, variant: int) -> "VisionConfig":
        """NFNet-F0 to F6 (arXiv:2102.06171, table 1 and appendix C), without the classifier.

        The side of the images is that of the variant's own training; Flamingo's F6 sees 320 pixels.
        """
        return cls(
            image_size=(192, 224, 256, 320, 384, 416, 448)[variant],
            stem=(16, 32, 64, 128),
            stem_strides=(2, 1, 1, 2),
            widths=(256, 512, 1536, 1536),
            depths=tuple(blocks * (variant + 1) for blocks in (1, 2, 6, 3)),
            strides=(1, 2, 2, 2),
            bottleneck=0.5,
            group_width=128,
            se_ratio=0.5,
            alpha=0.2,
            gain_init=0.0,
            features=3072,
        )


def activation(x: Array) -> Array:
    """GELU scaled to preserve the variance of a standard normal input."""
    return nn.gelu(x) * _GAIN


def standardise(kernel: Array, gain: Array) -> Array:
    """Scaled weight standardisation (arXiv:2101.08692, eq. 1 and §4.1).

    Args:
      kernel: [h, w, I, O].
      gain: [O].

    Returns:
      gain * (kernel - mean) / sqrt(variance * fan_in), statistics over [h, w, I].
    """
    kernel, gain = kernel.astype(jnp.float32), gain.astype(jnp.float32)
    fan_in = kernel.shape[0] * kernel.shape[1] * kernel.shape[2]
    mean = jnp.mean(kernel, axis=(0, 1, 2))
    variance = jnp.var(kernel, axis=(0, 1, 2))
    # 1e-4, as the authors have it, bounds the scale of a kernel that has shrunk to nothing.
    return (kernel - mean) * (gain * jax.lax.rsqrt(jnp.maximum(variance * fan_in, 1e-4)))


def conv(x_MxHxWxI: Array, kernel_hxwxIxO: Array, stride: int = 1, groups: int = 1) -> Array:
    """Convolution with "SAME" padding: output sides are ceil(H / stride), ceil(W / stride)."""
    if kernel_hxwxIxO.shape[:2] == (1, 1) and stride == groups == 1:
        return x_MxHxWxI @ kernel_hxwxIxO[0, 0]  # on CPUs faster than as a convolution
    return jax.lax.conv_general_dilated(
        x_MxHxWxI,
        kernel_hxwxIxO,
        (stride, stride),
        "SAME",
        dimension_numbers=("NHWC", "HWIO", "NHWC"),
        feature_group_count=groups,
    )


def scaled_conv(
    x_MxHxWxI: Array, kernel_hxwxIxO: Array, gain: Array, bias: Array, stride: int, groups: int
) -> Array:
    """Convolution with the standardised kernel, in the type of `x`."""
    weights = standardise(kernel_hxwxIxO, gain).astype(x_MxHxWxI.dtype)
    return conv(x_MxHxWxI, weights, stride, groups) + bias.astype(x_MxHxWxI.dtype)


class ScaledWSConv(nn.Module):
    """Convolution with a standardised kernel, a gain and a bias for each output channel."""

    channels: int
    size: int = 1
    stride: int = 1
    groups: int = 1
    dtype: jnp.dtype = jnp.float32

    @nn.compact
    def __call__(self, x: Array) -> Array:
        shape = (self.size, self.size, x.shape[-1] // self.groups, self.channels)
        kernel = self.param("kernel", nn.initializers.lecun_normal(), shape)
        gain = self.param("gain", nn.initializers.ones, (self.channels,))
        bias = self.param("bias", nn.initializers.zeros, (self.channels,))
        return scaled_conv(x.astype(self.dtype), kernel, gain, bias, self.stride, self.groups)


class SqueezeExcite(nn.Module):
    """2 * sigmoid(MLP(mean over positions)) times the input; the 2 keeps its size at the start."""

    hidden: int
    dtype: jnp.dtype = jnp.float32

    @nn.compact
    def __call__(self, x_MxHxWxC: Array) -> Array:
        y = jnp.mean(x_MxHxWxC, axis=(1, 2))
        y = nn.relu(nn.Dense(self.hidden, dtype=self.dtype, name="down")(y))
        y = nn.Dense(x_MxHxWxC.shape[-1], dtype=self.dtype, name="up")(y)
        return 2 * nn.sigmoid(y)[:, None, None] * x_MxHxWxC


class Block(nn.Module):
    """Bottleneck residual block of NFNet-F: 1x1, 3x3, 3x3, 1x1, squeeze-excite, SkipInit.

    Attributes:
      config: the whole network's.
      channels: of the output.
      stride: of the first 3x3 convolution and of the shortcut's average pooling.
      transition: whether this is a stage's first block.
    """

    config: VisionConfig
    channels: int
    stride: int
    transition: bool
    dtype: jnp.dtype = jnp.float32

    @nn.compact
    def __call__(self, x: Array, beta: Array | float) -> Array:
        """`beta`: expected standard deviation of `x` at the start."""
        cfg, hidden = self.config, int(self.channels * self.config.bottleneck)
        groups = hidden // cfg.group_width if cfg.group_width else 1
        x = constrain(x, "images")
        y = activation(x) / beta
        shortcut = x
        if self.transition:
            window = (self.stride, self.stride)
            if self.stride > 1:  # of an odd side the last window is half as wide
                shortcut = nn.avg_pool(y, window, window, "SAME", count_include_pad=False)
            else:
                shortcut = y
            shortcut = ScaledWSConv(self.channels, dtype=self.dtype, name="shortcut")(shortcut)
        y = ScaledWSConv(hidden, dtype=self.dtype, name="conv_0")(y)
        y = ScaledWSConv(hidden, 3, self.stride, groups, self.dtype, name="conv_1")(activation(y))
        y = ScaledWSConv(hidden, 3, 1, groups, self.dtype, name="conv_2")(activation(y))
        y = ScaledWSConv(self.channels, dtype=self.dtype, name="conv_3")(activation(y))
        se_hidden = int(self.channels * cfg.se_ratio)
        y = SqueezeExcite(se_hidden, self.dtype, name="squeeze_excite")(y)
        skip_gain = self.param("skip_gain", nn.initializers.constant(cfg.gain_init), ())
        return shortcut + cfg.alpha * skip_gain.astype(self.dtype) * y


class Stage(nn.Module):
    """`depth` blocks of one width, the first with a stride and a shortcut of its own."""

    config: VisionConfig
    channels: int
    depth: int
    stride: int
    dtype: jnp.dtype = jnp.float32

    @nn.compact
    def __call__(self, x: Array, beta: float) -> Array:
        """`beta`: expected standard deviation of `x` at the start."""
        cfg, channels, more = self.config, self.channels, self.depth - 1
        x = Block(cfg, channels, self.stride, True, self.dtype, name="first")(x, beta)
        if not more:
            return x
        scanned = nn.scan(
            lambda block, x, beta: (block(x, beta), None),
            variable_axes={"params": 0},
            split_rngs={"params": True},
            length=more,
            unroll=0 if more <= _FEW else 1,  # 0 unrolls all
        )
        betas = jnp.array([cfg.deviation(b) for b in range(1, self.depth)], self.dtype)
        return scanned(Block(cfg, channels, 1, False, self.dtype, name="rest"), x, betas)[0]


class NFNet(nn.Module):
    """images_MxHxWx3, about standard normal -> grid [M, H', W', C]."""

    config: VisionConfig
    dtype: jnp.dtype = jnp.float32

    @nn.compact
    def __call__(self, images_MxHxWx3: Array) -> Array:
        cfg, x = self.config, images_MxHxWx3
        for i, (channels, stride) in enumerate(zip(cfg.stem, cfg.stem_strides, strict=True)):
            x = x if i == 0 else activation(x)
            x = ScaledWSConv(channels, 3, stride, 1, self.dtype, name=f"stem_{i}")(x)
        beta = 1.0
        for s, (channels, depth) in enumerate(zip(cfg.widths, cfg.depths, strict=True)):
            stage = Stage(cfg, channels, depth, cfg.strides[s], self.dtype, name=f"stage_{s}")
            x, beta = stage(x, beta), cfg.deviation(depth)
        x = ScaledWSConv(cfg.features, dtype=self.dtype, name="final")(x)
        return activation(x)


class VisionEncoder(nn.Module):
    """images_MxHxWx3, pixels 0..255 or normalised, -> features_MxPxC float32, standardised.

    `feature_mean_C` and `feature_scale_C` are measured after pretraining, not trained: 0 and 1
    until then.
    """

    config: VisionConfig
    dtype: jnp.dtype = jnp.float32

    @nn.compact
    def __call__(self, images_MxHxWx3: Array, normalised: bool = False) -> Array:
        images = images_MxHxWx3 if normalised else normalise(images_MxHxWx3)
        grid = NFNet(self.config, self.dtype, name="net")(constrain(images, "images"))
        channels = (self.config.features,)
        mean = self.param("feature_mean_C", nn.initializers.zeros, channels)
        scale = self.param("feature_scale_C", nn.initializers.ones, channels)
        features_MxPxC = grid.reshape(grid.shape[0], -1, grid.shape[-1]).astype(jnp.float32)
        mean, scale = jax.lax.stop_gradient((mean, scale))
        return (features_MxPxC - mean) / scale


def normalise(images: Array) -> Array:
    """Pixel values 0..255 to about zero mean and unit variance, float32."""
    return (images.astype(jnp.float32) - 127.5) / 73.9
