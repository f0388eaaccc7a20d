"""CLIP's vision towers against the originals, run live; what is refused and how."""

import json
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
import transformers as hf
from safetensors.torch import load_file, save_file
from torch import nn

from flamingo_jax.checkpoints.clip import read_clip
from flamingo_jax.errors import UserError
from flamingo_jax.models.vit import ViT, ViTConfig
from tests.checkpoints.originals import (
    OpenClipTower,
    QuickGELU,
    edit_config,
    materialised,
    save,
    shaken,
)

SIZE, PATCH = 12, 4
IMAGES = np.random.default_rng(0).normal(size=(2, SIZE, SIZE, 3)).astype(np.float32)
SHAPE = dict(
    hidden_size=16,
    intermediate_size=24,
    num_hidden_layers=2,
    num_attention_heads=2,
    image_size=SIZE,
    patch_size=PATCH,
)


def tower(**options: Any) -> hf.CLIPVisionModel:
    torch.manual_seed(0)
    return shaken(hf.CLIPVisionModel(hf.CLIPVisionConfig(**SHAPE, **options)))


def clip(**options: Any) -> hf.CLIPModel:
    torch.manual_seed(0)
    text = dict(vocab_size=20, hidden_size=8, intermediate_size=8, num_hidden_layers=1)
    config = hf.CLIPConfig(
        text_config={**text, "num_attention_heads": 2}, vision_config={**SHAPE, **options}
    )
    return shaken(hf.CLIPModel(config))


def open_clip(activation: nn.Module) -> OpenClipTower:
    torch.manual_seed(0)
    return shaken(OpenClipTower(SIZE, PATCH, 128, 2, activation), scale=0.05)


def as_torch(images: np.ndarray) -> torch.Tensor:
    return torch.from_numpy(images).permute(0, 3, 1, 2)


def features(config: ViTConfig, tree: Any) -> tuple[np.ndarray, np.ndarray]:
    """The patches' features, and the class token's after the last norm."""
    found, state = ViT(config).apply(
        {"params": materialised(tree)}, IMAGES, mutable="intermediates"
    )
    return np.asarray(found), np.asarray(state["intermediates"]["pooled"][0])


@pytest.mark.parametrize("form", ["safetensors", "bin"])
@pytest.mark.parametrize("make", [tower, clip])
def test_features_equal_transformers(make, form, tmp_path):
    model = make(hidden_act="gelu" if form == "bin" else "quick_gelu", layer_norm_eps=1e-4)
    save(model, tmp_path, form)
    config, tree = read_clip(tmp_path)
    vision = model if make is tower else model.vision_model
    theirs = vision(as_torch(IMAGES))
    ours, pooled = features(config, tree)
    np.testing.assert_allclose(ours, theirs.last_hidden_state[:, 1:], atol=1e-5, rtol=1e-5)
    np.testing.assert_allclose(pooled, theirs.pooler_output, atol=1e-5, rtol=1e-5)
    assert config.mean == ViTConfig.mean


@pytest.mark.parametrize("prefix", ["vision_model.", ""])
def test_a_tower_saved_with_and_without_prefix(prefix, tmp_path):
    model = tower()
    save(model, tmp_path)
    state = {f"{prefix}{k.removeprefix('vision_model.')}": v for k, v in model.state_dict().items()}
    save_file(
        {**state, f"{prefix}embeddings.position_ids": torch.arange(10)},
        tmp_path / "model.safetensors",
    )
    ours, _ = features(*read_clip(tmp_path))
    theirs = model(as_torch(IMAGES)).last_hidden_state[:, 1:]
    np.testing.assert_allclose(ours, theirs, atol=1e-5, rtol=1e-5)


def test_older_configs_of_a_whole_clip(tmp_path):
    save(clip(), tmp_path)
    expected = read_clip(tmp_path)[0]
    edit_config(tmp_path, vision_config={"hidden_size": 768}, vision_config_dict=SHAPE)
    assert read_clip(tmp_path)[0] == expected


def test_colours_of_the_processor(tmp_path):
    save(tower(), tmp_path)
    path = tmp_path / "preprocessor_config.json"
    path.write_text(json.dumps({"image_mean": [0.5, 0.4, 0.3], "image_std": [1, 0.2, 0.1]}))
    config, _ = read_clip(tmp_path)
    assert (config.mean, config.scale) == ((0.5, 0.4, 0.3), (1.0, 0.2, 0.1))
    for wrong in ([0.5, 0.5], 3, [0, 1, 1], ["a", 1, 1]):
        path.write_text(json.dumps({"image_std": wrong}))
        with pytest.raises(UserError, match=r"preprocessor_config.json: image_std is"):
            read_clip(tmp_path)


@pytest.mark.parametrize(
    ("prefix", "quick"), [("visual.", True), ("module.visual.", False), ("", True)]
)
def test_features_equal_open_clip(prefix, quick, tmp_path):
    model = open_clip(QuickGELU() if quick else nn.GELU())
    state = {f"{prefix}{name}": value for name, value in model.state_dict().items()}
    if prefix:
        start = prefix.removesuffix("visual.")
        state |= {
            f"{start}token_embedding.weight": torch.ones(3, 8),
            f"{start}logit_scale": torch.ones(()),
        }
    path = tmp_path / "open_clip.pt"
    torch.save({"state_dict": state} if quick else state, path)
    config, tree = read_clip(path) if quick else read_clip(path, "gelu")
    assert (config.image_size, config.num_heads, config.num_layers) == (SIZE, 2, 2)
    theirs = model(as_torch(IMAGES))[1]
    ours, _ = features(config, tree)
    np.testing.assert_allclose(ours, theirs, atol=2e-5, rtol=1e-5)


def test_open_clip_as_safetensors_and_wide_heads(tmp_path):
    path = tmp_path / "open_clip_model.safetensors"
    save_file(OpenClipTower(SIZE, PATCH, 1280, 1, nn.GELU()).state_dict(), path)
    config, _ = read_clip(path)
    assert (config.num_heads, config.mlp_dim) == (16, 2560)  # ViT-H's heads of 80


UNSUPPORTED: list[tuple[dict[str, Any], str]] = [
    ({"model_type": "siglip"}, 'model_type is "siglip", but only "clip" or "clip_vision_model"'),
    ({"hidden_act": "relu"}, 'hidden_act is "relu"'),
    ({"num_channels": 1}, "num_channels is 1"),
    ({"num_attention_heads": 3}, "num_attention_heads is 3, but only a divisor of 16"),
    ({"patch_size": 5}, "patch_size is 5, but only a divisor of 12"),
    ({"model_type": "clip", "vision_config": {"image_size": "big"}}, "vision_config.image_size"),
]


@pytest.mark.parametrize(("options", "message"), UNSUPPORTED)
def test_options_that_the_tower_does_not_have(options, message, tmp_path):
    save(tower(), tmp_path)
    edit_config(tmp_path, **options)
    with pytest.raises(UserError) as caught:
        read_clip(tmp_path)
    assert str(tmp_path / "config.json") in str(caught.value)
    assert message in str(caught.value)


State = dict[str, torch.Tensor]


def without(name: str) -> Callable[[State], object]:
    return lambda state: state.pop(name)


def given(name: str, *shape: int) -> Callable[[State], object]:
    return lambda state: state.update({name: torch.ones(shape)})


NORM, HEAD = "vision_model.post_layernorm.bias", "vision_model.head.weight"
FIRST = "vision_model.embeddings.class_embedding"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (without(NORM), f"has no tensor '{NORM}'"),
        (given(HEAD, 2), f"has no place for: '{HEAD}'"),
        (given(FIRST, 3), rf"'{FIRST}' of .*model.safetensors has the shape \[3\], but \[16\]"),
    ],
)
def test_tensors_of_a_folder_that_do_not_fit(change, message, tmp_path):
    save(tower(), tmp_path)
    path = tmp_path / "model.safetensors"
    state = {
        f"vision_model.{k.removeprefix('vision_model.')}": v for k, v in load_file(path).items()
    }
    change(state)
    save_file(state, path)
    with pytest.raises(UserError, match=message):
        read_clip(tmp_path)


SCALE = "transformer.resblocks.1.ls_1.gamma"
FUSED = "transformer.resblocks.1.attn.in_proj_bias"
NO_TOWER = r"tower.pt holds no vision Transformer of CLIP: its .* have the shapes .*\[{}\]"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (without("class_embedding"), "has no tensor 'class_embedding'"),
        (given(SCALE, 2), f"has no place for: '{SCALE}'"),
        (given(FUSED, 2), rf"'{FUSED}' of .*tower.pt has the shape \[2\], but \[384\]"),
        (given("positional_embedding", 9, 128), NO_TOWER.format("9, 128")),
        (given("class_embedding", 100), NO_TOWER.format("100")),
        (given("conv1.weight", 128, 3), NO_TOWER.format("128, 3")),
        (given("conv1.weight", 128, 3, 0, 0), NO_TOWER.format("128, 3, 0, 0")),
        (given("class_embedding", 0), NO_TOWER.format("0")),
        (given("transformer.resblocks.0.mlp.c_fc.weight", 0, 128), NO_TOWER.format("0, 128")),
    ],
)
def test_tensors_of_a_file_that_do_not_fit(change, message, tmp_path):
    state, path = open_clip(nn.GELU()).state_dict(), tmp_path / "tower.pt"
    change(state)
    torch.save(state, path)
    with pytest.raises(UserError, match=message):
        read_clip(path)


def test_a_folders_own_activation_stays(tmp_path):
    save(tower(hidden_act="gelu"), tmp_path)
    assert read_clip(tmp_path, "gelu")[0] == read_clip(tmp_path)[0]
    with pytest.raises(
        UserError, match=r"--vision_activation=quick_gelu was given, but .*config.json says gelu"
    ):
        read_clip(tmp_path, "quick_gelu")


def test_a_path_that_is_not_there(tmp_path):
    with pytest.raises(UserError, match="There is no file"):
        read_clip(tmp_path / "tower.pt")
