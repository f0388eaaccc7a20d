"""IDEFICS checkpoints read here against transformers' own model with the same weights."""

import functools
import json
import shutil

import numpy as np
import pytest
import tokenizers
import torch
import transformers
from safetensors import torch as torch_file
from safetensors.numpy import load_file, save_file

from flamingo_jax.checkpoints import idefics
from flamingo_jax.errors import UserError
from tests.checkpoints.lazy import handle
from tests.checkpoints.originals import edit_config, materialised, shaken

VOCAB, WIDTH, SIZE, B, PROMPT, N = 60, 24, 12, 3, 9, 2
T = PROMPT + 32
VISION = {
    "embed_dim": 16,
    "image_size": SIZE,
    "patch_size": 4,
    "intermediate_size": 24,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
}
PERCEIVER = {"resampler_depth": 2, "resampler_n_heads": 3, "resampler_head_dim": 6}
CONFIGS = {
    "every option": {
        "use_resampler": True,
        "perceiver_config": {
            **PERCEIVER,
            "resampler_n_latents": 5,
            "qk_layer_norms_perceiver": True,
        },
        "qk_layer_norms": True,
        "alpha_type": "vector",
        "cross_layer_interval": 2,
        "additional_vocab_size": 3,
        "rope_parameters": {"rope_type": "default", "rope_theta": 500.0},
    },
    "no resampler": {
        "vision_config": {**VISION, "hidden_act": "quick_gelu"},
        "num_hidden_layers": 2,
    },
    "tied": {
        "use_resampler": True,
        "perceiver_config": {**PERCEIVER, "resampler_n_latents": 4},
        "num_hidden_layers": 2,
        "cross_layer_interval": 2,
        "additional_vocab_size": 2,
        "tie_word_embeddings": True,
        "rms_norm_eps": 1e-2,
    },
}
DRAW = np.random.default_rng(0)
TOKENS = DRAW.integers(3, VOCAB, (B, T))
IMAGES = DRAW.normal(size=(B, N, 1, SIZE, SIZE, 3)).astype(np.float32)


@functools.cache
def original(name: str) -> transformers.IdeficsForVisionText2Text:
    torch.manual_seed(0)
    config = transformers.IdeficsConfig(
        **{
            "vocab_size": VOCAB,
            "hidden_size": WIDTH,
            "intermediate_size": 40,
            "num_hidden_layers": 4,
            "num_attention_heads": 3,
            "vision_config": VISION,
            **CONFIGS[name],
        }
    )
    return shaken(transformers.IdeficsForVisionText2Text(config))


@pytest.fixture(scope="module", params=CONFIGS)
def pair(request, tmp_path_factory):
    """The original, and the handle of what it saved in shards."""
    model = original(request.param)
    folder = tmp_path_factory.mktemp("idefics")
    model.save_pretrained(folder, max_shard_size="20KB")
    assert len(list(folder.glob("*.safetensors"))) > 1
    return model, handle(idefics.read(folder))


def expected(model, tokens, mask, attention_mask) -> np.ndarray:
    return model(**torch_inputs(tokens, mask, attention_mask)).logits.numpy()


def torch_inputs(tokens, mask, attention_mask) -> dict[str, torch.Tensor]:
    return {
        "input_ids": torch.from_numpy(tokens),
        "pixel_values": torch.from_numpy(IMAGES[:, :, 0].transpose(0, 1, 4, 2, 3)),
        "image_attention_mask": torch.from_numpy(mask.astype(int)),
        "attention_mask": torch.from_numpy(attention_mask),
    }


def test_logits_with_no_one_and_two_images_and_padding_on_either_side(pair):
    """Rows: text before the first image, which some tokens see with the second; no image; one."""
    model, ours = pair
    mask = np.zeros((B, T, N), bool)
    mask[0, 3:10, 0] = mask[0, 9:20, 1] = mask[0, 30:] = True
    mask[2, 12:, 0] = True
    attention_mask = np.ones((B, T), int)
    attention_mask[1, 26:] = attention_mask[2, :9] = 0
    found = ours.logits(TOKENS, IMAGES, mask, attention_mask)
    logits = expected(model, TOKENS, mask, attention_mask)
    assert found.shape == logits.shape
    real = attention_mask.astype(bool)
    np.testing.assert_allclose(found[real], logits[real], atol=3e-5)
    assert np.abs(logits[real]).max() > 1


@pytest.mark.slow
def test_logits_and_greedy_tokens_by_media_tokens(pair):
    """32 greedy tokens after two images, one, and none, padded on the left; with cache, and by
    the logits of the whole sequence, which are computed without one."""
    model, ours = pair
    tokens, attention_mask = TOKENS.copy(), np.ones((B, T), int)
    attention_mask[2, :4] = 0
    if model.config.additional_vocab_size:
        tokens[0, [2, 6]] = tokens[1, 0] = ours.text.image_id
    count = np.cumsum(tokens == ours.text.image_id, axis=1)
    mask = count[..., None] == np.arange(1, N + 1)
    prompt = torch_inputs(tokens[:, :PROMPT], mask[:, :PROMPT], attention_mask[:, :PROMPT])
    model.generation_config.eos_token_id = None
    generated = model.generate(**prompt, max_new_tokens=32, do_sample=False)[:, PROMPT:].numpy()
    found = ours.generate_tokens(tokens[:, :PROMPT], IMAGES, 32, attention_mask[:, :PROMPT])
    np.testing.assert_array_equal(found, generated)

    tokens[:, PROMPT:] = generated
    logits = ours.logits(tokens, IMAGES, mask, attention_mask)
    np.testing.assert_array_equal(logits[:, PROMPT - 1 : -1].argmax(-1), generated)
    real = attention_mask.astype(bool)
    theirs = expected(model, tokens, mask, attention_mask)
    np.testing.assert_allclose(logits[real], theirs[real], atol=3e-5)


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    folder = tmp_path_factory.mktemp("saved")
    original("every option").save_pretrained(folder)
    return folder


@pytest.fixture
def folder(saved, tmp_path):
    """The original's folder in one file, to be changed."""
    return shutil.copytree(saved, tmp_path / "source")


def resave(folder, **changes) -> None:
    """Tensors changed, or with None deleted; `__` in their names stands for a point."""
    path = folder / "model.safetensors"
    tensors = load_file(path) | {k.replace("__", "."): v for k, v in changes.items()}
    save_file({k: v for k, v in tensors.items() if v is not None}, path)


def write_tokenizer(folder, *added: str) -> None:
    words = {"<unk>": 0, "<s>": 1, "</s>": 2, "a": 3}
    tokenizer = tokenizers.Tokenizer(tokenizers.models.WordLevel(words, "<unk>"))
    tokenizer.add_special_tokens(list(added))
    tokenizer.save(str(folder / "tokenizer.json"))


def test_tokens_without_a_tokenizer(folder):
    read = idefics.read(folder)
    assert read.tokenizer is None
    text = read.text
    assert (text.image_id, text.eoc_id, text.bos_id, text.pad_id) == (VOCAB + 1, VOCAB + 2, 1, 0)
    assert (text.around_image, text.eoc_token) == (
        "<fake_token_around_image>",
        "<end_of_utterance>",
    )
    edit_config(folder, additional_vocab_size=2)
    rows = np.zeros((2, WIDTH), np.float32)
    resave(
        folder,
        model__embed_tokens__additional_embedding__weight=rows,
        lm_head__additional_fc__weight=rows,
    )
    text = idefics.read(folder).text
    assert (text.image_id, text.eoc_id, text.eoc_token) == (VOCAB + 1, 2, "</s>")


def test_the_tokenizer_travels_and_its_tokens_are_found(folder):
    write_tokenizer(folder, "<image>", "<fake_token_around_image>")
    read = idefics.read(folder)
    assert json.loads(read.tokenizer) == json.loads((folder / "tokenizer.json").read_text())
    assert (read.text.image_id, read.text.eoc_id, read.text.eoc_token) == (4, 2, "</s>")
    assert (read.text.fit, read.text.max_tokens) == ("stretch", 2048)
    write_tokenizer(folder, "<image>", "<fake_token_around_image>", "<end_of_utterance>")
    text = idefics.read(folder).text
    assert (text.eoc_id, text.eoc_token) == (6, "<end_of_utterance>")


def test_images_are_normalised_as_the_processor_says(folder):
    assert idefics.read(folder).config.vision.mean == (0.48145466, 0.4578275, 0.40821073)
    settings = {"image_mean": [0.5, 0.4, 0.3], "image_std": [0.2, 0.2, 1]}
    (folder / "preprocessor_config.json").write_text(json.dumps(settings))
    vision = idefics.read(folder).config.vision
    assert (vision.mean, vision.scale) == ((0.5, 0.4, 0.3), (0.2, 0.2, 1.0))
    (folder / "preprocessor_config.json").write_text('{"image_std": [0.2, 0, 1]}')
    with pytest.raises(UserError, match=r"preprocessor_config\.json: image_std is \[0\.2, 0, 1\]"):
        idefics.read(folder)


def test_defaults_are_those_of_the_published_config_classes(tmp_path):
    published, nothing = transformers.IdeficsConfig(), idefics.Options({}, tmp_path)
    for name, value in idefics.DEFAULTS.items():
        assert getattr(published, name) == value, name
    vision = idefics._vision_config(nothing, tmp_path / "none")
    for ours, theirs in (
        ("image_size", "image_size"),
        ("patch_size", "patch_size"),
        ("width", "embed_dim"),
        ("num_layers", "num_hidden_layers"),
        ("num_heads", "num_attention_heads"),
        ("mlp_dim", "intermediate_size"),
        ("norm_eps", "layer_norm_eps"),
        ("activation", "hidden_act"),
    ):
        assert getattr(vision, ours) == getattr(published.vision_config, theirs), ours
    resampled = idefics.Options({"use_resampler": True}, tmp_path)
    resampler, theirs = idefics._resampler_config(resampled, 8), published.perceiver_config
    assert resampler.num_layers == theirs.resampler_depth
    assert resampler.num_latents == theirs.resampler_n_latents
    assert (resampler.num_heads, resampler.head_dim) == (16, theirs.resampler_head_dim)
    assert resampler.qk_norm == theirs.qk_layer_norms_perceiver


def test_folders_of_transformers_4_are_read(folder):
    """It writes no base of the rotation, or `rope_theta`, and constants beside the weights."""
    assert idefics.read(folder).config.decoder.rope_base == 500
    edit_config(folder, rope_parameters=None)
    resave(
        folder,
        model__layers__0__self_attn__rotary_emb__inv_freq=np.ones(4, np.float32),
        model__gated_cross_attn_layers__0__cross_attn__rotary_emb__inv_freq=np.ones(4, np.float32),
        model__vision_model__embeddings__position_ids=np.zeros((1, 10), np.int64),
    )
    assert idefics.read(folder).config.decoder.rope_base == 10_000
    edit_config(folder, rope_theta=300.0)
    assert idefics.read(folder).config.decoder.rope_base == 300


def test_a_checkpoint_partly_in_half_precision_keeps_its_digits(folder):
    path = folder / "model.safetensors"
    tensors = torch_file.load_file(path)
    for name, dtype in (
        ("model.layers.3.mlp.up_proj.weight", torch.float16),
        ("model.layers.2.mlp.up_proj.weight", torch.bfloat16),
        ("model.embed_tokens.weight", torch.bfloat16),
    ):
        tensors[name] = tensors[name].to(dtype)
    torch_file.save_file(tensors, path)
    language = materialised(idefics.read(folder).variables["frozen"]["language"])
    up = language["groups"]["language"]["layers"]["mlp"]["up"]["kernel"]
    for layer in range(4):
        expected = tensors[f"model.layers.{layer}.mlp.up_proj.weight"].float().numpy().T
        np.testing.assert_array_equal(up[divmod(layer, 2)], expected)
    rows = [tensors[f"model.embed_tokens{x}.weight"] for x in ("", ".additional_embedding")]
    expected = torch.cat([row.float() for row in rows]).numpy()
    np.testing.assert_array_equal(language["vocabulary"]["embedding"], expected)


@pytest.mark.parametrize(
    ("option", "value", "message"),
    [
        ("model_type", "llama", "model_type is .llama., but only .idefics."),
        ("hidden_act", "gelu", "hidden_act is .gelu., but only .silu."),
        ("alpha_type", "matrix", "alpha_type is .matrix., but only .float. or .vector."),
        ("cross_layer_interval", 3, "cross_layer_interval is 3, but only a divisor of 4"),
        ("num_attention_heads", 5, "num_attention_heads is 5"),
        ("qk_layer_norms", "yes", "qk_layer_norms is .yes., but only true or false"),
        ("rope_parameters", {"rope_type": "linear"}, "rope_type is .linear., but only"),
        ("vision_config", {**VISION, "hidden_act": "relu"}, "vision_config.hidden_act is .relu."),
        ("vision_config", {**VISION, "patch_size": 5}, "vision_config.patch_size is 5"),
        ("vision_config", {**VISION, "num_attention_heads": 3}, "num_attention_heads is 3"),
        ("vision_config", {**VISION, "num_channels": 1}, "vision_config.num_channels is 1"),
        ("perceiver_config", {"resampler_depth": 0}, "perceiver_config.resampler_depth is 0"),
    ],
)
def test_options_that_cannot_be_used_are_named(folder, option, value, message):
    edit_config(folder, **{option: value})
    with pytest.raises(UserError, match=rf"config\.json: .*{message}"):
        idefics.read(folder)


@pytest.mark.parametrize(
    ("name", "array", "message"),
    [
        ("model__gated_cross_attn_layers__1__alpha_dense", None, "has no tensor 'NAME'"),
        ("model__perceiver_resampler__latents", None, "has no tensor 'NAME'"),
        ("model__vision_model__post_layernorm__bias", None, "has no tensor 'NAME'"),
        ("model__embed_tokens__additional_embedding__weight", None, "has no tensor 'NAME'"),
        ("lm_head__weight", None, "has no tensor 'NAME'"),
        (
            "model__gated_cross_attn_layers__0__alpha_dense",
            np.zeros(1),
            r"'NAME' of .*\[1, 1, 24\]",
        ),
        ("model__layers__3__mlp__up_proj__weight", np.zeros((24, 40)), r"'NAME' of .*\[40, 24\]"),
        ("lm_head__additional_fc__weight", np.zeros((2, 24)), r"'NAME' of .*\[3, 24\]"),
        ("model__layers__4__mlp__up_proj__weight", np.zeros(1), "no place for: 'NAME'"),
        ("model__perceiver_resampler__blocks__2__1__ln__bias", np.zeros(1), "no place for: 'NAME'"),
    ],
)
def test_missing_wrong_and_unexpected_tensors_are_named(folder, name, array, message):
    resave(folder, **{name: array})
    with pytest.raises(UserError, match=message.replace("NAME", name.replace("__", "."))) as error:
        idefics.read(folder)
    assert str(folder) in str(error.value)


def test_other_tokenizers_are_refused(folder):
    write_tokenizer(folder, "<image>")
    with pytest.raises(UserError, match=r"tokenizer of .* lacks .*<fake_token_around_image>"):
        idefics.read(folder)
    (folder / "tokenizer.json").write_text("{")
    with pytest.raises(UserError, match=r"tokenizer\.json cannot be read as a tokenizer"):
        idefics.read(folder)


def test_a_tokenizer_of_another_model(folder):
    write_tokenizer(folder, *(f"<{i}>" for i in range(70)), "<fake_token_around_image>", "<image>")
    message = r"has 63 tokens and none with the id 75 .--media_token_id.: is the tokenizer of"
    with pytest.raises(UserError, match=message):
        idefics.read(folder)


def test_a_folder_without_a_config_is_refused(tmp_path):
    with pytest.raises(UserError, match=r"config\.json cannot be read: No such file"):
        idefics.read(tmp_path)
