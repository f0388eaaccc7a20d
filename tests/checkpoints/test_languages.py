"""Hugging Face's language models against the originals, run live; what is refused and how."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers as hf
from safetensors.torch import load_file, save_file

from flamingo_jax.checkpoints.languages import Language, read_language
from flamingo_jax.checkpoints.tensors import Tensor
from flamingo_jax.errors import UserError
from flamingo_jax.models.decoder import DecoderLayer, Vocabulary
from flamingo_jax.models.flamingo import causal_context
from tests.checkpoints.originals import (
    FORMS,
    MosaicGPT,
    edit_config,
    materialised,
    save,
    save_bin,
    shaken,
)

VOCAB, WIDTH, LAYERS = 40, 24, 2
TOKENS = np.random.default_rng(0).integers(0, VOCAB, (2, 9))


def llama(**options: Any) -> hf.PreTrainedModel:
    shape = dict(vocab_size=VOCAB, hidden_size=WIDTH, num_hidden_layers=LAYERS)
    shape |= dict(num_attention_heads=4, intermediate_size=40, max_position_embeddings=64)
    return hf.LlamaForCausalLM(hf.LlamaConfig(**{**shape, **options}))


def mistral(**options: Any) -> hf.PreTrainedModel:
    shape = dict(vocab_size=VOCAB, hidden_size=WIDTH, num_hidden_layers=LAYERS)
    shape |= dict(num_attention_heads=4, num_key_value_heads=2, intermediate_size=40)
    return hf.MistralForCausalLM(hf.MistralConfig(**shape, **options))


def mpt(heads: int = 4, **options: Any) -> hf.PreTrainedModel:
    shape = dict(vocab_size=VOCAB, d_model=WIDTH, n_layers=LAYERS, n_heads=heads, max_seq_len=64)
    return hf.MptForCausalLM(hf.MptConfig(**shape, attn_config=options))


def edited(model: hf.PreTrainedModel, **options: Any) -> hf.PreTrainedModel:
    """The model with options that its code never reads."""
    model.config.update(options)
    return model


def narrow(model: hf.PreTrainedModel, ratio: int) -> hf.PreTrainedModel:
    """MPT as MosaicML's own code makes it, whose feed-forwards are `expansion_ratio` D wide."""
    for block in model.transformer.blocks:
        block.ffn.up_proj = torch.nn.Linear(WIDTH, ratio * WIDTH, bias=False)
        block.ffn.down_proj = torch.nn.Linear(ratio * WIDTH, WIDTH, bias=False)
    return edited(model, expansion_ratio=ratio)


def neox(**options: Any) -> hf.PreTrainedModel:
    shape = dict(vocab_size=VOCAB, hidden_size=WIDTH, num_hidden_layers=LAYERS)
    shape |= dict(num_attention_heads=3, intermediate_size=40, max_position_embeddings=64)
    return hf.GPTNeoXForCausalLM(hf.GPTNeoXConfig(**{**shape, **options}))


def opt(**options: Any) -> hf.PreTrainedModel:
    shape = dict(vocab_size=VOCAB, hidden_size=WIDTH, num_hidden_layers=LAYERS)
    shape |= dict(num_attention_heads=4, ffn_dim=40, max_position_embeddings=64)
    return hf.OPTForCausalLM(hf.OPTConfig(**{**shape, **options}))


ORIGINALS: dict[str, Callable[[], hf.PreTrainedModel]] = {
    "llama": llama,
    "llama, grouped queries, tied": lambda: llama(num_key_value_heads=2, tie_word_embeddings=True),
    "llama, biases": lambda: llama(attention_bias=True, mlp_bias=True),
    "llama, wide heads, long waves": lambda: llama(
        head_dim=8, rope_parameters={"rope_theta": 5e5, "rope_type": "default"}, rms_norm_eps=1e-4
    ),
    "mistral": lambda: mistral(sliding_window=None),
    "mpt": mpt,
    "mpt, six heads": lambda: mpt(6),
    "mpt, clipped": lambda: mpt(clip_qkv=0.4),
    "mpt, scaled": lambda: mpt(softmax_scale=0.7),
    "mpt, a ratio passed over": lambda: edited(mpt(), expansion_ratio=2),
    "mpt, a ratio obeyed": lambda: narrow(mpt(), 2),
    "neox": neox,
    "neox, one after the other": lambda: neox(use_parallel_residual=False, hidden_act="gelu_new"),
    "neox, all rotated, no biases, tied": lambda: neox(
        rope_parameters={"rope_theta": 500.0, "partial_rotary_factor": 1.0, "rope_type": "default"},
        attention_bias=False,
        tie_word_embeddings=True,
    ),
    "opt": opt,
    "opt, 350m": lambda: opt(do_layer_norm_before=False, word_embed_proj_dim=16),
    "opt, no biases, untied": lambda: opt(
        enable_bias=False, tie_word_embeddings=False, activation_function="gelu"
    ),
}


def logits(language: Language, tokens: np.ndarray) -> np.ndarray:
    """The decoder's, layer by layer."""
    config, context = language.config, causal_context(*tokens.shape)
    vocabulary, variables = Vocabulary(config), {"params": materialised(language.vocabulary)}
    x = vocabulary.apply(variables, tokens, context.positions_BxT, method="embed")
    for layer in language.layers:
        x = DecoderLayer(config).apply({"params": materialised(layer)}, x, context)
    return np.asarray(vocabulary.apply(variables, x, method="logits"))


def expected(model: torch.nn.Module, tokens: np.ndarray) -> np.ndarray:
    return model(torch.from_numpy(tokens)).logits.numpy()


def saved(name: str, folder: Path, form: str = "safetensors") -> hf.PreTrainedModel:
    torch.manual_seed(0)
    model = shaken(ORIGINALS[name]())
    save(model, folder, form)
    return model


def rewrite(folder: Path, change: Callable[[dict[str, torch.Tensor]], None]) -> None:
    """Changes the tensors of a folder."""
    path = folder / "model.safetensors"
    state = load_file(path)
    change(state)
    save_file(state, path)


@pytest.mark.parametrize("name", ORIGINALS)
def test_logits_equal_the_originals(name, tmp_path):
    form = FORMS[list(ORIGINALS).index(name) % len(FORMS)]
    model = saved(name, tmp_path, form)
    theirs = expected(model, TOKENS)
    ours = logits(read_language(tmp_path), TOKENS)
    np.testing.assert_allclose(ours, theirs, atol=1e-5, rtol=1e-5)
    assert np.abs(theirs).max() > 0.5


def test_logits_equal_mpt_1b(tmp_path):
    torch.manual_seed(0)
    model = shaken(MosaicGPT(VOCAB, WIDTH, 4, LAYERS))
    model.save(tmp_path)
    theirs = model(torch.from_numpy(TOKENS)).numpy()
    language = read_language(tmp_path)
    np.testing.assert_allclose(logits(language, TOKENS), theirs, atol=1e-5, rtol=1e-5)
    assert language.max_tokens == 64
    edit_config(tmp_path, softmax_scale=6**-0.5)  # the usual one, folded into the norm
    folded = logits(read_language(tmp_path), TOKENS)
    np.testing.assert_allclose(folded, theirs, atol=1e-5, rtol=1e-5)
    edit_config(tmp_path, softmax_scale="x")
    with pytest.raises(UserError, match=r'config\.json: softmax_scale is "x"'):
        read_language(tmp_path)
    edit_config(tmp_path, softmax_scale=0.1)
    assert np.abs(logits(read_language(tmp_path), TOKENS) - theirs).max() > 1e-3


@pytest.mark.parametrize("name", ["llama", "neox"])
def test_positions_as_older_versions_write_them(name, tmp_path):
    model = saved(name, tmp_path)
    older = {
        "llama": {"rope_theta": 10_000.0, "rope_scaling": None},
        "neox": {"rotary_emb_base": 10_000, "rotary_pct": 0.25},
    }[name]
    edit_config(tmp_path, rope_parameters=..., **older)
    theirs = expected(model, TOKENS)
    np.testing.assert_allclose(logits(read_language(tmp_path), TOKENS), theirs, atol=1e-5)
    other = {"llama": {"rope_theta": 30.0}, "neox": {"rotary_pct": 0.5}}[name]
    edit_config(tmp_path, **other)
    assert np.abs(logits(read_language(tmp_path), TOKENS) - theirs).max() > 1e-3


@pytest.mark.parametrize("name", ["llama", "mpt", "neox", "opt"])
def test_names_without_prefix_and_with_buffers(name, tmp_path):
    model = saved(name, tmp_path)
    prefix = {"llama": "model.", "mpt": "transformer.", "neox": "gpt_neox.", "opt": "model."}[name]
    buffers = {
        "layers.0.self_attn.rotary_emb.inv_freq": torch.ones(3),
        "layers.1.attention.bias": torch.ones(1, 1, 4, 4),
        "layers.1.attention.masked_bias": torch.tensor(-1e9),
    }

    def change(state: dict[str, torch.Tensor]) -> None:
        for key in list(state):
            state[key.removeprefix(prefix)] = state.pop(key)
        state.update(buffers)

    rewrite(tmp_path, change)
    np.testing.assert_allclose(
        logits(read_language(tmp_path), TOKENS), expected(model, TOKENS), atol=1e-5
    )


@pytest.mark.parametrize(
    ("name", "bos", "longest"),
    [
        ("llama", 1, 64),
        ("mistral", 1, 4096 * 32),
        ("mpt", None, 64),
        ("neox", None, 64),
        ("opt", 2, 64),
    ],
)
def test_lengths_and_first_tokens(name, bos, longest, tmp_path):
    saved(name, tmp_path)
    language = read_language(tmp_path)
    assert (language.bos_id, language.max_tokens) == (bos, longest)


def test_half_precision_is_kept(tmp_path):
    torch.manual_seed(0)
    model = shaken(mpt(softmax_scale=0.7)).to(torch.bfloat16)
    save(model, tmp_path)
    language = read_language(tmp_path)
    theirs = model.transformer.wte.weight.float().numpy()
    ours = language.vocabulary["embedding"]
    assert ours.dtype.name == "bfloat16"
    np.testing.assert_array_equal(ours.read().astype(np.float32), theirs)
    query, fused = language.layers[0]["attention"]["query"]["kernel"], model.transformer.blocks[0]
    weight = fused.attn.Wqkv.weight[:WIDTH].float().numpy().T
    scale = np.float32(0.7 * 6**0.5)
    np.testing.assert_array_equal(query.read().reshape(WIDTH, WIDTH), weight * scale)


def test_nothing_is_read(tmp_path):
    saved("llama", tmp_path, "bin shards")
    language = read_language(tmp_path)
    for path in tmp_path.glob("*.bin"):
        path.unlink()
    with pytest.raises(Exception, match="pytorch_model"):
        language.layers[0]["mlp"]["up"]["kernel"].read()


def fake(name: str, array: np.ndarray) -> Tensor:
    return Tensor(name, array.shape, array.dtype, Path("new.pt"), lambda: array)


@pytest.mark.parametrize("rows", [VOCAB - 5, VOCAB + 3])
def test_newer_embeddings_set_the_number_of_tokens(rows, tmp_path):
    model = saved("neox", tmp_path)
    table = np.random.default_rng(1).normal(size=(rows, WIDTH)).astype(np.float32)
    name = "gpt_neox.embed_in.weight"
    language = read_language(tmp_path, {name: fake(name, table)})
    assert language.config.vocab_size == rows
    np.testing.assert_array_equal(language.vocabulary["embedding"].read(), table)
    head = np.zeros((rows, WIDTH), np.float32)
    head[: min(rows, VOCAB)] = model.lm_head.weight.numpy()[:rows]
    np.testing.assert_array_equal(language.vocabulary["head"].read(), head)
    newer = {name: fake(name, table), "embed_out.weight": fake("embed_out.weight", 2 * table)}
    language = read_language(tmp_path, newer)
    np.testing.assert_array_equal(language.vocabulary["head"].read(), 2 * table)


def test_a_head_of_another_size_than_the_newer_embedding_is_refused(tmp_path):
    saved("neox", tmp_path)
    table, name = np.zeros((VOCAB + 3, WIDTH), np.float32), "gpt_neox.embed_in.weight"
    newer = {name: fake(name, table), "embed_out.weight": fake("embed_out.weight", table[1:])}
    with pytest.raises(UserError, match=r"'embed_out.weight' of new.pt has the shape \[42, 24\]"):
        read_language(tmp_path, newer)
    with pytest.raises(UserError, match=r"'gpt_neox.embed_in.weight' of new.pt has the shape \[\]"):
        read_language(tmp_path, {name: fake(name, np.zeros((), np.float32))})


UNSUPPORTED: list[tuple[str, dict[str, Any], str]] = [
    ("llama", {"model_type": "gpt2"}, 'model_type is "gpt2", but only "llama" or "mistral"'),
    ("llama", {"model_type": ...}, "model_type is null"),
    ("llama", {"hidden_act": "gelu"}, 'hidden_act is "gelu", but only "silu"'),
    ("llama", {"rope_scaling": {"type": "linear", "factor": 2.0}}, 'rope_scaling.type is "linear"'),
    (
        "llama",
        {"rope_parameters": {"rope_type": "llama3"}},
        'rope_parameters.rope_type is "llama3"',
    ),
    ("llama", {"rope_parameters": 3}, "rope_parameters is 3, but only an object"),
    ("llama", {"partial_rotary_factor": 0.5}, "partial_rotary_factor is 0.5"),
    ("llama", {"sliding_window": 32}, "sliding_window is 32, but only null"),
    ("llama", {"num_key_value_heads": 3}, "num_key_value_heads is 3, but only a divisor of 4"),
    (
        "llama",
        {"head_dim": ..., "num_attention_heads": 5, "num_key_value_heads": ...},
        "num_attention_heads is 5",
    ),
    ("llama", {"hidden_size": ...}, "does not say hidden_size"),
    ("llama", {"hidden_size": "24"}, 'hidden_size is "24", but only a whole number'),
    ("llama", {"rms_norm_eps": -1}, "rms_norm_eps is -1, but only a number above 0"),
    ("llama", {"attention_bias": "no"}, 'attention_bias is "no", but only true or false'),
    ("llama", {"bos_token_id": "<s>"}, 'bos_token_id is "<s>"'),
    ("mistral", {"sliding_window": 4096}, "sliding_window is 4096"),
    ("mistral", {"sliding_window": ...}, "sliding_window is 4096"),
    ("mpt", {"attn_config": {"alibi": False}}, "attn_config.alibi is false, but only true"),
    ("mpt", {"attn_config": {"alibi_bias_max": 4}}, "attn_config.alibi_bias_max is 4"),
    ("mpt", {"attn_config": {"attn_type": "multiquery_attention"}}, "attn_config.attn_type"),
    ("mpt", {"attn_config": {"prefix_lm": True}}, "attn_config.prefix_lm is true"),
    ("mpt", {"attn_config": {"rope": True}}, "attn_config.rope is true"),
    ("mpt", {"attn_config": {"clip_qkv": 6.0, "softmax_scale": 0.1}}, "attn_config.softmax_scale"),
    ("mpt", {"attn_config": {"softmax_scale": "x"}}, 'attn_config.softmax_scale is "x"'),
    ("mpt", {"attn_config": {"softmax_scale": [0.1]}}, "attn_config.softmax_scale is [0.1]"),
    ("mpt", {"no_bias": False}, "no_bias is false, but only true"),
    ("mpt", {"logit_scale": 0.5}, "logit_scale is 0.5, but only null"),
    ("mpt", {"norm_type": "rmsnorm"}, 'norm_type is "rmsnorm"'),
    ("neox", {"hidden_act": "silu"}, 'hidden_act is "silu"'),
    ("neox", {"rope_parameters": ..., "rotary_pct": 0.4}, "rotary_pct is 0.4"),
    ("opt", {"_remove_final_layer_norm": True}, "_remove_final_layer_norm is true"),
    ("opt", {"layer_norm_elementwise_affine": False}, "layer_norm_elementwise_affine is false"),
    ("opt", {"activation_function": "swish"}, 'activation_function is "swish"'),
]


@pytest.fixture(scope="module")
def folders(tmp_path_factory) -> dict[str, Path]:
    """One saved model for each family."""
    names = ("llama", "mistral", "mpt", "neox", "opt")
    found = {name: tmp_path_factory.mktemp(name) for name in names}
    for name, folder in found.items():
        saved(name, folder)
    return found


@pytest.mark.parametrize(("name", "options", "message"), UNSUPPORTED)
def test_options_that_the_decoder_does_not_have(name, options, message, folders, tmp_path):
    config = json.loads((folders[name] / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps(config))
    (tmp_path / "model.safetensors").symlink_to(folders[name] / "model.safetensors")
    edit_config(tmp_path, **options)
    with pytest.raises(UserError) as caught:
        read_language(tmp_path)
    assert str(tmp_path / "config.json") in str(caught.value)
    assert message in str(caught.value)


def test_folders_that_are_not_whole(folders, tmp_path):
    with pytest.raises(UserError, match=r"config.json cannot be read"):
        read_language(tmp_path)
    (tmp_path / "config.json").write_text("{")
    with pytest.raises(UserError, match=r"config.json is damaged"):
        read_language(tmp_path)
    (tmp_path / "config.json").write_text((folders["llama"] / "config.json").read_text())
    with pytest.raises(UserError, match="holds no checkpoint"):
        read_language(tmp_path)


def without(name: str) -> Callable[[dict[str, torch.Tensor]], object]:
    return lambda state: state.pop(name)


def given(name: str, *shape: int) -> Callable[[dict[str, torch.Tensor]], object]:
    return lambda state: state.update({name: torch.ones(shape)})


UP, NORM = "model.layers.{}.mlp.up_proj.weight", "model.norm.weight"
TABLE, POSITIONS = "model.embed_tokens.weight", "model.decoder.embed_positions.weight"
FUSED = "gpt_neox.layers.0.attention.query_key_value.bias"
BIAS, MPT_UP = "transformer.blocks.0.norm_1.bias", "transformer.blocks.0.ffn.up_proj.weight"
UNFIT = [
    ("llama", without(UP.format(1)), f"has no tensor '{UP.format(1)}'; the nearest"),
    ("llama", without("lm_head.weight"), "has no tensor 'lm_head.weight'"),
    ("llama", given(UP.format(2), 2), rf"model.safetensors has .* no place for: '{UP.format(2)}'"),
    ("llama", given(NORM, 2), rf"'{NORM}' of .*model.safetensors has the shape \[2\]"),
    ("llama", given(TABLE, 3, 24), rf"'{TABLE}' of .* but \[40, 24\]"),
    ("neox", without(FUSED), f"has no tensor '{FUSED}'"),
    ("opt", given(POSITIONS, 64, 24), rf"'{POSITIONS}' of .* but \[66, 24\]"),
    ("mpt", given(MPT_UP, 48, 24), rf"'{MPT_UP}' of .* but \[96, 24\]"),
    ("mpt", given(BIAS, 24), f"has no place for: '{BIAS}'"),
    ("mpt", given("transformer.wpe.weight", 64, 24), "'transformer.wpe.weight'"),
]


@pytest.mark.parametrize(("name", "change", "message"), UNFIT)
def test_tensors_that_do_not_fit(name, change, message, tmp_path):
    saved(name, tmp_path)
    rewrite(tmp_path, change)
    with pytest.raises(UserError, match=message):
        read_language(tmp_path)


def test_half_of_a_fused_tensor_is_refused(tmp_path):
    model = saved("mpt", tmp_path, "bin")
    state = model.state_dict()
    name = "transformer.blocks.0.attn.Wqkv.weight"
    save_bin({**state, name: state[name][:WIDTH]}, tmp_path, 1)
    with pytest.raises(UserError, match=rf"{name}' of .*pytorch_model.bin .* but \[72, 24\]"):
        read_language(tmp_path)
