"""The new layers as flamingo-pytorch lays them out, whose form OpenFlamingo and flamingo-mini keep.

github.com/lucidrains/flamingo-pytorch: attention as `to_q`, `to_kv` (keys first) and `to_out`,
feed-forwards as sequences of norm (0), projection up (1), activation (2) and projection down (3).
"""

from flamingo_jax.checkpoints.layers import Tree, take_fused, take_linear, take_norm
from flamingo_jax.checkpoints.tensors import Source, Tensor
from flamingo_jax.models.flamingo import FlamingoConfig
from flamingo_jax.models.resampler import ResamplerConfig


def read_perceiver(source: Source, at: str, config: ResamplerConfig) -> Tree:
    """The tree of `models.resampler.PerceiverResampler` but for the time embeddings.

    Args:
      source: the tensors.
      at: start of the names.
      config: of the resampler.

    Raises:
      UserError: a tensor is missing or has another shape.
    """
    width, hidden = config.width, config.mlp_multiplier * config.width
    heads = (config.num_heads, config.head_dim)
    tree: Tree = {
        "latents": source.take(f"{at}latents", (config.num_latents, width)),
        "norm": take_norm(source, f"{at}norm", width),
    }
    for i in range(config.num_layers):
        layer = f"{at}layers.{i}"
        tree[f"attention_{i}"] = {
            "features_norm": take_norm(source, f"{layer}.0.norm_media", width),
            "latents_norm": take_norm(source, f"{layer}.0.norm_latents", width),
            **_attention(source, f"{layer}.0.", heads, width, width),
        }
        norm, mlp = _feed_forward(source, f"{layer}.1.", width, hidden)
        tree[f"mlp_norm_{i}"], tree[f"mlp_{i}"] = norm, mlp
    return tree


def read_bridge(
    source: Source, at: str, config: FlamingoConfig, mlp: str, gates: tuple[str, str]
) -> Tree:
    """The tree of one `models.xattn.GatedCrossAttentionDense`.

    Args:
      source: the tensors.
      at: start of the names.
      config: of the model.
      mlp: name of the feed-forward.
      gates: names of the attention's gate and of the feed-forward's.

    Raises:
      UserError: a tensor is missing or has another shape.
    """
    xattn, width = config.xattn, config.decoder.width
    heads = (xattn.num_heads, xattn.head_dim)
    norm, dense = _feed_forward(source, f"{at}{mlp}.", width, xattn.mlp_multiplier * width)

    def gate(name: str) -> Tensor:
        return source.take(f"{at}{name}", (1,)).map(lambda alpha: alpha.reshape(()), ())

    return {
        "attention": {
            "norm": take_norm(source, f"{at}attn.norm", width),
            **_attention(source, f"{at}attn.", heads, width, config.resampler.width),
        },
        "alpha_xattn": gate(gates[0]),
        "mlp_norm": norm,
        "mlp": dense,
        "alpha_dense": gate(gates[1]),
    }


def _attention(source: Source, at: str, heads: tuple[int, int], width: int, seen: int) -> Tree:
    """Projections of rows of one width that attend to rows of another."""
    if source.has(f"{at}to_k.weight"):
        key, value = (take_linear(source, f"{at}to_{x}", (seen,), heads, False) for x in "kv")
    else:
        key, value = take_fused(source, f"{at}to_kv.", seen, 2, heads, False)
    return {
        "query": take_linear(source, f"{at}to_q", (width,), heads, False),
        "key": key,
        "value": value,
        "out": take_linear(source, f"{at}to_out", heads, (width,), False),
    }


def _feed_forward(source: Source, at: str, width: int, hidden: int) -> tuple[Tree, Tree]:
    """Its norm and its two projections."""
    up = take_linear(source, f"{at}1", (width,), (hidden,), False)
    down = take_linear(source, f"{at}3", (hidden,), (width,), False)
    return take_norm(source, f"{at}0", width), {"up": up, "down": down}
