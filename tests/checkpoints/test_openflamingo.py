"""OpenFlamingo's checkpoints against its own model, run live; what is refused and how."""

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers as hf

from flamingo_jax import runs
from flamingo_jax.checkpoints import converted
from flamingo_jax.checkpoints.openflamingo import read
from flamingo_jax.checkpoints.published import Published
from flamingo_jax.errors import UserError
from flamingo_jax.inference.handle import Flamingo
from flamingo_jax.models.vit import ViTConfig
from tests.checkpoints.lazy import handle
from tests.checkpoints.open_flamingo import (
    EOC,
    MEDIA,
    SEEN,
    SIZE,
    TOKENS,
    VOCAB,
    cached_greedy,
    logits,
    make,
    trained,
)
from tests.checkpoints.originals import materialised
from tests.checkpoints.test_languages import llama, mpt, neox, opt

B, T, N = 3, 12, 2
DRAW = np.random.default_rng(0)
IMAGES = DRAW.normal(size=(B, N, 1, SIZE, SIZE, 3)).astype(np.float32)
IDS = DRAW.integers(0, VOCAB, (B, T))
IDS[1, 3] = MEDIA  # no image in the first row; text before the first one in the others
IDS[2, [2, 7]] = MEDIA

State = dict[str, torch.Tensor]


def whole(model: Any) -> State:
    """All that the model has, under all names."""
    state = model.state_dict()
    assert any(name.startswith("lang_encoder.old_decoder_blocks.") for name in state)
    assert any(name.startswith("vision_encoder.") for name in state)
    return state


@dataclasses.dataclass(frozen=True)
class Case:
    """A language model, the layers for each cross-attention, and how the checkpoint is written."""

    language: Callable[[], hf.PreTrainedModel]
    every: int
    keep: Callable[[Any], State]
    wrap: Callable[[State], Any] = lambda state: state
    frames: int | None = None


def as_training_saves(state: State) -> dict[str, Any]:
    named = {f"module.{name}": value for name, value in state.items()}
    return {"model_state_dict": named, "epoch": 3, "optimizer_state_dict": {"state": {}}}


CASES = {
    "llama": Case(
        lambda: llama(num_hidden_layers=4, num_key_value_heads=2), 2, lambda m: trained(m, "old")
    ),
    "mpt": Case(mpt, 1, lambda m: trained(m, "blocks"), as_training_saves),
    "neox": Case(lambda: neox(num_hidden_layers=3), 2, lambda m: trained(m, "both"), frames=3),
    "opt": Case(opt, 1, whole),
}


@dataclasses.dataclass(frozen=True)
class Original:
    """OpenFlamingo's model and the folder with all that is read."""

    model: Any
    folder: Path

    def read(self, **given: Any) -> Published:
        ids = {"media_token_id": MEDIA, "eoc_token_id": EOC}
        paths = (self.folder / name for name in ("language", "vision", "checkpoint.pt"))
        return read(*paths, **{**ids, **given})


def saved(case: Case, folder: Path) -> Original:
    torch.manual_seed(0)
    model = make(case.language(), folder, case.every, case.frames)
    torch.save(case.wrap(case.keep(model)), folder / "checkpoint.pt")
    return Original(model, folder)


@pytest.fixture(scope="module", params=CASES)
def pair(request, tmp_path_factory) -> tuple[Original, Flamingo]:
    """An original and what was read of it."""
    original = saved(CASES[request.param], tmp_path_factory.mktemp(request.param))
    return original, handle(original.read())


@pytest.fixture(scope="module")
def mpt_original(tmp_path_factory) -> Original:
    """One whose files may be read again."""
    return saved(CASES["mpt"], tmp_path_factory.mktemp("mpt"))


def test_logits_equal_the_original(pair):
    original, ours = pair
    theirs = logits(original.model, IDS, IMAGES)
    np.testing.assert_allclose(ours.logits(IDS, IMAGES), theirs, atol=5e-5, rtol=1e-5)
    blind = ours.with_gates(0.0, 0.0).logits(IDS, IMAGES)
    assert np.abs(blind - theirs).max() > 0.1


@pytest.mark.parametrize("side", ["left", "right"])
def test_logits_of_padded_rows_equal_the_original(pair, side):
    original, ours = pair
    mask = np.ones((B, T), np.int64)
    for row, padding in zip(mask, (5, 0, 2), strict=True):
        row[: padding if side == "left" else 0] = 0
        row[T - padding if side == "right" else T :] = 0
    theirs = logits(original.model, IDS, IMAGES, mask)
    found = ours.logits(IDS, IMAGES, attention_mask=mask)
    real = mask.astype(bool)
    np.testing.assert_allclose(found[real], theirs[real], atol=5e-5, rtol=1e-5)


def test_the_forward_of_the_original_is_what_is_compared(pair):
    original, _ = pair
    pixels = torch.from_numpy(IMAGES).permute(0, 1, 2, 5, 3, 4)
    mask = torch.ones((B, T), dtype=torch.long)
    own = original.model(vision_x=pixels, lang_x=torch.from_numpy(IDS), attention_mask=mask)
    np.testing.assert_array_equal(own.logits, logits(original.model, IDS, IMAGES))


@pytest.mark.slow
def test_greedy_tokens_equal_the_original(pair):
    original, ours = pair
    steps, ids = 32, IDS
    for _ in range(steps):
        following = logits(original.model, ids, IMAGES)[:, -1:].argmax(-1)
        ids = np.concatenate([ids, following], axis=1)
    expected = ids[:, T:]
    assert MEDIA not in expected
    assert len(np.unique(expected)) > 2
    np.testing.assert_array_equal(ours.generate_tokens(IDS, IMAGES, steps), expected)
    for left in (True, False):
        padded = np.pad(IDS, ((0, 0), (4, 0) if left else (0, 4)), constant_values=MEDIA)
        mask = np.pad(np.ones_like(IDS), ((0, 0), (4, 0) if left else (0, 4)))
        found = ours.generate_tokens(padded, IMAGES, steps, attention_mask=mask)
        np.testing.assert_array_equal(found, expected)


def test_a_generated_media_token_shows_what_the_prompt_showed(tmp_path):
    """As in the original's cached generation of one row with one image."""
    original = saved(CASES["neox"], tmp_path)
    ids, images = IDS[1:2], IMAGES[1:2, :1]
    head = original.model.lang_encoder.get_output_embeddings().weight
    head[MEDIA] = head[logits(original.model, ids, images)[0, -1].argmax()] * 1.5  # likelier yet
    torch.save(whole(original.model), tmp_path / "checkpoint.pt")
    expected = cached_greedy(original.model, ids, images, 8)
    assert MEDIA in expected[:, :-1]
    ours = handle(original.read())
    np.testing.assert_array_equal(ours.generate_tokens(ids, images, 8), expected)
    tokens = np.concatenate([ids, expected], axis=1)
    seen = (np.cumsum(tokens == MEDIA, axis=1) > 0)[..., None]
    uncached = ours.logits(tokens, images, seen)[:, T - 1 : -1].argmax(-1)
    np.testing.assert_array_equal(uncached, expected)


@pytest.mark.parametrize("frames", [1, 3])
def test_frames_of_a_video_equal_the_original(frames, tmp_path):
    original = saved(CASES["neox"], tmp_path)
    ours = handle(original.read())
    videos = np.random.default_rng(1).normal(size=(B, N, frames, SIZE, SIZE, 3)).astype(np.float32)
    theirs = logits(original.model, IDS, videos)
    np.testing.assert_allclose(ours.logits(IDS, videos), theirs, atol=5e-5, rtol=1e-5)


def test_what_is_read_of_the_config(pair):
    _, ours = pair
    config = ours.config
    assert config.xattn.first == config.xattn.every - 1
    assert (config.decoder.vocab_size, config.resampler.width) == (TOKENS, SEEN)
    assert (ours.text.image_id, ours.text.eoc_id, ours.text.fit) == (MEDIA, EOC, "crop")
    assert ours.text.max_tokens == 64
    assert isinstance(config.vision, ViTConfig)
    assert not config.vision.class_token


def test_a_converted_model_is_loaded_with_the_same_logits(mpt_original, tmp_path):
    converted.save(mpt_original.read(), tmp_path / "model")
    loaded = runs.load(tmp_path / "model")
    theirs = logits(mpt_original.model, IDS, IMAGES)
    np.testing.assert_allclose(loaded.logits(IDS, IMAGES), theirs, atol=5e-5, rtol=1e-5)
    blocks = mpt_original.model.lang_encoder.gated_cross_attn_layers
    gates = loaded.gates()
    assert gates["layers"] == [0, 1]
    np.testing.assert_allclose(gates["alpha_xattn"], [float(b.attn_gate) for b in blocks])
    np.testing.assert_allclose(gates["alpha_dense"], [float(b.ff_gate) for b in blocks])


def test_embeddings_of_the_checkpoint_win(mpt_original):
    tree = mpt_original.read().variables["frozen"]["language"]["vocabulary"]
    theirs = mpt_original.model.lang_encoder.transformer.wte.weight
    np.testing.assert_array_equal(materialised(tree)["embedding"], theirs)


# What does not fit.


def rewritten(original: Original, folder: Path, change: Callable[[State], object]) -> Original:
    """The same with a changed checkpoint."""
    state = trained(original.model, "old")
    change(state)
    for name in ("language", "vision"):
        (folder / name).symlink_to(original.folder / name)
    torch.save(state, folder / "checkpoint.pt")
    return Original(original.model, folder)


def without(start: str) -> Callable[[State], object]:
    return lambda state: [state.pop(name) for name in list(state) if name.startswith(start)]


def given(name: str, *shape: int) -> Callable[[State], object]:
    return lambda state: state.update({name: torch.ones(shape)})


XATTN = "lang_encoder.gated_cross_attn_layers."
GATE, QUERY = f"{XATTN}1.attn_gate", f"{XATTN}1.attn.to_q.weight"
TABLE, LATENTS = "transformer.wte.weight", "perceiver.latents"
UNFIT = [
    (without("perceiver.norm.bias"), "checkpoint.pt has no tensor 'perceiver.norm.bias'"),
    (without(f"{XATTN}1.ff_gate"), f"checkpoint.pt has no tensor '{XATTN}1.ff_gate'"),
    (without(XATTN), r"checkpoint.pt has cross-attention before the layers \[\] of 2"),
    (given(f"{XATTN}2.ff_gate", 1), r"before the layers \[0, 1, 2\] of 2, which are not every"),
    (given(GATE, 24), rf"'{GATE}' of .*checkpoint.pt has the shape \[24\], but \[1\]"),
    (given(QUERY, 96, 24), rf"'{QUERY}' of .* has the shape \[96, 24\], but \[512, 24\]"),
    (given(LATENTS, 5, 8), rf"'{LATENTS}' of .* has the shape \[5, 8\], but \[5, 16\]"),
    (given(LATENTS), rf"'{LATENTS}' of .* has the shape \[\], but"),
    (given("perceiver.media_time_embs", 3, 1, 16), "has 'perceiver.media_time_embs', embeddings"),
    (given("perceiver.extra", 3), "checkpoint.pt has tensors .* 'perceiver.extra'"),
    (given("something.else", 3), "checkpoint.pt has tensors .* 'something.else'"),
    (given("lang_encoder.transformer.extra", 3), "checkpoint.pt has .* 'transformer.extra'"),
    (given(f"lang_encoder.{TABLE}", 43, 32), rf"'{TABLE}' of .*checkpoint.pt .* but \[43, 24\]"),
]


@pytest.mark.parametrize(("change", "message"), UNFIT)
def test_tensors_that_do_not_fit(change, message, mpt_original, tmp_path):
    with pytest.raises(UserError, match=message):
        rewritten(mpt_original, tmp_path, change).read()


def test_layers_for_each_cross_attention_may_be_given(mpt_original):
    assert mpt_original.read(cross_attn_every=1).config == mpt_original.read().config
    with pytest.raises(UserError, match=r"--cross_attn_every=2 was given, but .*checkpoint.pt has"):
        mpt_original.read(cross_attn_every=2)


def test_the_activation_of_the_tower_is_asked_for(mpt_original):
    assert mpt_original.read(vision_activation="quick_gelu").config == mpt_original.read().config
    with pytest.raises(UserError, match=r"--vision_activation=gelu was given, but .*quick_gelu"):
        mpt_original.read(vision_activation="gelu")


def test_the_checkpoint_that_is_not_there(mpt_original):
    with pytest.raises(UserError, match=r"There is no file .*none.pt"):
        read(mpt_original.folder / "language", mpt_original.folder / "vision", Path("none.pt"))
