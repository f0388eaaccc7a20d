"""flamingo-mini checkpoints read here against its model in PyTorch with the same weights."""

import dataclasses
import functools
import json
from pathlib import Path

import chex
import numpy as np
import pytest
import torch

from flamingo_jax.checkpoints import flamingo_mini
from flamingo_jax.errors import UserError
from tests.checkpoints.flamingo_mini_torch import FlamingoMini
from tests.checkpoints.lazy import handle
from tests.checkpoints.originals import OpenClipTower, materialised, shaken

VOCAB, SIZE, B, PROMPT, N, OPENING = 60, 12, 3, 9, 2, 27
T = PROMPT + 32
CLIP = {
    "hidden_size": 24,
    "image_size": SIZE,
    "patch_size": 4,
    "intermediate_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 12,
}
OPT = {
    "vocab_size": VOCAB,
    "hidden_size": 48,
    "word_embed_proj_dim": 48,
    "num_hidden_layers": 3,
    "num_attention_heads": 12,
    "ffn_dim": 40,
    "max_position_embeddings": 50,
}
SMALL = {
    "lm": "facebook/opt-125m",
    "clip_model_type": "openai/clip-vit-base-patch32",
    "dim": 48,
    "dim_visual": 24,
    "xattn_every": 2,
    "xattn_dim_head": 6,
    "xattn_heads": 4,
    "xattn_ff_mult": 2,
    "xattn_act": "sqrelu",
    "resampler_depth": 2,
    "resampler_dim_head": 5,
    "resampler_heads": 3,
    "resampler_num_latents": 4,
    "resampler_num_time_embeds": 3,
    "resampler_ff_mult": 3,
    "resampler_act": "gelu",
}
MODELS = {
    "pre-norm": (SMALL, OPT, CLIP),
    "post-norm": (
        SMALL
        | {"lm": "facebook/opt-350m", "clip_model_type": "laion/CLIP-ViT-L-14"}
        | {"dim_visual": 64, "xattn_every": 1, "xattn_act": "gelu", "resampler_act": "relu"},
        OPT
        | {"num_attention_heads": 16, "word_embed_proj_dim": 20, "do_layer_norm_before": False}
        | {"num_hidden_layers": 2},
        CLIP | {"hidden_size": 64, "num_attention_heads": 1, "hidden_act": "gelu"},
    ),
    "untied": (
        SMALL,
        OPT | {"word_embed_proj_dim": 20, "tie_word_embeddings": False, "num_hidden_layers": 2},
        CLIP,
    ),
}
"""Options of flamingo-mini, OPT and CLIP; names tell what the folder does not hold."""

DRAW = np.random.default_rng(0)
TOKENS = DRAW.integers(3, VOCAB, (B, T))
TOKENS[TOKENS == OPENING] = 3
VIDEOS = DRAW.normal(size=(B, N, 3, SIZE, SIZE, 3)).astype(np.float32)


@functools.cache
def original(name: str) -> FlamingoMini:
    torch.manual_seed(0)
    return shaken(FlamingoMini(*MODELS[name]))


def save(name: str, folder: Path, change=lambda state: state, **options) -> None:
    """config.json and pytorch_model.bin, its tensors changed."""
    (folder / "config.json").write_text(json.dumps({**MODELS[name][0], **options}))
    torch.save(change(original(name).original_state()), folder / "pytorch_model.bin")


def without(start: str):
    """Leaves out the tensors whose names begin so."""
    return lambda state: {k: v for k, v in state.items() if not k.startswith(start)}


@pytest.fixture(scope="module", params=MODELS)
def pair(request, tmp_path_factory):
    """The original, and the handle of its folder with `OPENING` for the token that shows images."""
    folder = tmp_path_factory.mktemp("flamingo_mini")
    save(request.param, folder)
    published = flamingo_mini.read(folder)
    text = dataclasses.replace(published.text, image_id=OPENING)
    return original(request.param), handle(dataclasses.replace(published, text=text))


def torch_inputs(tokens, videos, attention_mask) -> tuple:
    pixels = torch.from_numpy(videos.transpose(0, 1, 2, 5, 3, 4))
    locations = torch.from_numpy((tokens == OPENING) * 1)
    return torch.from_numpy(tokens), pixels, locations, torch.from_numpy(attention_mask)


@pytest.mark.slow
def test_logits_and_greedy_tokens_of_videos(pair):
    """Rows: text before and after two of them; one, padded on the right; none, on the left."""
    model, ours = pair
    tokens, attention_mask = TOKENS.copy(), np.ones((B, T), int)
    tokens[0, [2, 6]] = tokens[1, 0] = OPENING
    attention_mask[1, 26:] = attention_mask[2, :4] = 0
    logits = model.logits(*torch_inputs(tokens, VIDEOS, attention_mask)).numpy()
    found = ours.logits(tokens, VIDEOS, attention_mask=attention_mask)
    assert found.shape == logits.shape
    real = attention_mask.astype(bool)
    np.testing.assert_allclose(found[real], logits[real], atol=3e-5)
    assert np.abs(logits[real]).max() > 1

    mask = attention_mask[:, :PROMPT]
    generated = model.greedy(*torch_inputs(tokens[:, :PROMPT], VIDEOS, mask), 32).numpy()
    found = ours.generate_tokens(tokens[:, :PROMPT], VIDEOS, 32, mask)
    np.testing.assert_array_equal(found, generated)


@pytest.mark.slow
def test_logits_of_images_by_a_mask(pair):
    """Images are videos of one frame. Without the cache, the generated tokens are the same."""
    model, ours = pair
    images = np.ascontiguousarray(VIDEOS[:, :, :1])
    prompt = TOKENS[:, :PROMPT].copy()
    prompt[0, [2, 6]] = prompt[1, 0] = OPENING
    generated = ours.generate_tokens(prompt, images, 32)
    tokens = np.concatenate([prompt, generated], axis=1)
    seen = np.cumsum(prompt == OPENING, axis=1)
    seen = np.concatenate([seen, np.repeat(seen[:, -1:], 32, axis=1)], axis=1)
    found = ours.logits(tokens, images, seen[..., None] == np.arange(1, N + 1))
    np.testing.assert_array_equal(found[:, PROMPT - 1 : -1].argmax(-1), generated)

    _, pixels, _, mask = torch_inputs(prompt, images, np.ones((B, T), int))
    locations = torch.from_numpy(np.diff(seen, axis=1, prepend=0))
    logits = model.logits(torch.from_numpy(tokens), pixels, locations, mask).numpy()
    np.testing.assert_allclose(found, logits, atol=3e-5)


def test_what_no_shape_tells_is_told_by_the_name(tmp_path):
    """A size that is not published has heads of 64 channels, and norms as the last one says."""
    for name in MODELS:
        save(name, tmp_path)
        decoder = flamingo_mini.read(tmp_path).config.decoder
        assert decoder.num_heads == MODELS[name][1]["num_attention_heads"]
        assert decoder.post_norm == (name == "post-norm")
        save(name, tmp_path, lm="facebook/opt-tiny")
        with pytest.raises(UserError, match="num_attention_heads is 0"):
            flamingo_mini.read(tmp_path)


def test_names_that_are_folders_tell_the_options(tmp_path):
    """As the original gives them to `from_pretrained`."""
    for name, (_, opt, clip) in MODELS.items():
        source = tmp_path / name
        for folder, options in (("facebook/opt", opt), ("clip", clip)):
            (source / folder).mkdir(parents=True)
            kind = {"model_type": "opt" if options is opt else "clip_vision_model"}
            (source / folder / "config.json").write_text(json.dumps(kind | options))
        tower = {k: v for k, v in original(name).original_state().items() if "vision" in k}
        tower = {k.removeprefix("flamingo.vision_encoder."): v for k, v in tower.items()}
        torch.save(tower, source / "clip" / "pytorch_model.bin")
        save(name, source)
        by_shape = flamingo_mini.read(source)
        expected = materialised(by_shape.variables)
        save(name, source, lm="facebook/opt", clip_model_type=str(source / "clip"))
        by_folder = flamingo_mini.read(source)
        assert by_folder.config == by_shape.config
        chex.assert_trees_all_equal(materialised(by_folder.variables), expected)
    (source / "facebook/opt/config.json").write_text('{"model_type": "llama"}')
    with pytest.raises(UserError, match=r"model_type is .llama., but only .opt."):
        flamingo_mini.read(source)


def test_the_vision_tower_may_come_from_a_folder(tmp_path):
    (tmp_path / "clip").mkdir()
    original("pre-norm").flamingo.vision_encoder.save_pretrained(tmp_path / "clip")
    save("pre-norm", tmp_path)
    whole = flamingo_mini.read(tmp_path)
    tower = materialised(whole.variables["frozen"]["vision"])
    save("pre-norm", tmp_path, without("flamingo.vision_encoder."))
    with pytest.raises(UserError, match="openai/clip-vit-base-patch32 with --vision"):
        flamingo_mini.read(tmp_path)
    apart = flamingo_mini.read(tmp_path, tmp_path / "clip")
    assert apart.config == whole.config
    chex.assert_trees_all_equal(materialised(apart.variables["frozen"]["vision"]), tower)
    with pytest.raises(UserError, match=r"--vision_activation=gelu was given, but .*quick_gelu"):
        flamingo_mini.read(tmp_path, tmp_path / "clip", "gelu")


def test_the_activation_of_a_tower_that_does_not_tell_it(tmp_path):
    """Within the checkpoint, where its name tells it else, and of open_clip's files."""
    save("post-norm", tmp_path)
    tower = OpenClipTower(SIZE, 4, 64, 1, torch.nn.GELU())
    torch.save(tower.state_dict(), tmp_path / "open_clip.pt")
    for given, within, beside in (
        (None, "gelu", "quick_gelu"),
        ("gelu", "gelu", "gelu"),
        ("quick_gelu", "quick_gelu", "quick_gelu"),
    ):
        vision = flamingo_mini.read(tmp_path, None, given).config.vision
        assert vision.activation == within
        save("post-norm", tmp_path, without("flamingo.vision_encoder."))
        vision = flamingo_mini.read(tmp_path, tmp_path / "open_clip.pt", given).config.vision
        assert vision.activation == beside
        save("post-norm", tmp_path)


def test_names_of_other_versions(tmp_path):
    """Towers of transformers 5, buffers of old ones, and the tied table under either name."""
    table = "flamingo.lm.decoder.embed_tokens.weight"
    save("pre-norm", tmp_path)
    expected = materialised(flamingo_mini.read(tmp_path).variables)
    position_ids = "flamingo.vision_encoder.vision_model.embeddings.position_ids"
    for change in (
        lambda state: {k.replace("vision_model.", ""): v for k, v in state.items()},
        lambda state: state | {position_ids: torch.arange(10)},
        without(table),
        without("flamingo.lm_head."),
    ):
        save("pre-norm", tmp_path, change)
        found = materialised(flamingo_mini.read(tmp_path).variables)
        chex.assert_trees_all_equal(found, expected)


def test_an_output_projection_of_its_own_is_kept(tmp_path):
    """Where the tables differ, or an option says that there are two."""
    head = "flamingo.lm_head.weight"
    save("pre-norm", tmp_path)
    tied = flamingo_mini.read(tmp_path)
    save("pre-norm", tmp_path, tie_word_embeddings=False)
    asked = flamingo_mini.read(tmp_path)
    save("pre-norm", tmp_path, lambda state: state | {head: state[head] + 1})
    apart = flamingo_mini.read(tmp_path)
    assert (tied.config.decoder.tied, asked.config.decoder.tied) == (True, False)
    assert apart.config == asked.config
    table = original("pre-norm").flamingo.lm_head.weight.numpy()
    for published, theirs in ((asked, table), (apart, table + 1)):
        found = materialised(published.variables["frozen"]["language"]["vocabulary"])
        np.testing.assert_array_equal(found["head"], theirs)
        np.testing.assert_array_equal(found["embedding"], table)
    tokens = TOKENS[:, :PROMPT]
    expected = handle(tied).logits(tokens, VIDEOS)
    np.testing.assert_allclose(handle(asked).logits(tokens, VIDEOS), expected, atol=1e-5)
    save("untied", tmp_path, without(head), tie_word_embeddings=False)
    with pytest.raises(UserError, match=f"has no tensor '{head}'"):
        flamingo_mini.read(tmp_path)


def test_rows_longer_than_the_table_of_positions(pair):
    """The original fails with an IndexError."""
    model, ours = pair
    tokens = np.concatenate([TOKENS, TOKENS[:, :11]], axis=1)
    real = np.ones(tokens.shape, int)
    with pytest.raises(IndexError):
        model.logits(*torch_inputs(tokens, VIDEOS, real))
    with pytest.raises(UserError, match=r"A row has 52 tokens, but .* positions for 50 only"):
        ours.logits(tokens, VIDEOS)
    real[:, :2] = 0
    assert np.isfinite(ours.logits(tokens, VIDEOS, attention_mask=real)).all()
    with pytest.raises(UserError, match="A row has 9 tokens and 42 are to follow, but"):
        ours.generate_tokens(tokens[:, :PROMPT], VIDEOS, 42)


def test_the_token_after_a_space_shows_images_too(pair):
    """As the original's processor counts both."""
    model, ours = pair
    text = dataclasses.replace(ours.text, spaced_image_id=OPENING + 1)
    ours = dataclasses.replace(ours, text=text)
    tokens = np.where(TOKENS == OPENING + 1, 3, TOKENS)
    tokens[0, [2, 6]] = tokens[1, 0] = OPENING
    tokens[0, 6] = tokens[2, 3] = OPENING + 1
    inputs = list(torch_inputs(tokens, VIDEOS, np.ones((B, T), int)))
    inputs[2] = torch.from_numpy(np.isin(tokens, (OPENING, OPENING + 1)) * 1)
    np.testing.assert_allclose(ours.logits(tokens, VIDEOS), model.logits(*inputs), atol=3e-5)


@pytest.mark.parametrize(
    ("option", "value", "message"),
    [
        ("lm", "gpt2", "lm is .gpt2., but only facebook/opt-... .and not GPT-2."),
        ("lm", 3, "lm is 3"),
        ("xattn_act", "silu", "xattn_act is .silu., but only .gelu. or .sqrelu. or .relu."),
        ("resampler_act", "tanh", "resampler_act is .tanh."),
        ("xattn_heads", 0, "xattn_heads is 0"),
        ("dim_visual", 32, "dim_visual is 32, but only the vision tower's width 24"),
    ],
)
def test_options_that_cannot_be_used_are_named(tmp_path, option, value, message):
    save("pre-norm", tmp_path, **{option: value})
    with pytest.raises(UserError, match=rf"config\.json: {message}"):
        flamingo_mini.read(tmp_path)


AT = "flamingo.lm.decoder."


@pytest.mark.parametrize(
    ("name", "array", "message"),
    [
        ("flamingo.resampler.time_pos_emb", None, "has no tensor 'NAME'"),
        (f"{AT}layers.2.xattn_block.alpha_ffw", None, "has no tensor 'NAME'"),
        (f"{AT}layers.1.self_attn.k_proj.bias", None, "has no tensor 'NAME'"),
        (f"{AT}final_layer_norm.weight", None, "has no tensor 'NAME'"),
        ("flamingo.vision_encoder.vision_model.post_layernorm.bias", None, "no tensor 'NAME'"),
        ("flamingo.resampler.time_pos_emb", (4, 1, 24), r"'NAME' .*shape \[4, 1, 24\]"),
        (f"{AT}layers.0.xattn_block.attn.to_kv.weight", (24, 24), r"'NAME' .*\[48, 24\]"),
        (f"{AT}layers.0.lm_block.fc2.weight", (40, 48), r"'NAME' .*but \[48, 40\]"),
        (f"{AT}embed_tokens.weight", (60,), r"'NAME' .*\[60\], but a matrix"),
        ("flamingo.lm_head.weight", (61, 48), r"'NAME' .*but \[60, 48\]"),
        (f"{AT}layers.1.xattn_block.alpha_ffw", (1,), "no place for: 'NAME'"),
        ("flamingo.resampler.layers.2.1.0.bias", (24,), "no place for: 'NAME'"),
    ],
)
def test_missing_wrong_and_unexpected_tensors_are_named(tmp_path, name, array, message):
    def change(state):
        if array is None:
            return {k: v for k, v in state.items() if k != name}
        return state | {name: torch.zeros(array)}

    save("pre-norm", tmp_path, change)
    with pytest.raises(UserError, match=message.replace("NAME", name)) as error:
        flamingo_mini.read(tmp_path)
    assert str(tmp_path) in str(error.value)
