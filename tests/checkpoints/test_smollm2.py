"""The GGUF reader and the decoder against Hugging Face's implementation of the same weights."""

import jax
import numpy as np
import pytest
from tokenizers import Tokenizer

from flamingo_jax.checkpoints import smollm2
from flamingo_jax.errors import UserError
from flamingo_jax.models.decoder import DecoderConfig
from flamingo_jax.models.flamingo import FlamingoConfig, FlamingoModel, stack_layers
from flamingo_jax.models.resampler import ResamplerConfig
from flamingo_jax.models.xattn import CrossAttentionConfig

SENTENCES = (
    "The capital of France is",
    "A cat sat on the mat.",
    "Water boils at 100 degrees Celsius, or 212 degrees Fahrenheit.",
    "def add(a, b):\n    return a + b\n",
    "Le chat est assis sur la table.",
    "Output: red apple<|endofchunk|><image>Output:",
    "In 1969, two people walked on the Moon for the first time.",
    "Once upon a time there was a small flamingo who wanted to see.",
    "1 2 3 4 5 6 7 8 9",
    "Ünïcödé — “quotes” … 🦩",
)


@pytest.fixture(scope="module")
def language():
    config, top, layers = smollm2.read_language_model(smollm2.find_gguf())
    flamingo = FlamingoConfig(
        config,
        ResamplerConfig(32, 1, 4, 2, 16),
        CrossAttentionConfig(num_heads=2, head_dim=16, first=12, every=6),
    )
    frozen = {"language": {"vocabulary": top, **stack_layers(layers, flamingo)}}
    apply = jax.jit(
        lambda frozen, tokens: FlamingoModel(flamingo).apply({"frozen": frozen}, tokens)
    )
    return config, top, layers, lambda tokens: np.asarray(apply(frozen, tokens))


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory):
    path = tmp_path_factory.mktemp("tokenizer") / "tokenizer.json"
    smollm2.write_tokenizer(smollm2.find_gguf(), path)
    return Tokenizer.from_file(str(path))


def _hugging_face(config: DecoderConfig, top, layers):
    """transformers' Llama with the same weights."""
    torch = pytest.importorskip("torch")
    transformers = pytest.importorskip("transformers")
    model = transformers.LlamaForCausalLM(
        transformers.LlamaConfig(
            vocab_size=config.vocab_size,
            hidden_size=config.width,
            intermediate_size=config.mlp_dim,
            num_hidden_layers=config.num_layers,
            num_attention_heads=config.num_heads,
            num_key_value_heads=config.num_kv_heads,
            rms_norm_eps=config.norm_eps,
            rope_theta=config.rope_base,
            tie_word_embeddings=True,
        )
    )
    state = {
        "model.embed_tokens.weight": top["embedding"],
        "model.norm.weight": top["norm"]["scale"],
    }
    names = {"query": "q_proj", "key": "k_proj", "value": "v_proj"}
    for i, layer in enumerate(layers):
        prefix = f"model.layers.{i}."
        for ours, theirs in names.items():
            kernel = layer["attention"][ours]["kernel"].reshape(config.width, -1)
            state[f"{prefix}self_attn.{theirs}.weight"] = kernel.T
        out = layer["attention"]["out"]["kernel"].reshape(-1, config.width)
        state[f"{prefix}self_attn.o_proj.weight"] = out.T
        for name in ("gate", "up", "down"):
            state[f"{prefix}mlp.{name}_proj.weight"] = layer["mlp"][name]["kernel"].T
        state[f"{prefix}input_layernorm.weight"] = layer["attention_norm"]["scale"]
        state[f"{prefix}post_attention_layernorm.weight"] = layer["mlp_norm"]["scale"]
    tensors = {name: torch.from_numpy(np.ascontiguousarray(x)) for name, x in state.items()}
    missing, unexpected = model.load_state_dict(tensors, strict=False)
    assert not unexpected
    assert set(missing) <= {"lm_head.weight"}
    model.tie_weights()
    return model.eval()


def test_config_is_smollm2(language):
    assert language[0] == DecoderConfig.smollm2_135m()


@pytest.mark.slow
def test_logits_equal_hugging_face(language, tokenizer):
    config, top, layers, logits = language
    torch = pytest.importorskip("torch")
    model = _hugging_face(config, top, layers)
    for sentence in SENTENCES:
        ids = tokenizer.encode(sentence).ids
        with torch.no_grad():
            expected = model(torch.tensor([ids])).logits[0].numpy()
        padded = np.zeros((1, 32), np.int32)
        padded[0, : len(ids)] = ids
        np.testing.assert_allclose(logits(padded)[0, : len(ids)], expected, atol=1e-3)


def test_capital_of_france(language, tokenizer):
    ids = tokenizer.encode("The capital of France is").ids
    padded = np.zeros((1, 32), np.int32)
    padded[0, : len(ids)] = ids
    assert tokenizer.decode([int(language[3](padded)[0, len(ids) - 1].argmax())]) == " Paris"


@pytest.mark.parametrize("text", SENTENCES)
def test_tokenizer_round_trip(tokenizer, text):
    assert tokenizer.decode(tokenizer.encode(text).ids, skip_special_tokens=False) == text


def test_reserved_tokens(tokenizer):
    assert tokenizer.encode("<image>").ids == [tokenizer.token_to_id("<image>")] == [4]
    assert tokenizer.encode("<|endofchunk|>").ids == [5]


def test_not_a_gguf_file(tmp_path):
    path = tmp_path / "broken.gguf"
    path.write_bytes(b"not a model")
    with pytest.raises(UserError, match=r"broken\.gguf"):
        smollm2.read_language_model(path)
