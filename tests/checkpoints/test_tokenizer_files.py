"""Tokenizers in Hugging Face's folders: GPT-2's files against transformers, starts and padding."""

import json
from pathlib import Path
from typing import Any

import pytest
import tokenizers
import transformers
from tokenizers import models, pre_tokenizers, processors, trainers

from flamingo_jax.checkpoints.tokenizer_files import add_token, read_tokenizer
from flamingo_jax.errors import UserError

TEXT = "A cat, two cats and a  dog's öl.\nNo. 27!"
LIKE_OPT: dict[str, Any] = {
    "bos_token": {"content": "</s>", "special": True},
    "eos_token": "</s>",
    "unk_token": "</s>",
    "pad_token": {"content": "<pad>"},
    "add_bos_token": True,
}


def gpt2_files(folder: Path) -> int:
    """vocab.json and merges.txt of a small byte-level BPE, OPT's special tokens first; its size."""
    bpe = tokenizers.Tokenizer(models.BPE())
    bpe.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    trainer = trainers.BpeTrainer(
        vocab_size=300,
        special_tokens=["<s>", "<pad>", "</s>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    bpe.train_from_iterator([TEXT] * 9, trainer)
    bpe.model.save(str(folder))
    return bpe.get_vocab_size()


def words_file(folder: Path, start: str | None = None) -> None:
    """tokenizer.json of three words, cut to two tokens and padded as it was last used."""
    words = tokenizers.Tokenizer(models.WordLevel({"<s>": 0, "a": 1, "<pad>": 2}, "a"))
    words.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    if start:
        words.post_processor = processors.TemplateProcessing(
            f"{start} $A", special_tokens=[(start, words.token_to_id(start))]
        )
    words.enable_truncation(2)
    words.enable_padding(length=9)
    words.save(str(folder / "tokenizer.json"))


def write(folder: Path, name: str, values: Any) -> None:
    (folder / name).write_text(json.dumps(values))


def test_no_files(tmp_path):
    assert read_tokenizer(tmp_path) is None
    (tmp_path / "vocab.json").write_text("{}")
    assert read_tokenizer(tmp_path) is None


def test_gpt2_files_equal_transformers(tmp_path):
    size = gpt2_files(tmp_path)
    write(tmp_path, "tokenizer_config.json", LIKE_OPT)
    write(tmp_path, "added_tokens.json", {"<image>": size + 1, "<|endofchunk|>": size})
    found = read_tokenizer(tmp_path)
    assert (found.bos_id, found.pad_id) == (2, 1)
    vocab = json.loads((tmp_path / "vocab.json").read_text())
    lines = (tmp_path / "merges.txt").read_text().splitlines()
    merges = [tuple(line.split()) for line in lines if not line.startswith("#")]
    theirs = transformers.GPT2Tokenizer(
        vocab=vocab, merges=merges, unk_token="</s>", bos_token="</s>", eos_token="</s>"
    )
    theirs.add_special_tokens({"pad_token": "<pad>"})
    theirs.add_special_tokens({"additional_special_tokens": ["<|endofchunk|>", "<image>"]})
    line = f"<image>{TEXT}</s><|endofchunk|><image> b<pad>"
    ids = found.tokenizer.encode(line, add_special_tokens=False).ids
    assert ids == theirs.encode(line, add_special_tokens=False)
    assert ids[0] == size + 1
    assert found.tokenizer.decode(ids) == f"{TEXT} b"


def test_added_tokens_that_do_not_follow(tmp_path):
    gpt2_files(tmp_path)
    write(tmp_path, "added_tokens.json", {"<image>": 305})
    with pytest.raises(UserError, match=r"added_tokens.json gives '<image>' the id 305"):
        read_tokenizer(tmp_path)


@pytest.mark.parametrize(
    ("start", "options", "bos"),
    [
        (None, {}, None),
        ("<s>", {}, 0),
        ("<s>", {"add_bos_token": True, "bos_token": "<pad>"}, 2),
        ("<s>", {"add_bos_token": False, "bos_token": "<s>"}, None),
        (None, {"add_bos_token": True, "bos_token": {"content": "<s>"}}, 0),
        (None, {"bos_token": "<s>"}, None),
    ],
)
def test_what_sequences_start_with(start, options, bos, tmp_path):
    words_file(tmp_path, start)
    write(tmp_path, "tokenizer_config.json", options)
    assert read_tokenizer(tmp_path).bos_id == bos


@pytest.mark.parametrize(
    ("name", "options", "pad"),
    [
        ("tokenizer_config.json", {"pad_token": None}, None),
        ("tokenizer_config.json", {"pad_token": "<pad>"}, 2),
        ("special_tokens_map.json", {"pad_token": {"content": "<pad>"}}, 2),
        ("tokenizer_config.json", {"pad_token": "<none>"}, None),
    ],
)
def test_padding(name, options, pad, tmp_path):
    words_file(tmp_path)
    write(tmp_path, name, options)
    assert read_tokenizer(tmp_path).pad_id == pad


@pytest.mark.parametrize("text", [["<pad>"], 3, {"content": 3}, True])
@pytest.mark.parametrize("files", [words_file, gpt2_files])
def test_special_tokens_that_are_no_texts(files, text, tmp_path):
    files(tmp_path)
    write(tmp_path, "special_tokens_map.json", {"pad_token": text})
    with pytest.raises(UserError, match=r"tokenizer_config.json: pad_token is .* a token's text"):
        read_tokenizer(tmp_path)


def test_neither_cut_nor_filled(tmp_path):
    words_file(tmp_path)
    assert read_tokenizer(tmp_path).tokenizer.encode("a a a a").ids == [1, 1, 1, 1]


def test_adding_a_token_twice_changes_nothing(tmp_path):
    words_file(tmp_path)
    tokenizer = read_tokenizer(tmp_path).tokenizer
    assert [add_token(tokenizer, text) for text in ("<x>", "<y>", "<x>", "a")] == [3, 4, 3, 1]
    assert tokenizer.encode("a<y>a").ids == [1, 4, 1]


@pytest.mark.parametrize("damage", ["", "{", '{"model": 3}'])
def test_damaged_files(damage, tmp_path):
    (tmp_path / "tokenizer.json").write_text(damage)
    with pytest.raises(UserError, match=r"tokenizer.json cannot be read as a tokenizer"):
        read_tokenizer(tmp_path)
    words_file(tmp_path)
    (tmp_path / "tokenizer_config.json").write_text("[]")
    with pytest.raises(UserError, match=r"tokenizer_config.json is damaged"):
        read_tokenizer(tmp_path)
