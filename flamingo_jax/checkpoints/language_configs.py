"""Options of Hugging Face's language models to the decoder's config; none is passed over."""

from flamingo_jax.checkpoints.options import Options
from flamingo_jax.models.decoder import DecoderConfig
from flamingo_jax.models.layers import Activation

ACTIVATIONS: dict[str, Activation] = {
    "gelu": "gelu",
    "gelu_new": "gelu_tanh",
    "gelu_fast": "gelu_tanh",
    "gelu_pytorch_tanh": "gelu_tanh",
    "quick_gelu": "quick_gelu",
    "relu": "relu",
    "relu2": "squared_relu",
}
"""Our names of transformers' activations."""


def llama_config(options: Options) -> DecoderConfig:
    """Llama's, and Mistral's where its window is as long as its sequences."""
    mistral = options.values["model_type"] == "mistral"
    width, heads = options.count("hidden_size"), options.count("num_attention_heads")
    kv_heads = options.count("num_key_value_heads", 8 if mistral else heads)
    if heads % kv_heads:
        raise options.wrong("num_key_value_heads", kv_heads, f"a divisor of {heads}")
    options.only("hidden_act", "silu", default="silu")
    longest = options.count("max_position_embeddings", 131_072 if mistral else 2048)
    window = options.values.get("sliding_window", 4096 if mistral else None)
    if window is not None and not (mistral and window >= longest):
        raise options.wrong("sliding_window", window, "null")
    base, share = _rotary(options, "rope_theta", "partial_rotary_factor", 1.0)
    if share != 1:
        raise options.wrong("partial_rotary_factor", share, "1")
    return DecoderConfig(
        vocab_size=options.count("vocab_size"),
        width=width,
        num_layers=options.count("num_hidden_layers"),
        num_heads=heads,
        num_kv_heads=kv_heads,
        head_dim=(
            options.count("head_dim")
            if options.values.get("head_dim")
            else _head_dim(options, "num_attention_heads", width)
        ),
        mlp_dim=options.count("intermediate_size"),
        rope_base=base,
        norm_eps=options.number("rms_norm_eps", 1e-6),
        attention_bias=options.flag("attention_bias", False),
        mlp_bias=options.flag("mlp_bias", False),
        tied=options.flag("tie_word_embeddings", False),
    )


def mpt_config(options: Options) -> DecoderConfig:
    """MPT's with ALiBi and without biases, as all published ones are."""
    old = options.values["model_type"] == "mosaic_gpt"
    attention, prefix = (options, "attn_") if old else (options.part("attn_config"), "")
    for name, value, default in (
        ("alibi", True, not old),
        ("alibi_bias_max", 8, 8),
        ("attn_type", "multihead_attention", "multihead_attention"),
        ("prefix_lm", False, False),
        ("rope", False, False),
        ("sliding_window_size", -1, -1),
    ):
        attention.only(name, value, default=default)
    options.only("no_bias", True, default=not old)
    options.only("logit_scale", None)
    options.only("norm_type", "layernorm", "low_precision_layernorm", default="layernorm")
    options.part("ffn_config").only("ffn_type", "mptmlp", default="mptmlp")
    width, clip = options.count("d_model"), f"{prefix}clip_qkv"
    qk_norm = attention.flag(f"{prefix}qk_ln", False)
    scale, head_dim = softmax_scale(options), _head_dim(options, "n_heads", width)
    if scale is not None and attention.values.get(clip) and not qk_norm:
        raise attention.wrong("softmax_scale", scale, f"null beside {clip}")
    return DecoderConfig(
        vocab_size=options.count("vocab_size"),
        width=width,
        num_layers=options.count("n_layers"),
        num_heads=options.count("n_heads"),
        num_kv_heads=options.count("n_heads"),
        head_dim=head_dim,
        mlp_dim=int(options.number("mlp_ratio" if old else "expansion_ratio", 4) * width),
        norm_eps=options.number("layer_norm_epsilon", 1e-5),
        norm="layer",
        positions="alibi",
        mlp="gelu",
        qk_norm=qk_norm,
        clip_qkv=attention.number(clip) if attention.values.get(clip) else None,
        tied=options.flag("tie_word_embeddings", True),
    )


def softmax_scale(options: Options) -> float | None:
    """What MPT multiplies queries' products with keys by; None for what is usual."""
    old = options.values["model_type"] == "mosaic_gpt"
    attention, name = (options if old else options.part("attn_config")), "softmax_scale"
    return None if attention.values.get(name) is None else attention.number(name)


def neox_config(options: Options) -> DecoderConfig:
    """GPT-NeoX's."""
    width = options.count("hidden_size")
    head_dim = _head_dim(options, "num_attention_heads", width)
    base, share = _rotary(options, "rotary_emb_base", "rotary_pct", 0.25)
    if share > 1 or int(head_dim * share) % 2:
        raise options.wrong(
            "partial_rotary_factor or rotary_pct", share, "an even part of each head's channels"
        )
    return DecoderConfig(
        vocab_size=options.count("vocab_size"),
        width=width,
        num_layers=options.count("num_hidden_layers"),
        num_heads=options.count("num_attention_heads"),
        num_kv_heads=options.count("num_attention_heads"),
        head_dim=head_dim,
        mlp_dim=options.count("intermediate_size"),
        rope_base=base,
        norm_eps=options.number("layer_norm_eps", 1e-5),
        norm="layer",
        norm_bias=True,
        rotary_share=share,
        mlp=_activation(options, "hidden_act", "gelu"),
        attention_bias=options.flag("attention_bias", True),
        mlp_bias=True,
        parallel=options.flag("use_parallel_residual", True),
        tied=options.flag("tie_word_embeddings", False),
    )


def opt_config(options: Options) -> DecoderConfig:
    """OPT's, and those of models made like it."""
    options.only("_remove_final_layer_norm", False, default=False)
    options.only("layer_norm_elementwise_affine", True, default=True)
    width = options.count("hidden_size")
    embedded = options.count("word_embed_proj_dim", width)
    bias = options.flag("enable_bias", True)
    return DecoderConfig(
        vocab_size=options.count("vocab_size"),
        width=width,
        num_layers=options.count("num_hidden_layers"),
        num_heads=options.count("num_attention_heads"),
        num_kv_heads=options.count("num_attention_heads"),
        head_dim=_head_dim(options, "num_attention_heads", width),
        mlp_dim=options.count("ffn_dim"),
        norm="layer",
        norm_bias=True,
        positions="learned",
        max_positions=options.count("max_position_embeddings"),
        mlp=_activation(options, "activation_function", "relu"),
        attention_bias=bias,
        mlp_bias=bias,
        post_norm=not options.flag("do_layer_norm_before", True),
        tied=options.flag("tie_word_embeddings", True),
        embedding_width=None if embedded == width else embedded,
    )


def _head_dim(options: Options, heads_option: str, width: int) -> int:
    heads = options.count(heads_option)
    if width % heads:
        raise options.wrong(heads_option, heads, f"a divisor of the width {width}")
    return width // heads


def _activation(options: Options, name: str, default: str) -> Activation:
    return ACTIVATIONS[options.only(name, *ACTIVATIONS, default=default)]


def _rotary(options: Options, base: str, share: str, default_share: float) -> tuple[float, float]:
    """Base and share of rotary positions, where transformers 5 writes them or older versions.

    Args:
      options: the model's.
      base: older name of the base.
      share: older name of the share.
      default_share: where it is not given.
    """
    scaling, parameters = options.part("rope_scaling"), options.part("rope_parameters")
    for given in (scaling, parameters):
        given.only("type", "default", default="default")
        given.only("rope_type", "default", default="default")
    return (
        parameters.number("rope_theta", options.number(base, 10_000.0)),
        parameters.number("partial_rotary_factor", options.number(share, default_share)),
    )
