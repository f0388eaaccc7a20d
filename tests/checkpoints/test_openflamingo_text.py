"""OpenFlamingo's tokens with a meaning, against transformers' tokenizers; what is refused."""

import json
import shutil
from collections.abc import Callable
from typing import Any

import pytest
import tokenizers
import transformers as hf
from tokenizers import models, pre_tokenizers, processors

from flamingo_jax import runs
from flamingo_jax.checkpoints import converted
from flamingo_jax.checkpoints.published import Published
from flamingo_jax.errors import UserError
from tests.checkpoints.open_flamingo import EOC, MEDIA, TOKENS, VOCAB
from tests.checkpoints.test_openflamingo import CASES, Original, saved


@pytest.fixture(scope="module")
def mpt_original(tmp_path_factory) -> Original:
    """One whose files may be read again."""
    return saved(CASES["mpt"], tmp_path_factory.mktemp("mpt"))


@pytest.mark.parametrize("missing", ["media_token_id", "eoc_token_id"])
def test_without_tokenizer_both_ids_are_needed(missing, mpt_original):
    with pytest.raises(UserError, match="give --media_token_id and --eoc_token_id"):
        mpt_original.read(**{missing: None})


def test_a_tokenizer_that_is_not_read_is_named(mpt_original, tmp_path):
    for path in mpt_original.folder.iterdir():
        if path.name != "language":
            (tmp_path / path.name).symlink_to(path)
    shutil.copytree(mpt_original.folder / "language", tmp_path / "language")
    (tmp_path / "language" / "tokenizer.model").write_bytes(b"sentencepiece")
    original = Original(mpt_original.model, tmp_path)
    message = r"as tokenizer.model only.*save it as tokenizer.json with transformers first.*: give"
    with pytest.raises(UserError, match=message):
        original.read(eoc_token_id=None)
    assert original.read().tokenizer is None


@pytest.mark.parametrize("number", [-1, TOKENS])
def test_ids_that_the_model_does_not_have(number, mpt_original):
    with pytest.raises(UserError, match=rf"has 43 tokens and none with the id {number}"):
        mpt_original.read(media_token_id=number)


def words(count: int = VOCAB, *, start: bool = False) -> tokenizers.Tokenizer:
    """A tokenizer of `count` words, which may put <s> before a text."""
    vocabulary = {"<s>": 0, "<pad>": 1, "a": 2, **{f"w{i}": i for i in range(3, count)}}
    tokenizer = tokenizers.Tokenizer(models.WordLevel(vocabulary, "a"))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    if start:
        tokenizer.post_processor = processors.TemplateProcessing(
            "<s> $A", special_tokens=[("<s>", 0)]
        )
    return tokenizer


@pytest.fixture
def with_tokenizer(mpt_original, tmp_path) -> Callable[..., Original]:
    """Puts a tokenizer's files into the language folder."""

    def build(tokenizer: tokenizers.Tokenizer, **options: Any) -> Original:
        (tmp_path / "language").mkdir()
        for path in (mpt_original.folder / "language").iterdir():
            (tmp_path / "language" / path.name).symlink_to(path)
        for name in ("vision", "checkpoint.pt"):
            (tmp_path / name).symlink_to(mpt_original.folder / name)
        tokenizer.save(str(tmp_path / "language" / "tokenizer.json"))
        (tmp_path / "language" / "tokenizer_config.json").write_text(json.dumps(options))
        return Original(mpt_original.model, tmp_path)

    return build


def unasked(original: Original, **given: Any) -> Published:
    return original.read(**{"media_token_id": None, "eoc_token_id": None, **given})


def test_tokens_are_added_as_the_original_adds_them(with_tokenizer, mpt_original):
    original = with_tokenizer(words())
    theirs = hf.PreTrainedTokenizerFast(tokenizer_object=words())
    theirs.add_special_tokens({"additional_special_tokens": ["<|endofchunk|>", "<image>"]})
    theirs.add_special_tokens({"pad_token": "<PAD>"})
    assert len(theirs) == TOKENS
    published = unasked(original)
    text, ours = published.text, tokenizers.Tokenizer.from_str(published.tokenizer)
    ids = theirs.convert_tokens_to_ids(["<image>", "<|endofchunk|>", "<PAD>"])
    assert [text.image_id, text.eoc_id, text.pad_id] == ids == [MEDIA, EOC, TOKENS - 1]
    assert text.bos_id is None
    line = "w5<image>w7 w9<|endofchunk|><image>a"
    assert ours.encode(line).ids == theirs.encode(line) == [5, MEDIA, 7, 9, EOC, MEDIA, 2]


def test_the_tokenizer_travels_with_the_model(with_tokenizer, tmp_path):
    converted.save(unasked(with_tokenizer(words(start=True))), tmp_path / "out")
    loaded = runs.load(tmp_path / "out")
    assert loaded.tokenizer.encode("w5<image>w6") == [5, MEDIA, 6]
    assert loaded.tokenizer.decode([5, MEDIA, 6, EOC]) == "w5 w6"
    assert loaded.tokenizer.start() == [0]


def test_padding_of_the_tokenizer_is_kept(with_tokenizer):
    published = unasked(
        with_tokenizer(words(), pad_token={"content": "<pad>"}, add_bos_token=True, bos_token="<s>")
    )
    assert (published.text.pad_id, published.text.bos_id) == (1, 0)
    assert tokenizers.Tokenizer.from_str(published.tokenizer).token_to_id("<PAD>") is None


def test_a_start_that_the_options_take_away(with_tokenizer):
    assert unasked(with_tokenizer(words(start=True), add_bos_token=False)).text.bos_id is None


def test_ids_that_are_given_override(with_tokenizer):
    original = with_tokenizer(words())
    swapped = original.read(media_token_id=EOC, eoc_token_id=MEDIA).text
    assert (swapped.image_id, swapped.image_token) == (EOC, "<image>")
    assert (swapped.eoc_id, swapped.eoc_token) == (MEDIA, "<|endofchunk|>")
    published = original.read(media_token_id=7, eoc_token_id=None)
    assert (published.text.image_id, published.text.image_token) == (7, "w7")
    assert tokenizers.Tokenizer.from_str(published.tokenizer).encode("aw7a").ids == [2, 7, 2]
    with pytest.raises(UserError, match=r"--media_token_id=42 is no token of the tokenizer"):
        original.read(media_token_id=42)


def test_a_tokenizer_of_another_model(with_tokenizer):
    with pytest.raises(UserError, match="has 43 tokens and none with the id 51"):
        unasked(with_tokenizer(words(50)))


def test_a_damaged_tokenizer(with_tokenizer):
    original = with_tokenizer(words())
    (original.folder / "language" / "tokenizer.json").write_text("{}")
    with pytest.raises(UserError, match=r"tokenizer.json cannot be read as a tokenizer"):
        unasked(original)
