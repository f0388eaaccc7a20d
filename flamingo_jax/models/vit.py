"""Vision Transformer of CLIP and the frozen vision encoder made of it.

Dosovitskiy et al. (arXiv:2010.11929) as CLIP has it (arXiv:2103.00020, §2.4): a class token, a
LayerNorm before the first layer, and GELU taken as x sigmoid(1.702 x). Flamingo-style models read
features after the last layer, before CLIP's last LayerNorm: the patches', some the class token's,
too.

Axes: M images, H and W pixels, P patches, L tokens (the class token and P patches), D width, K
heads, C head width.
"""

import dataclasses

import flax.linen as nn
import jax
import jax.numpy as jnp

from flamingo_jax.models.attention import attend
from flamingo_jax.models.axes import constrain
from flamingo_jax.models.layers import Activation, FeedForward, into_heads, out_of_heads

Array = jax.Array


@dataclasses.dataclass(frozen=True)
class ViTConfig:
    """Shape of the encoder; the defaults are those of CLIP ViT-L/14.

    Attributes:
      image_size: side of the square input, pixels.
      patch_size: side of a patch, pixels.
      width: D.
      num_layers: Transformer layers.
      num_heads: K; heads are D / K wide.
      mlp_dim: hidden width of the feed-forward.
      norm_eps: epsilon of the norms.
      activation: of the feed-forward.
      class_token: whether its features come before the patches'.
      mean: of the channels of images, pixels 0 to 1; taken off.
      scale: their standard deviation; divided by.
    """

    image_size: int = 224
    patch_size: int = 14
    width: int = 1024
    num_layers: int = 24
    num_heads: int = 16
    mlp_dim: int = 4096
    norm_eps: float = 1e-5
    activation: Activation = "quick_gelu"
    class_token: bool = False
    mean: tuple[float, ...] = (0.48145466, 0.4578275, 0.40821073)
    scale: tuple[float, ...] = (0.26862954, 0.26130258, 0.27577711)


def patches(images_MxHxWx3: Array, size: int) -> Array:
    """Square patches row by row, [M, P, size * size * 3]."""
    M, H, W, channels = images_MxHxWx3.shape
    grid = images_MxHxWx3.reshape(M, H // size, size, W // size, size, channels)
    return grid.swapaxes(2, 3).reshape(M, (H // size) * (W // size), size * size * channels)


class ViTLayer(nn.Module):
    """x += attention(norm(x)); x += mlp(norm(x)). [M, L, D] -> [M, L, D]."""

    config: ViTConfig
    dtype: jnp.dtype = jnp.float32

    @nn.compact
    def __call__(self, x_MxLxD: Array) -> Array:
        cfg, x_MxLxD = self.config, constrain(x_MxLxD, "images")
        x_MxLxD += self._attention(nn.LayerNorm(cfg.norm_eps, self.dtype, name="norm_1")(x_MxLxD))
        y = nn.LayerNorm(cfg.norm_eps, self.dtype, name="norm_2")(x_MxLxD)
        return x_MxLxD + FeedForward(cfg.mlp_dim, cfg.activation, True, self.dtype, name="mlp")(y)

    def _attention(self, x_MxLxD: Array) -> Array:
        cfg = self.config
        shape = (cfg.num_heads, cfg.width // cfg.num_heads)
        q, k, v = (
            into_heads(*shape, self.dtype, name, bias=True)(x_MxLxD)
            for name in ("query", "key", "value")
        )
        return out_of_heads(cfg.width, self.dtype, bias=True)(attend(q, k, v))


class ViT(nn.Module):
    """Normalised images to features, [M, H, W, 3] -> [M, P, D], or [M, L, D] with the class token.

    Sows the class token after CLIP's last LayerNorm, [M, D], as `pooled` into the collection
    `intermediates` if that is asked for.
    """

    config: ViTConfig
    dtype: jnp.dtype = jnp.float32

    @nn.compact
    def __call__(self, images_MxHxWx3: Array) -> Array:
        cfg = self.config
        normal = nn.initializers.normal(0.02)
        cut = patches(images_MxHxWx3, cfg.patch_size)
        x = nn.Dense(cfg.width, use_bias=False, dtype=self.dtype, name="patch")(cut)
        M, P, D = x.shape
        first = self.param("class_D", normal, (D,)).astype(x.dtype)
        x_MxLxD = jnp.concatenate([jnp.broadcast_to(first, (M, 1, D)), x], axis=1)
        x_MxLxD += self.param("position_LxD", normal, (P + 1, D)).astype(x.dtype)
        x_MxLxD = nn.LayerNorm(cfg.norm_eps, self.dtype, name="pre_norm")(x_MxLxD)
        scanned = nn.scan(
            lambda layer, x: (layer(x), None),
            variable_axes={"params": 0},
            split_rngs={"params": True},
            length=cfg.num_layers,
        )
        x_MxLxD, _ = scanned(ViTLayer(cfg, self.dtype, name="layers"), x_MxLxD)
        pooled = nn.LayerNorm(cfg.norm_eps, self.dtype, name="post_norm")(x_MxLxD[:, 0])
        self.sow("intermediates", "pooled", pooled)
        return x_MxLxD if cfg.class_token else x_MxLxD[:, 1:]


class ViTEncoder(nn.Module):
    """images_MxHxWx3, pixels 0..255 or normalised, -> features_MxPxD float32."""

    config: ViTConfig
    dtype: jnp.dtype = jnp.float32

    @nn.compact
    def __call__(self, images_MxHxWx3: Array, normalised: bool = False) -> Array:
        images = images_MxHxWx3
        if not normalised:
            mean, scale = jnp.array(self.config.mean), jnp.array(self.config.scale)
            images = (images.astype(jnp.float32) / 255 - mean) / scale
        return ViT(self.config, self.dtype, name="net")(images).astype(jnp.float32)
