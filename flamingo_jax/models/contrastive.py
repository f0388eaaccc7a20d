"""Vision and text encoders trained against each other, and the two-term contrastive loss.

Flamingo (arXiv:2204.14198), §3.1.1 and appendix B.1.3: images and texts of a batch are embedded,
normalised and compared; each image should find its text and each text its image.

Axes: B batch, H and W pixels, D width of the language model's embeddings, E joint embedding.
"""

import dataclasses

import flax.linen as nn
import jax
import jax.numpy as jnp
import optax

from flamingo_jax.models.nfnet import VisionConfig, VisionEncoder

Array = jax.Array


@dataclasses.dataclass(frozen=True)
class ContrastiveConfig:
    """What surrounds the vision encoder while it is trained.

    Attributes:
      embedding: E, width of the joint space.
      text_hidden: hidden width of the text encoder.
      image_dropout: share of pooled visual features dropped in training.
      text_dropout: share of text inputs dropped in training.
      temperature: initial divisor of the cosine similarities; learned.
    """

    embedding: int = 128
    text_hidden: int = 512
    image_dropout: float = 0.1
    text_dropout: float = 0.2
    temperature: float = 0.1


class ImageTower(nn.Module):
    """images_BxHxWx3 -> unit vectors [B, E]: the encoder's grid, averaged and projected."""

    vision: VisionConfig
    config: ContrastiveConfig

    @nn.compact
    def __call__(self, images_BxHxWx3: Array, train: bool) -> Array:
        features_BxPxC = VisionEncoder(self.vision, name="encoder")(images_BxHxWx3)
        pooled_BxC = jnp.mean(features_BxPxC, axis=1)
        pooled_BxC = nn.Dropout(self.config.image_dropout, deterministic=not train)(pooled_BxC)
        return unit(nn.Dense(self.config.embedding, use_bias=False, name="project")(pooled_BxC))


class TextTower(nn.Module):
    """texts_BxD, means of frozen token embeddings -> unit vectors [B, E]."""

    config: ContrastiveConfig

    @nn.compact
    def __call__(self, texts_BxD: Array, train: bool) -> Array:
        x = nn.LayerNorm(name="norm")(texts_BxD)
        x = nn.Dropout(self.config.text_dropout, deterministic=not train)(x)
        y = nn.gelu(nn.Dense(self.config.text_hidden, name="up")(x))
        y = nn.Dense(self.config.embedding, use_bias=False, name="down")(y)
        return unit(y + nn.Dense(self.config.embedding, use_bias=False, name="skip")(x))


class ContrastiveModel(nn.Module):
    """Both towers and the learned temperature."""

    vision: VisionConfig
    config: ContrastiveConfig

    def setup(self) -> None:
        self.image = ImageTower(self.vision, self.config)
        self.text = TextTower(self.config)
        start = nn.initializers.constant(-jnp.log(self.config.temperature))
        self.log_scale = self.param("log_scale", start, ())

    def __call__(
        self, images_BxHxWx3: Array, texts_BxD: Array, train: bool = False
    ) -> tuple[Array, Array, Array]:
        """Unit vectors of images and texts, both [B, E], and the scale of their products."""
        scale = jnp.exp(jnp.minimum(self.log_scale, jnp.log(100.0)))
        return self.image(images_BxHxWx3, train), self.text(texts_BxD, train), scale

    def embed_image(self, images_BxHxWx3: Array) -> Array:
        """Unit vectors [B, E]."""
        return self.image(images_BxHxWx3, False)

    def embed_text(self, texts_BxD: Array) -> Array:
        """Unit vectors [B, E]."""
        return self.text(texts_BxD, False)


def unit(x: Array) -> Array:
    """x / |x| along the last axis; zero stays zero."""
    return x * jax.lax.rsqrt(jnp.sum(jnp.square(x), axis=-1, keepdims=True) + 1e-12)


def contrastive_loss(image_BxE: Array, text_BxE: Array, scale: Array) -> Array:
    """Sum of text-to-image and image-to-text cross-entropies (arXiv:2204.14198, eq. 2 and 3).

    Args:
      image_BxE: unit vectors, row i belonging to row i of `text_BxE`.
      text_BxE: unit vectors.
      scale: inverse temperature.
    """
    logits_BxB = scale * image_BxE @ text_BxE.T
    labels_B = jnp.arange(logits_BxB.shape[0])
    loss = optax.softmax_cross_entropy_with_integer_labels
    return jnp.mean(loss(logits_BxB, labels_B)) + jnp.mean(loss(logits_BxB.T, labels_B))
