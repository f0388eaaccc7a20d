"""The language model: one configurable decoder for all published families.

What sets the families apart are plain fields of one config:

- Llama (arXiv:2302.13971) and SmolLM2 (arXiv:2502.02737): RMSNorm, rotary positions
  (arXiv:2104.09864), grouped-query attention (arXiv:2305.13245), SwiGLU.
- MPT (MosaicML, 2023): LayerNorm without biases, ALiBi (arXiv:2108.12409), GELU.
- GPT-NeoX (arXiv:2204.06745), Pythia and RedPajama: LayerNorm, rotary positions on a share of each
  head's channels, biases, attention and feed-forward side by side.
- OPT (arXiv:2205.01068): learned positions, LayerNorm, biases, ReLU.
- Chinchilla (arXiv:2203.15556, after Gopher, arXiv:2112.11446, §3.1): RMSNorm and the relative
  positions of Transformer-XL (arXiv:1901.02860).

Axes: B batch, T text tokens, S cached or attended tokens, D width, E width of the embedding,
K heads, G key-value heads, C head width, V vocabulary.
"""

import dataclasses
from typing import Any, Literal

import flax.linen as nn
import jax
import jax.numpy as jnp

from flamingo_jax.models import likelihood
from flamingo_jax.models.attention import attend
from flamingo_jax.models.axes import constrain
from flamingo_jax.models.layers import (
    Activation,
    FeedForward,
    Norm,
    into_heads,
    make_norm,
    out_of_heads,
)
from flamingo_jax.models.positions import alibi, distances, rotate, sinusoids

Array = jax.Array


@dataclasses.dataclass(frozen=True)
class DecoderConfig:
    """Shape of a decoder-only language model. The defaults are Llama's.

    Attributes:
      vocab_size: rows of the token embedding.
      width: D.
      num_layers: decoder layers.
      num_heads: K query heads.
      num_kv_heads: G key-value heads; K must be a multiple of it.
      head_dim: C.
      mlp_dim: hidden width of the feed-forward.
      rope_base: wavelength base of the rotary positions.
      norm_eps: epsilon of the norms.
      norm: RMSNorm or LayerNorm.
      norm_bias: whether LayerNorm has biases.
      positions: `rotary` embedding of queries and keys, ALiBi's bias on their products, a table of
        `learned` embeddings added to the tokens', or Transformer-XL's `relative` ones.
      rotary_share: share of each head's channels that is rotated.
      max_positions: rows of the table of learned positions.
      mlp: gated by SiLU (`swiglu`), or a plain one with this activation.
      attention_bias: whether the attention's projections have biases.
      mlp_bias: whether the feed-forward's do.
      parallel: attention and feed-forward both read the layer's input.
      post_norm: norms after the residual sums and none at the end, as OPT-350m has them.
      qk_norm: norm of all queries, and of all keys, of a token, before they are split into heads.
      clip_qkv: bound on the absolute values of queries, keys and values; None for none.
      tied: the token embedding is the output projection too.
      embedding_width: E, if tokens are embedded in another width and projected; None for D.
    """

    vocab_size: int
    width: int
    num_layers: int
    num_heads: int
    num_kv_heads: int
    head_dim: int
    mlp_dim: int
    rope_base: float = 10_000.0
    norm_eps: float = 1e-5
    norm: Norm = "rms"
    norm_bias: bool = False
    positions: Literal["rotary", "alibi", "learned", "relative"] = "rotary"
    rotary_share: float = 1.0
    max_positions: int = 0
    mlp: Activation = "swiglu"
    attention_bias: bool = False
    mlp_bias: bool = False
    parallel: bool = False
    post_norm: bool = False
    qk_norm: bool = False
    clip_qkv: float | None = None
    tied: bool = True
    embedding_width: int | None = None

    @classmethod
    def smollm2_135m(cls) -> "DecoderConfig":
        """SmolLM2-135M (arXiv:2502.02737, table of model shapes)."""
        return cls(49_152, 576, 30, 9, 3, 64, 1536, rope_base=100_000.0)

    @classmethod
    def chinchilla(cls, layers: int, width: int, heads: int) -> "DecoderConfig":
        """A Chinchilla of the family of Hoffmann et al. (arXiv:2203.15556, table A9).

        Heads of 128 channels, a feed-forward of 4 D, and 32,000 tokens (§3.1 of arXiv:2112.11446).
        """
        return cls(
            vocab_size=32_000,
            width=width,
            num_layers=layers,
            num_heads=heads,
            num_kv_heads=heads,
            head_dim=128,
            mlp_dim=4 * width,
            positions="relative",
            mlp="gelu",
        )


@dataclasses.dataclass(frozen=True)
class Context:
    """What every decoder layer of one call shares.

    Attributes:
      positions_BxT: int32 positions for the rotary embedding.
      mask_BxTxS: bool, True where token t may attend to token s.
      cache_index: None without a cache, else the int32 slot at which this call's keys are written.
    """

    positions_BxT: Array
    mask_BxTxS: Array
    cache_index: Array | None = None


jax.tree_util.register_dataclass(
    Context, data_fields=["positions_BxT", "mask_BxTxS", "cache_index"], meta_fields=[]
)


class Attention(nn.Module):
    """Causal self-attention with an optional key-value cache."""

    config: DecoderConfig
    dtype: jnp.dtype = jnp.float32

    @nn.compact
    def __call__(self, x_BxTxD: Array, context: Context) -> Array:
        cfg, mask_BxTxS = self.config, context.mask_BxTxS
        q = self._project(x_BxTxD, cfg.num_heads, "query")
        k = self._project(x_BxTxD, cfg.num_kv_heads, "key")
        v = self._project(x_BxTxD, cfg.num_kv_heads, "value")
        if cfg.qk_norm:
            q, k = self._norm(q, "query_norm"), self._norm(k, "key_norm")
        if cfg.positions == "rotary":
            q = rotate(q, context.positions_BxT, cfg.rope_base, cfg.rotary_share)
            k = rotate(k, context.positions_BxT, cfg.rope_base, cfg.rotary_share)
        if context.cache_index is not None:
            k, v = self._cached(k, v, context.cache_index, mask_BxTxS.shape[-1])
        bias_BxKxTxS = None
        if cfg.positions == "alibi":
            bias_BxKxTxS = alibi(cfg.num_heads, mask_BxTxS)
        elif cfg.positions == "relative":
            q, bias_BxKxTxS = self._relative(q, mask_BxTxS)
        out = attend(q, k, v, mask_BxTxS, bias_BxKxTxS)
        return out_of_heads(cfg.width, self.dtype, cfg.attention_bias)(out)

    def _project(self, x_BxTxD: Array, heads: int, name: str) -> Array:
        cfg = self.config
        project = into_heads(heads, cfg.head_dim, self.dtype, name, cfg.attention_bias)
        projected = project(x_BxTxD)
        if cfg.clip_qkv is None:
            return projected
        return jnp.clip(projected, -cfg.clip_qkv, cfg.clip_qkv)

    def _norm(self, x_BxTxKxC: Array, name: str) -> Array:
        cfg, shape = self.config, x_BxTxKxC.shape
        norm = make_norm(cfg.norm, cfg.norm_eps, self.dtype, name, cfg.norm_bias)
        return norm(x_BxTxKxC.reshape(*shape[:2], -1)).reshape(shape)

    def _relative(self, q_BxTxKxC: Array, mask_BxTxS: Array) -> tuple[Array, Array]:
        """Queries with u added, and the products with positions (arXiv:1901.02860, §3.3).

        The bias is scaled as the products of queries and keys are.
        """
        cfg, S = self.config, mask_BxTxS.shape[-1]
        shape = (cfg.num_heads, cfg.head_dim)
        u_KxC = self.param("content_bias", nn.initializers.zeros, shape).astype(self.dtype)
        v_KxC = self.param("position_bias", nn.initializers.zeros, shape).astype(self.dtype)
        project = into_heads(*shape, self.dtype, "position")
        r_SxKxC = project(sinusoids(S, cfg.width))
        q_BxKxTxC = (q_BxTxKxC + v_KxC).swapaxes(1, 2) * cfg.head_dim**-0.5
        by_distance_BxKxTxS = jnp.matmul(
            q_BxKxTxC, r_SxKxC.transpose(1, 2, 0), preferred_element_type=jnp.float32
        )
        behind_Bx1xTxS = distances(mask_BxTxS)[:, None]
        bias = jnp.take_along_axis(by_distance_BxKxTxS, behind_Bx1xTxS, axis=-1)
        return q_BxTxKxC + u_KxC, bias

    def _cached(self, k: Array, v: Array, index: Array, size: int) -> tuple[Array, Array]:
        """Writes this call's keys and values at slot `index`; returns all `size` of them."""
        B, _, G, C = k.shape
        shape = (B, size, G, C)
        start = (0, index, 0, 0)
        cached = []
        for name, new in (("key", k), ("value", v)):
            slot = self.variable("cache", f"cached_{name}", jnp.zeros, shape, new.dtype)
            slot.value = jax.lax.dynamic_update_slice(slot.value, new, start)
            cached.append(slot.value)
        return cached[0], cached[1]


class DecoderLayer(nn.Module):
    """x += attention(norm(x)); x += mlp(norm(x)). [B, T, D] -> [B, T, D]."""

    config: DecoderConfig
    dtype: jnp.dtype = jnp.float32

    @nn.compact
    def __call__(self, x_BxTxD: Array, context: Context) -> Array:
        cfg, x_BxTxD = self.config, constrain(x_BxTxD, "batch", "length", "hidden")

        def norm(name: str) -> Any:
            return make_norm(cfg.norm, cfg.norm_eps, self.dtype, name, cfg.norm_bias)

        attention = Attention(cfg, self.dtype, name="attention")
        mlp = FeedForward(cfg.mlp_dim, cfg.mlp, cfg.mlp_bias, self.dtype, name="mlp")
        if cfg.post_norm:
            x_BxTxD = norm("attention_norm")(x_BxTxD + attention(x_BxTxD, context))
            return norm("mlp_norm")(x_BxTxD + mlp(x_BxTxD))
        attended = attention(norm("attention_norm")(x_BxTxD), context)
        if cfg.parallel:
            return x_BxTxD + attended + mlp(norm("mlp_norm")(x_BxTxD))
        x_BxTxD += attended
        return x_BxTxD + mlp(norm("mlp_norm")(x_BxTxD))


class Vocabulary(nn.Module):
    """Both ends of the language model: tokens to hidden states, hidden states to logits."""

    config: DecoderConfig
    dtype: jnp.dtype = jnp.float32

    def setup(self) -> None:
        cfg, normal = self.config, nn.initializers.normal(0.02)
        width = cfg.embedding_width or cfg.width
        shape = (cfg.vocab_size, width)
        self.embedding = self.param("embedding", normal, shape)
        self.head = None if cfg.tied else self.param("head", normal, shape)
        if cfg.positions == "learned":
            self.position = self.param("position", normal, (cfg.max_positions, cfg.width))
        if width != cfg.width:
            self.project_in = nn.Dense(cfg.width, use_bias=False, dtype=self.dtype)
            self.project_out = nn.Dense(width, use_bias=False, dtype=self.dtype)
        if not cfg.post_norm:
            self.norm = make_norm(cfg.norm, cfg.norm_eps, self.dtype, None, cfg.norm_bias)

    def embed(self, tokens_BxT: Array, positions_BxT: Array) -> Array:
        """Hidden states [B, T, D] below the first layer."""
        x = jnp.take(self.embedding.astype(self.dtype), tokens_BxT, axis=0)
        if (self.config.embedding_width or self.config.width) != self.config.width:
            x = self.project_in(x)
        if self.config.positions == "learned":
            # Padding may stand beyond the last position, and NaN there would spread.
            x += jnp.take(self.position.astype(self.dtype), positions_BxT, axis=0, mode="clip")
        return x

    def logits(self, x_BxTxD: Array) -> Array:
        """Next-token logits, float32 [B, T, V]."""
        return likelihood.all_logits(*self._last(x_BxTxD))

    def loss(self, x_BxTxD: Array, targets_BxT: Array, weights_BxT: Array) -> Array:
        """Weighted mean of -log p(target), a float32 scalar."""
        return likelihood.mean_loss(*self._last(x_BxTxD), targets_BxT, weights_BxT)

    def _last(self, x_BxTxD: Array) -> tuple[Array, Array]:
        """Last hidden states [B, T, E], and the table [V, E] whose rows they are compared with."""
        x = x_BxTxD if self.config.post_norm else self.norm(x_BxTxD)
        if (self.config.embedding_width or self.config.width) != self.config.width:
            x = self.project_out(x)
        table_VxE = self.embedding if self.head is None else self.head
        return x, table_VxE.astype(self.dtype)

    def __call__(self, tokens_BxT: Array, positions_BxT: Array) -> Array:
        """Logits of the embeddings alone; makes all variables."""
        return self.logits(self.embed(tokens_BxT, positions_BxT))
