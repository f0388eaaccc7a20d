"""Layers of Hugging Face's language models as the decoder keeps them, unread."""

import dataclasses
import math
from typing import Any

import numpy as np

from flamingo_jax.checkpoints.language_configs import softmax_scale
from flamingo_jax.checkpoints.layers import (
    Tree,
    linear,
    rows,
    take_fused,
    take_linear,
    take_norm,
)
from flamingo_jax.checkpoints.options import Options
from flamingo_jax.checkpoints.tensors import Source, Tensor
from flamingo_jax.models.decoder import DecoderConfig

_POSITION_OFFSET = 2  # rows of OPT's table that no token's position reaches


def llama_layer(source: Source, at: str, config: DecoderConfig, options: Options) -> Tree:
    """A layer of Llama's."""
    del options
    width, hidden = (config.width,), (config.mlp_dim,)
    queries, keys = (config.num_heads, config.head_dim), (config.num_kv_heads, config.head_dim)
    bias = config.attention_bias

    def attention(name: str, inputs: tuple[int, ...], outputs: tuple[int, ...]) -> Tree:
        return take_linear(source, f"{at}self_attn.{name}", inputs, outputs, bias)

    def mlp(name: str, inputs: tuple[int, ...], outputs: tuple[int, ...]) -> Tree:
        return take_linear(source, f"{at}mlp.{name}", inputs, outputs, config.mlp_bias)

    return {
        "attention_norm": take_norm(source, f"{at}input_layernorm", config.width, False),
        "attention": {
            "query": attention("q_proj", width, queries),
            "key": attention("k_proj", width, keys),
            "value": attention("v_proj", width, keys),
            "out": attention("o_proj", queries, width),
        },
        "mlp_norm": take_norm(source, f"{at}post_attention_layernorm", config.width, False),
        "mlp": {
            "gate": mlp("gate_proj", width, hidden),
            "up": mlp("up_proj", width, hidden),
            "down": mlp("down_proj", hidden, width),
        },
    }


def mpt_layer(source: Source, at: str, config: DecoderConfig, options: Options) -> Tree:
    """A layer of MPT's under either of its names; `softmax_scale` becomes part of the queries."""
    norms, up, down = _mpt_names(source, at)
    width, hidden = (config.width,), (config.mlp_dim,)
    heads = (config.num_heads, config.head_dim)
    query, key, value = take_fused(source, f"{at}attn.Wqkv.", config.width, 3, heads, False)
    attention = {
        "query": query,
        "key": key,
        "value": value,
        "out": take_linear(source, f"{at}attn.out_proj", heads, width, False),
    }
    if config.qk_norm:
        attention["query_norm"] = take_norm(source, f"{at}attn.q_ln", config.width, False)
        attention["key_norm"] = take_norm(source, f"{at}attn.k_ln", config.width, False)
    if (scale := softmax_scale(options)) is not None:
        owner, leaf = ("query_norm", "scale") if config.qk_norm else ("query", "kernel")
        factor = scale * math.sqrt(config.head_dim)
        attention[owner][leaf] = _scaled(attention[owner][leaf], factor)
    return {
        "attention_norm": take_norm(source, f"{at}{norms}1", config.width, False),
        "attention": attention,
        "mlp_norm": take_norm(source, f"{at}{norms}2", config.width, False),
        "mlp": {
            "up": take_linear(source, f"{at}{up}", width, hidden, False),
            "down": take_linear(source, f"{at}{down}", hidden, width, False),
        },
    }


def mpt_fitted(source: Source, at: str, config: DecoderConfig) -> DecoderConfig:
    """The config with the feed-forward's width that the first layer has.

    MosaicML's model obeys the option `expansion_ratio`; transformers' always has 4 D.
    """
    _, up, _ = _mpt_names(source, at)
    usual = 4 * config.width
    whole = source.take(f"{at}{up}.weight").shape == (usual, config.width)
    return dataclasses.replace(config, mlp_dim=usual) if whole else config


def _mpt_names(source: Source, at: str) -> tuple[str, str, str]:
    """How a layer's norms begin, and its projections up and down, in MPT-1B or in the others."""
    if source.has(f"{at}ln_1.weight"):
        return "ln_", "mlp.mlp_up", "mlp.mlp_down"
    return "norm_", "ffn.up_proj", "ffn.down_proj"


def _scaled(tensor: Tensor, factor: float) -> Tensor:
    return tensor.map(
        lambda array: array.astype(np.float32) * np.float32(factor), tensor.shape, np.float32
    )


def neox_layer(source: Source, at: str, config: DecoderConfig, options: Options) -> Tree:
    """A layer of GPT-NeoX's, whose queries, keys and values are fused head by head."""
    del options
    width, hidden = (config.width,), (config.mlp_dim,)
    heads = (config.num_heads, config.head_dim)
    fused = 3 * config.width
    name = f"{at}attention.query_key_value"
    weight = source.take(f"{name}.weight", (fused, config.width))
    bias = source.take(f"{name}.bias", (fused,)) if config.attention_bias else None

    def part(tensor: Tensor, i: int) -> Tensor:
        rest = tensor.shape[1:]
        return tensor.map(
            lambda array: array.reshape(heads[0], 3, heads[1], *rest)[:, i].reshape(-1, *rest),
            (config.width, *rest),
        )

    attention = {
        part_name: linear(part(weight, i), None if bias is None else part(bias, i), width, heads)
        for i, part_name in enumerate(("query", "key", "value"))
    }
    out = take_linear(source, f"{at}attention.dense", heads, width, config.attention_bias)
    return {
        "attention_norm": take_norm(source, f"{at}input_layernorm", config.width),
        "attention": {**attention, "out": out},
        "mlp_norm": take_norm(source, f"{at}post_attention_layernorm", config.width),
        "mlp": {
            "up": take_linear(source, f"{at}mlp.dense_h_to_4h", width, hidden, True),
            "down": take_linear(source, f"{at}mlp.dense_4h_to_h", hidden, width, True),
        },
    }


def opt_layer(source: Source, at: str, config: DecoderConfig, options: Options) -> Tree:
    """A layer of OPT's."""
    del options
    width, hidden = (config.width,), (config.mlp_dim,)
    heads, bias = (config.num_heads, config.head_dim), config.attention_bias
    attention = {
        name: take_linear(source, f"{at}self_attn.{letter}_proj", width, heads, bias)
        for name, letter in (("query", "q"), ("key", "k"), ("value", "v"))
    }
    out = take_linear(source, f"{at}self_attn.out_proj", heads, width, bias)
    return {
        "attention_norm": take_norm(source, f"{at}self_attn_layer_norm", config.width),
        "attention": {**attention, "out": out},
        "mlp_norm": take_norm(source, f"{at}final_layer_norm", config.width),
        "mlp": {
            "up": take_linear(source, f"{at}fc1", width, hidden, config.mlp_bias),
            "down": take_linear(source, f"{at}fc2", hidden, width, config.mlp_bias),
        },
    }


def opt_more(source: Source, config: DecoderConfig, at: str = "model.decoder.") -> Tree:
    """OPT's positions, and the projections of OPT-350m's narrow embedding; `at` begins names."""
    table = source.take(
        f"{at}embed_positions.weight",
        (config.max_positions + _POSITION_OFFSET, config.width),
    )
    tree: dict[str, Any] = {"position": rows(table, _POSITION_OFFSET, config.max_positions)}
    if config.embedding_width is not None:
        narrow, width = (config.embedding_width,), (config.width,)
        for name, inputs, outputs in (
            ("project_in", narrow, width),
            ("project_out", width, narrow),
        ):
            tree[name] = take_linear(source, f"{at}{name}", inputs, outputs, False)
    return tree
