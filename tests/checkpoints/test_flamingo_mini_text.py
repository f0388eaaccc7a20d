"""Tokens of flamingo-mini with a meaning: with a tokenizer, without one, and in prompts."""

import numpy as np
import pytest
import tokenizers

from flamingo_jax.checkpoints import flamingo_mini
from flamingo_jax.checkpoints.published import with_ids
from flamingo_jax.data.tokenizer import Tokenizer
from flamingo_jax.errors import UserError
from flamingo_jax.inference.prompt import media_index, read_prompt
from tests.checkpoints.test_flamingo_mini import SIZE, save


def test_ids_without_a_tokenizer_are_those_of_opt(tmp_path):
    save("pre-norm", tmp_path)
    published = flamingo_mini.read(tmp_path)
    text = published.text
    assert published.tokenizer is None
    assert (text.image_id, text.eoc_id, text.bos_id, text.pad_id) == (41_552, 50_265, 2, 2)
    assert (text.image_token, text.eoc_token) == ("<image>", "<EOC>")
    assert (text.fit, text.max_tokens) == ("crop", 50)
    assert text.image_ids == (41_552, 28_696)
    asked = with_ids(published, 27, None).text
    assert (asked.image_ids, asked.eoc_id) == ((27,), 50_265)
    assert with_ids(published, None, 27).text.image_ids == text.image_ids
    with pytest.raises(UserError, match="has 60 tokens, but none with the id 60"):
        with_ids(published, 1, 60)


def test_the_tokenizer_travels_with_the_end_of_a_chunk_added(tmp_path):
    save("pre-norm", tmp_path)
    words = {"<s>": 0, "<pad>": 1, "</s>": 2, "<": 3, "image": 4, ">": 5}
    tokenizer = tokenizers.Tokenizer(tokenizers.models.WordLevel(words, "<s>"))
    tokenizer.save(str(tmp_path / "tokenizer.json"))
    published = flamingo_mini.read(tmp_path)
    text = published.text
    assert (text.image_id, text.eoc_id, text.bos_id, text.pad_id) == (3, 6, 2, 2)
    assert tokenizers.Tokenizer.from_str(published.tokenizer).token_to_id("<EOC>") == 6
    del words["<"]
    words["a"] = 3
    tokenizer = tokenizers.Tokenizer(tokenizers.models.WordLevel(words, "<s>"))
    tokenizer.save(str(tmp_path / "tokenizer.json"))
    with pytest.raises(UserError, match="has no token '<'"):
        flamingo_mini.read(tmp_path)
    words["<"] = 70
    tokenizer = tokenizers.Tokenizer(tokenizers.models.WordLevel(words, "<s>"))
    tokenizer.save(str(tmp_path / "tokenizer.json"))
    message = r"has 60 tokens and none with the id 70 .--media_token_id.: is the tokenizer of"
    with pytest.raises(UserError, match=message):
        flamingo_mini.read(tmp_path)


def byte_level(*words: str) -> tokenizers.Tokenizer:
    """Tokens of one character or of these words, as OPT's tokenizer makes them."""
    level = tokenizers.pre_tokenizers.ByteLevel
    names = ["<s>", "<pad>", "</s>", *dict.fromkeys([*"<image>abĠ", *words])]
    pieces = {name: number for number, name in enumerate(names)}
    merges = [(word[:-1], word[-1]) for word in words]
    tokenizer = tokenizers.Tokenizer(tokenizers.models.BPE(pieces, merges))
    tokenizer.pre_tokenizer = level(add_prefix_space=False)
    tokenizer.decoder = tokenizers.decoders.ByteLevel()
    tokenizer.add_special_tokens(names[:3])
    return tokenizer


def test_markers_after_a_space_count_in_prompts(tmp_path):
    save("pre-norm", tmp_path)
    byte_level("Ġ<").save(str(tmp_path / "tokenizer.json"))
    published = flamingo_mini.read(tmp_path)
    text = published.text
    assert text.image_ids == (3, 12)
    tokenizer = Tokenizer(tokenizers.Tokenizer.from_str(published.tokenizer), text)
    picture = np.zeros((SIZE, SIZE, 3), np.uint8)
    prompt = read_prompt("<image>a <image>b", [picture] * 2, tokenizer, SIZE)
    at = [i for i, token in enumerate(prompt.tokens) if token in text.image_ids]
    assert [prompt.tokens[i] for i in at] == [3, 12]
    assert media_index(np.array(prompt.tokens), text.image_ids).max() == 2
    with pytest.raises(UserError, match="has 1 <image> markers but 0 images"):
        read_prompt("a <image>", [], tokenizer, SIZE)
