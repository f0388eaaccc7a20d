"""Flamingo: a frozen language model that looks at images through gated cross-attention.

Flamingo (arXiv:2204.14198), §2 and figure 3. Variables live in two collections: `params` holds
what is trained (resampler and gated cross-attention; in two ablations the language model, too),
`frozen` what is not. Gradients are taken of `params` only.

Axes: B batch, T text tokens, S attended tokens, A answer positions, N media, F frames, P grid
positions, C feature channels, R latents a medium, D width, V vocabulary.
"""

import dataclasses
import functools
from collections.abc import Callable
from typing import Any, Literal

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from flamingo_jax.models.decoder import Context, DecoderConfig, DecoderLayer, Vocabulary
from flamingo_jax.models.layers import Remat, rematerialised
from flamingo_jax.models.nfnet import VisionConfig, VisionEncoder
from flamingo_jax.models.resampler import PerceiverResampler, ResamplerConfig
from flamingo_jax.models.vit import ViTConfig, ViTEncoder
from flamingo_jax.models.xattn import CrossAttentionConfig, GatedCrossAttentionDense, media_mask

Array = jax.Array

Language = Literal["frozen", "fine_tuned", "from_scratch"]

_SHARED: Any = nn.broadcast  # flax annotates `in_axes` as int


@dataclasses.dataclass(frozen=True)
class FlamingoConfig:
    """The two pretrained models, the resampler, the bridge, and the type they compute in.

    Attributes:
      decoder: the language model.
      resampler: the Perceiver Resampler.
      xattn: the gated cross-attention layers.
      vision: the frozen vision encoder; the type of its config tells which.
      language: whether the language model is `frozen` (the paper's), `fine_tuned` with the rest, or
        trained `from_scratch` with it.
      dtype: compute type by name, `float32` or `bfloat16`; parameters are float32.
      unroll: compile the layers one after another instead of a loop over them. A loop copies what
        the backward pass needs into stacked arrays and out again, which a CPU feels; without it
        compile time grows with the number of layers.
      remat: what each layer computes anew in the backward pass to save memory (arXiv:1604.06174):
        nothing, all but what products with weights and attention give (`dots`), or all (`full`).
    """

    decoder: DecoderConfig
    resampler: ResamplerConfig
    xattn: CrossAttentionConfig
    vision: VisionConfig | ViTConfig = dataclasses.field(default_factory=VisionConfig)
    language: Language = "frozen"
    dtype: str = "float32"
    unroll: bool = False
    remat: Remat = "none"

    def groups(self) -> tuple[int, int, int]:
        """(layers below the first cross-attention, whole groups, layers of a last short group)."""
        above = self.decoder.num_layers - self.xattn.first
        return self.xattn.first, above // self.xattn.every, above % self.xattn.every

    @property
    def num_bridges(self) -> int:
        """Cross-attention layers."""
        _, whole, rest = self.groups()
        return whole + bool(rest)


@dataclasses.dataclass(frozen=True)
class Seen:
    """What all groups of one call share: the media, who sees them, and the decoder's context."""

    media_BxNxRxD: Array | None
    mask_BxTxN: Array | None
    context: Context


jax.tree_util.register_dataclass(
    Seen, data_fields=["media_BxNxRxD", "mask_BxTxN", "context"], meta_fields=[]
)


def frozen(module: Any) -> Any:
    """The module class with its `params` kept in the `frozen` collection."""

    def to_params(variables: Any) -> Any:
        return {"params": variables["frozen"]} if "frozen" in variables else {}

    def to_frozen(variables: Any) -> Any:
        return {"frozen": variables["params"]} if "params" in variables else {}

    def build(*args: Any, init: bool, **kwargs: Any) -> Any:
        methods = [name for name in ("embed", "logits", "loss") if hasattr(module, name)]
        mapped: Any = nn.map_variables(
            module,
            ("frozen", "params"),
            to_params,
            to_frozen,
            init=init,
            mutable=init,
            methods=[*methods, "__call__"],
        )
        return mapped(*args, **kwargs)

    return build


def pretrained(config: FlamingoConfig, module: Any, init: bool) -> Any:
    """The class of a part of the language model: trained with the rest, or `frozen`."""
    return functools.partial(frozen(module), init=init) if config.language == "frozen" else module


class DecoderLayers(nn.Module):
    """`num` decoder layers, scanned. [B, T, D] -> [B, T, D]."""

    config: FlamingoConfig
    num: int

    @nn.compact
    def __call__(self, x_BxTxD: Array, context: Context) -> Array:
        cfg = self.config
        scanned = nn.scan(
            lambda layer, x, context: (layer(x, context), None),
            variable_axes={"params": 0},
            split_rngs={"params": True},
            in_axes=_SHARED,
            length=self.num,
            unroll=self.num if cfg.unroll else 1,
        )
        # Inside a loop nothing can be shared between the passes.
        layer = rematerialised(DecoderLayer, cfg.remat, shared=cfg.unroll)
        layers = layer(cfg.decoder, jnp.dtype(cfg.dtype), name="layers")
        return scanned(layers, x_BxTxD, context)[0]


class Group(nn.Module):
    """One gated cross-attention layer and the `num` language layers after it."""

    config: FlamingoConfig
    num: int

    @nn.compact
    def __call__(self, x_BxTxD: Array, seen: Seen) -> Array:
        cfg = self.config
        if cfg.xattn.conditioning != "grafting":
            x_BxTxD = look(cfg, x_BxTxD, seen)
        layers = pretrained(cfg, DecoderLayers, self.is_initializing())
        return layers(cfg, self.num, name="language")(x_BxTxD, seen.context)


def look(config: FlamingoConfig, x_BxTxD: Array, seen: Seen) -> Array:
    """The cross-attention layer of the module that calls this; the identity without media."""
    if seen.media_BxNxRxD is None or seen.mask_BxTxN is None:
        return x_BxTxD
    layer = rematerialised(GatedCrossAttentionDense, config.remat, shared=config.unroll)
    bridge = layer(config.xattn, jnp.dtype(config.dtype), name="xattn")
    return bridge(x_BxTxD, seen.media_BxNxRxD, seen.mask_BxTxN)


class Graft(nn.Module):
    """A new layer on top of the language model: cross-attention, then a decoder layer."""

    config: FlamingoConfig

    @nn.compact
    def __call__(self, x_BxTxD: Array, seen: Seen) -> Array:
        x_BxTxD = look(self.config, x_BxTxD, seen)
        layer = rematerialised(DecoderLayer, self.config.remat, shared=self.config.unroll)
        dtype = jnp.dtype(self.config.dtype)
        return layer(self.config.decoder, dtype, name="layer")(x_BxTxD, seen.context)


class LanguageModel(nn.Module):
    """The decoder with the new layers between its own, or on top of them."""

    config: FlamingoConfig

    @nn.compact
    def __call__(
        self,
        tokens_BxT: Array,
        seen: Seen,
        at_BxA: Array | None = None,
        scored: tuple[Array, Array] | None = None,
    ) -> Array:
        """Next-token logits, float32 [B, T, V], or [B, A, V] at the positions `at_BxA`.

        With `scored`, targets [B, A] and their weights [B, A], the mean loss of these instead.
        """
        cfg, init = self.config, self.is_initializing()
        decoder, dtype = cfg.decoder, jnp.dtype(cfg.dtype)
        vocabulary = pretrained(cfg, Vocabulary, init)(decoder, dtype, name="vocabulary")
        if cfg.xattn.project_media and seen.media_BxNxRxD is not None:
            media = nn.Dense(decoder.width, use_bias=False, dtype=dtype, name="media")
            seen = dataclasses.replace(seen, media_BxNxRxD=media(seen.media_BxNxRxD))
        x_BxTxD = vocabulary.embed(tokens_BxT, seen.context.positions_BxT)
        below, whole, rest = cfg.groups()
        if below:
            layers = pretrained(cfg, DecoderLayers, init)(cfg, below, name="below")
            x_BxTxD = layers(x_BxTxD, seen.context)
        if whole:
            x_BxTxD, _ = self._scanned(whole)(
                Group(cfg, cfg.xattn.every, name="groups"), x_BxTxD, seen
            )
        if rest:
            x_BxTxD = Group(cfg, rest, name="last_group")(x_BxTxD, seen)
        if cfg.xattn.conditioning == "grafting" and seen.media_BxNxRxD is not None:
            x_BxTxD, _ = self._scanned(cfg.num_bridges)(Graft(cfg, name="grafts"), x_BxTxD, seen)
        if at_BxA is not None:
            x_BxTxD = jnp.take_along_axis(x_BxTxD, at_BxA[..., None], axis=1)
        return vocabulary.logits(x_BxTxD) if scored is None else vocabulary.loss(x_BxTxD, *scored)

    def _scanned(self, length: int) -> Any:
        """`length` layers of a kind, one after another, as a loop over stacked variables."""
        return nn.scan(
            lambda layer, x, seen: (layer(x, seen), None),
            variable_axes={"params": 0, "frozen": 0},
            split_rngs={"params": True},
            in_axes=_SHARED,
            length=length,
            unroll=length if self.config.unroll else 1,
        )


class FlamingoModel(nn.Module):
    """Text and images, as features or as pixels, in; next-token logits out."""

    config: FlamingoConfig

    def setup(self) -> None:
        dtype = jnp.dtype(self.config.dtype)
        init = self.is_initializing()
        vision = self.config.vision
        encoder = ViTEncoder if isinstance(vision, ViTConfig) else VisionEncoder
        self.vision = frozen(encoder)(vision, dtype, init=init)
        self.resampler = PerceiverResampler(self.config.resampler, dtype, self.config.remat)
        self.language = LanguageModel(self.config)

    def __call__(
        self,
        tokens_BxT: Array,
        features_BxNxFxPxC: Array | None = None,
        media_index_BxT: Array | None = None,
        at_BxA: Array | None = None,
    ) -> Array:
        """Next-token logits of whole sequences.

        Args:
          tokens_BxT: int32.
          features_BxNxFxPxC: visual features; None is the language model alone.
          media_index_BxT: int32, 1-based medium each token sees, 0 for none (φ of §2.3).
          at_BxA: int32 positions whose logits are wanted; None for all.

        Returns:
          float32 [B, T, V], or [B, A, V] with `at_BxA`.
        """
        media = None if features_BxNxFxPxC is None else self.resample(features_BxNxFxPxC)
        context = causal_context(*tokens_BxT.shape)
        return self.decode(tokens_BxT, media, media_index_BxT, context, at_BxA)

    def loss(
        self,
        tokens_BxT: Array,
        features_BxNxFxPxC: Array,
        media_index_BxT: Array,
        at_BxA: Array,
        targets_BxA: Array,
        weights_BxA: Array,
    ) -> Array:
        """Weighted mean of -log p(target) at positions `at_BxA`; eq. 1. float32 scalar.

        Args are those of `__call__`; it is 0 where all weights are.
        """
        media = self.resample(features_BxNxFxPxC)
        context = causal_context(*tokens_BxT.shape)
        scored = (targets_BxA, weights_BxA)
        return self.decode(tokens_BxT, media, media_index_BxT, context, at_BxA, scored)

    def from_pixels(
        self, tokens_BxT: Array, images_BxNxFxHxWx3: Array, media_index_BxT: Array
    ) -> Array:
        """`__call__` on images of pixels 0..255, through the vision encoder."""
        shape = images_BxNxFxHxWx3.shape
        features_MxPxC = self.encode(images_BxNxFxHxWx3.reshape(-1, *shape[-3:]))
        features = features_MxPxC.reshape(*shape[:3], *features_MxPxC.shape[1:])
        return self(tokens_BxT, features, media_index_BxT)

    def encode(self, images_MxHxWx3: Array, normalised: bool = False) -> Array:
        """Images, pixels 0..255 or `normalised`, to features_MxPxC, float32."""
        return self.vision(images_MxHxWx3, normalised)

    def resample(self, features_BxNxFxPxC: Array) -> Array:
        """Visual features to media_BxNxRxD."""
        return self.resampler(features_BxNxFxPxC)

    def decode(
        self,
        tokens_BxT: Array,
        media_BxNxRxD: Array | None,
        media_index_BxT: Array | None,
        context: Context,
        at_BxA: Array | None = None,
        scored: tuple[Array, Array] | None = None,
    ) -> Array:
        """Logits of tokens whose positions and visibility `context` tells; see `LanguageModel`."""
        mask = None
        if media_BxNxRxD is not None and media_index_BxT is not None:
            sees = self.config.xattn.sees
            mask = media_mask(media_index_BxT, media_BxNxRxD.shape[1], sees)
        return self.language(tokens_BxT, Seen(media_BxNxRxD, mask, context), at_BxA, scored)


def causal_context(batch: int, length: int) -> Context:
    """Positions 0..T-1, each token attending to itself and all before it."""
    positions = jnp.broadcast_to(jnp.arange(length), (batch, length))
    return Context(positions, positions[:, :, None] >= positions[:, None, :])


def gates(config: FlamingoConfig, params: Any) -> dict[str, Any]:
    """Raw α by language layer: `{"layers": [...], "alpha_xattn": [...], "alpha_dense": [...]}`.

    The mean over channels of gates that are vectors; no α where there are no gates.

    Args:
      config: the model's.
      params: its trained parameters.
    """
    below, whole, rest = config.groups()
    bridges = params["language"]
    parts = [bridges["groups"]] if whole else []
    parts += [bridges["last_group"]] if rest else []
    if config.xattn.conditioning == "grafting":
        parts = [bridges["grafts"]]
    found: dict[str, list[float]] = {"alpha_xattn": [], "alpha_dense": []}
    for name, values in found.items() if config.xattn.gated else ():
        for part in parts:
            alpha = np.atleast_1d(np.asarray(part["xattn"][name]))
            stacked = part is not bridges.get("last_group")
            values.extend(alpha.reshape(len(alpha) if stacked else 1, -1).mean(-1).tolist())
    every = config.xattn.every
    return {"layers": [below + i * every for i in range(config.num_bridges)], **found}


def stack_layers(
    layers: list[Any], config: FlamingoConfig, stacked: Callable[[list[Any]], Any] | None = None
) -> dict[str, Any]:
    """One tree a decoder layer to the scanned form that `LanguageModel` keeps of them.

    Args:
      layers: in order.
      config: of the model.
      stacked: trees of one structure to one with a new leading axis; None stacks arrays.
    """
    stacked = stacked or _stacked
    below, whole, rest = config.groups()
    every = config.xattn.every
    tree: dict[str, Any] = {}
    if below:
        tree["below"] = {"layers": stacked(layers[:below])}
    if whole:
        groups = [
            stacked(layers[i : i + every]) for i in range(below, below + whole * every, every)
        ]
        tree["groups"] = {"language": {"layers": stacked(groups)}}
    if rest:
        tree["last_group"] = {"language": {"layers": stacked(layers[-rest:])}}
    return tree


def _stacked(parts: list[Any]) -> Any:
    return jax.tree.map(lambda *leaves: np.stack(leaves), *parts)
