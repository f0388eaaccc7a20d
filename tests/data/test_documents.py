"""Documents on disk: what is written is read, and nothing else is."""

import os

import msgpack
import pytest
from hypothesis import given
from hypothesis import strategies as st

from flamingo_jax.data.documents import Document, Medium, from_bytes, to_bytes
from flamingo_jax.errors import UserError

MEDIA = st.builds(Medium, st.text(max_size=9), st.binary(max_size=9))
DOCUMENTS = st.builds(
    Document, st.text(max_size=9), st.lists(st.text(max_size=9) | MEDIA, max_size=5).map(tuple)
)


@given(DOCUMENTS)
def test_what_is_written_is_read(document: Document) -> None:
    assert from_bytes(to_bytes(document)) == document


@given(DOCUMENTS.map(to_bytes), st.data())
def test_a_cut_record_is_refused(record: bytes, data: st.DataObject) -> None:
    cut = data.draw(st.integers(0, len(record) - 1))
    with pytest.raises(UserError, match="is no document"):
        from_bytes(record[:cut])


@pytest.mark.parametrize(
    "wrong",
    [[1, []], ["page", [["name", "text"]]], ["page", [["a"]]], 3, [b"a", []], ["a", [[1, b"a"]]]],
)
def test_other_messages_are_refused(wrong: object) -> None:
    with pytest.raises(UserError, match="is no document"):
        from_bytes(msgpack.packb(wrong))


@pytest.mark.parametrize(
    ("name", "known"),
    [
        ("café.png", "café.png"),
        (os.fsdecode(b"caf\xe9.png"), r"caf\udce9.png"),
        (os.fsdecode(b"caf\xe8.png"), r"caf\udce8.png"),
        ("http://x/\ud800", r"http://x/\ud800"),
    ],
)
def test_names_that_no_file_can_hold_are_escaped(name: str, known: str) -> None:
    document = Document(name, ("text", Medium(name, b"a")))
    assert document == Document(known, ("text", Medium(known, b"a")))
    assert from_bytes(to_bytes(document)) == document
