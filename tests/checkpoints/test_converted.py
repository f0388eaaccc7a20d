"""Converted and exported models on disk: whole or not there, and read back bit for bit."""

import dataclasses
import json
from pathlib import Path

import chex
import jax
import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

import flamingo_jax
from flamingo_jax import runs
from flamingo_jax.checkpoints import converted
from flamingo_jax.checkpoints.published import Published
from flamingo_jax.checkpoints.tensors import Tensor
from flamingo_jax.data.tokenizer import TextConfig, Tokenizer
from flamingo_jax.errors import UserError
from tests.inference.conftest import Tiny, build, word_tokenizer

TEXT = TextConfig(image_id=1, eoc_id=2, pad_id=0, bos_id=0, around_image="c", max_tokens=40)


@pytest.fixture(scope="module")
def tiny() -> Tiny:
    return build(0.5)


def published(tiny: Tiny, **changes: object) -> Published:
    words = word_tokenizer().to_str()
    variables = jax.tree.map(np.asarray, tiny.variables)
    whole = Published("idefics", tiny.config, variables, TEXT, words)
    return dataclasses.replace(whole, **changes)


def test_a_converted_model_is_read_back_bit_for_bit(tiny: Tiny, tmp_path: Path) -> None:
    converted.save(published(tiny), tmp_path / "out")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out"]
    model = flamingo_jax.load(tmp_path / "out")
    chex.assert_trees_all_equal(model.weights, tiny.weights, strict=True)
    assert (model.config, model.text) == (tiny.config, TEXT)
    assert model.tokenizer is not None
    assert model.tokenizer.encode("a<image>") == [3, 1]


def test_prompts_have_what_belongs_around_images(tiny: Tiny, tmp_path: Path) -> None:
    converted.save(published(tiny), tmp_path / "out")
    model = flamingo_jax.load(tmp_path / "out", max_tokens=16)
    images = [np.zeros((8, 8, 3), np.uint8)] * 2
    [spelled] = model.prompt_logits(["c<image>c<image>c a"], [images])
    [short] = model.prompt_logits(["<image><image> a"], [images])
    np.testing.assert_array_equal(spelled, short)
    assert len(short) == 7  # the start, c <image> c <image> c, a
    with pytest.raises(UserError, match="max_tokens is 16"):
        model.prompt_logits(["a " * 20], [[]])


def test_without_a_tokenizer_there_are_arrays(tiny: Tiny, tmp_path: Path) -> None:
    converted.save(published(tiny, tokenizer=None), tmp_path / "out")
    model = flamingo_jax.load(tmp_path / "out")
    images = np.zeros((1, 1, 1, 8, 8, 3), np.float32)
    assert model.generate_tokens(np.array([[1, 3]]), images, 3).shape == (1, 3)
    with pytest.raises(UserError, match="without a tokenizer"):
        model.generate(["a"], [[]])


def test_types_on_disk(tiny: Tiny, tmp_path: Path) -> None:
    converted.save(published(tiny), tmp_path / "out", "bfloat16")
    stored = converted.load_variables(tmp_path / "out")["frozen"]["vision"]["net"]["final"]
    assert stored["kernel"].dtype == jax.numpy.bfloat16


def test_a_tensor_that_cannot_be_read_leaves_nothing(tiny: Tiny, tmp_path: Path) -> None:
    def fail() -> np.ndarray:
        raise UserError("model.bin: tensor 'x' is cut off.")

    kernel = tiny.variables["params"]["resampler"]["project"]["kernel"]
    broken = Tensor("x", kernel.shape, np.dtype(np.float32), Path("model.bin"), fail)
    resampler = {**tiny.variables["params"]["resampler"], "project": {"kernel": broken}}
    params = {**tiny.variables["params"], "resampler": resampler}
    source = published(tiny, variables={**tiny.variables, "params": params})
    with pytest.raises(UserError, match="tensor 'x' is cut off"):
        converted.save(source, tmp_path / "out")
    assert not list(tmp_path.iterdir())


def test_what_is_there_is_not_overwritten(tiny: Tiny, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="exists: choose another --output"):
        converted.save(published(tiny), tmp_path)
    converted.save(published(tiny), tmp_path / "out")
    with pytest.raises(UserError, match="exists: choose another --output"):
        runs.export(tmp_path / "out", tmp_path)


def test_a_model_goes_out_and_comes_back_bit_for_bit(tiny: Tiny, tmp_path: Path) -> None:
    converted.save(published(tiny), tmp_path / "out")
    runs.export(tmp_path / "out", tmp_path / "shared")
    names = sorted(path.name for path in (tmp_path / "shared").iterdir())
    assert names == [
        "config.json",
        "language.safetensors",
        "params.safetensors",
        "tokenizer.json",
        "vision.safetensors",
    ]
    again, before = (flamingo_jax.load(tmp_path / name) for name in ("shared", "out"))
    chex.assert_trees_all_equal(again.weights, tiny.weights, strict=True)
    assert (again.config, again.text) == (tiny.config, TEXT)
    tokens = np.array([[0, 1, 3, 4, 1, 5]])
    pixels = np.random.default_rng(0).normal(size=(1, 2, 1, 8, 8, 3)).astype(np.float32)
    np.testing.assert_array_equal(again.logits(tokens, pixels), before.logits(tokens, pixels))
    runs.export(tmp_path / "shared", tmp_path / "twice")
    for name in names:
        assert (tmp_path / "twice" / name).read_bytes() == (tmp_path / "shared" / name).read_bytes()


@pytest.mark.slow
def test_exported_files_that_are_not_whole_are_told(tiny: Tiny, tmp_path: Path) -> None:
    converted.save(published(tiny), tmp_path / "out")
    runs.export(tmp_path / "out", tmp_path / "shared")
    path = tmp_path / "shared" / "params.safetensors"
    tensors = load_file(path)
    name, *_ = tensors
    other = {**tensors, name: np.zeros((7, 7), np.float32)}
    for changed, message in (
        ({k: v for k, v in tensors.items() if k != name}, f"has no tensor '{name}'"),
        (other, rf"'{name}' of .* has the shape \[7, 7\]"),
        ({**tensors, "odd": np.zeros(1, np.float32)}, "odd"),
    ):
        save_file(changed, path)
        with pytest.raises(UserError, match=message):
            flamingo_jax.load(tmp_path / "shared")
    save_file(tensors, path)
    for file, message in (
        ("vision", "has no vision.safetensors: copy all of it"),
        ("language", "has no language.safetensors, and its language model is not that of"),
    ):
        kept = (tmp_path / "shared" / f"{file}.safetensors").rename(tmp_path / file)
        with pytest.raises(UserError, match=message):
            flamingo_jax.load(tmp_path / "shared")
        kept.rename(tmp_path / "shared" / f"{file}.safetensors")


def test_a_config_that_is_none(tiny: Tiny, tmp_path: Path) -> None:
    converted.save(published(tiny), tmp_path / "out")
    path = tmp_path / "out" / "config.json"
    values = json.loads(path.read_text())
    values["model"]["xattn"]["evry"] = 1
    path.write_text(json.dumps(values))
    with pytest.raises(UserError, match=r"model\.xattn\.evry: did you mean model\.xattn\.every"):
        flamingo_jax.load(tmp_path / "out")


def test_damaged_arrays_are_told(tiny: Tiny, tmp_path: Path) -> None:
    converted.save(published(tiny), tmp_path / "out")
    largest = max((tmp_path / "out" / "params").rglob("*"), key=lambda p: p.stat().st_size)
    largest.write_bytes(largest.read_bytes()[:-1] + b"?")
    with pytest.raises(UserError, match=r"No readable arrays in .*params"):
        flamingo_jax.load(tmp_path / "out")


def test_markers_of_another_name() -> None:
    tokenizer = Tokenizer(word_tokenizer(), dataclasses.replace(TEXT, image_id=4, bos_id=None))
    assert (tokenizer.image_id, tokenizer.start()) == (4, [])
