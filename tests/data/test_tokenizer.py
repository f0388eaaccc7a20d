"""The tokenizer: markers are single tokens, texts come back, damaged files are named."""

from pathlib import Path

import pytest
import tokenizers
from hypothesis import given, settings
from hypothesis import strategies as st

from flamingo_jax.data.tokenizer import END_OF_CHUNK, IMAGE, Tokenizer
from flamingo_jax.errors import UserError

LETTERS = "aZ 09:,-(&'éüñßçãİığşжЯ中日本語ひカ한국فارسیعرب\n"


def test_markers_are_one_token_each(tokenizer: Tokenizer) -> None:
    assert tokenizer.encode(IMAGE) == [tokenizer.image_id]
    assert tokenizer.encode(END_OF_CHUNK) == [tokenizer.eoc_id]
    words = tokenizer.encode(" cat")
    text = f"{IMAGE} cat{END_OF_CHUNK}{IMAGE}"
    ids = [tokenizer.image_id, *words, tokenizer.eoc_id, tokenizer.image_id]
    assert tokenizer.encode(text) == ids
    assert tokenizer.decode(ids) == " cat"
    assert len({tokenizer.image_id, tokenizer.eoc_id, tokenizer.bos_id}) == 3
    assert tokenizer.vocab_size == 49152


@settings(deadline=None, max_examples=100)
@given(text=st.text(st.sampled_from(LETTERS), max_size=40))
def test_text_of_every_language_of_the_names_comes_back(tokenizer: Tokenizer, text: str) -> None:
    ids = tokenizer.encode(text)
    assert all(0 <= token < tokenizer.vocab_size for token in ids)
    assert tokenizer.decode(ids) == text


def test_a_damaged_file_and_one_without_markers_are_named(tmp_path: Path) -> None:
    path = tmp_path / "tokenizer.json"
    for content in ("", "{", "[1]"):
        path.write_text(content)
        with pytest.raises(UserError, match=r"tokenizer\.json cannot be read as a tokenizer"):
            Tokenizer.load(path)
    with pytest.raises(UserError, match=r"missing\.json cannot be read"):
        Tokenizer.load(tmp_path / "missing.json")
    plain = tokenizers.Tokenizer(tokenizers.models.WordLevel({"a": 0}, "a"))
    plain.save(str(path))
    with pytest.raises(UserError, match="no token '<image>'"):
        Tokenizer.load(path)
