"""Folders of documents: what is written is read in any order, and damage is told where it is."""

import json
import pickle
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from flamingo_jax.data.documents import Document, Medium
from flamingo_jax.data.shards import DocumentShards, Shard, write_index, write_shard
from flamingo_jax.errors import UserError

STATS = {"pages": {"in": 9, "kept": 7}}
NOISE = np.random.default_rng(0).bytes(70_000)


def document(number: int) -> Document:
    picture = Medium(f"{number}.png", NOISE[number * 7000 : (number + 1) * 7000])
    return Document(f"page {number}", (f"Text {number}.", picture))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Seven documents in shards of 4, 0 and 3."""
    parts = [range(4), range(0), range(4, 7)]
    shards = [
        write_shard(tmp_path / f"{i}.array_record", map(document, part))
        for i, part in enumerate(parts)
    ]
    write_index(tmp_path, shards, STATS)
    return tmp_path


def test_documents_are_read_in_any_order(folder: Path) -> None:
    source = DocumentShards(folder)
    assert len(source) == 7
    for place in (6, 0, 3, 4, 5, 1, 2):
        assert source[np.int64(place)] == document(place)
    assert json.loads((folder / "stats.json").read_text()) == STATS


@pytest.mark.parametrize("place", [-1, 7])
def test_there_is_no_document_outside(folder: Path, place: int) -> None:
    with pytest.raises(IndexError):
        DocumentShards(folder)[place]


def test_a_reader_goes_to_another_process(folder: Path) -> None:
    source = DocumentShards(folder)
    assert source[5] == document(5)  # with a file open
    assert pickle.loads(pickle.dumps(source))[2] == document(2)


def test_the_same_documents_make_the_same_bytes(tmp_path: Path) -> None:
    for name in ("a", "b"):
        write_shard(tmp_path / name, map(document, range(5)))
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


def test_an_empty_folder_of_documents(tmp_path: Path) -> None:
    write_index(tmp_path, [], STATS)
    assert len(DocumentShards(tmp_path)) == 0


def test_an_unfinished_folder_is_refused(folder: Path) -> None:
    (folder / "index.json").unlink()
    with pytest.raises(UserError, match="its writer was stopped"):
        DocumentShards(folder)
    with pytest.raises(UserError, match="cannot be read"):
        DocumentShards(folder / "none")


@pytest.mark.parametrize(
    "index",
    [
        "{",
        "[]",
        "{}",
        '{"shards": [{"name": "0.array_record"}]}',
        '{"shards": [{"name": "0.array_record", "documents": -4, "size": 3}]}',
        '{"shards": [{"name": "../0.array_record", "documents": 4, "size": 3}]}',
    ],
)
def test_a_damaged_index_is_refused(folder: Path, index: str) -> None:
    (folder / "index.json").write_text(index)
    with pytest.raises(UserError, match=r"index\.json is damaged"):
        DocumentShards(folder)


def test_a_cut_or_missing_shard_loses_its_own_documents_only(folder: Path) -> None:
    first = folder / "0.array_record"
    first.write_bytes(first.read_bytes()[:-1])
    source = DocumentShards(folder)
    with pytest.raises(UserError, match=r"0\.array_record: has .* bytes where the index says"):
        source[1]
    assert source[4] == document(4)
    first.unlink()
    with pytest.raises(UserError, match="No such file"):
        DocumentShards(folder)[1]


@settings(
    deadline=None, max_examples=50, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(st.lists(st.tuples(st.integers(0, 10**6), st.integers(0, 255)), min_size=1, max_size=40))
def test_a_document_is_read_as_written_or_refused(
    tmp_path: Path, changes: list[tuple[int, int]]
) -> None:
    path = tmp_path / "0.array_record"
    shard = write_shard(path, map(document, range(4)))
    content = bytearray(path.read_bytes())
    for place, value in changes:
        content[place % len(content)] = value
    # Under a name of its own: readers are kept open by name.
    path = tmp_path / f"{hash(bytes(content))}.array_record"
    path.write_bytes(content)
    write_index(tmp_path, [Shard(path.name, shard.documents, shard.size)], STATS)
    source = DocumentShards(tmp_path)
    for place in range(len(source)):
        try:
            read = source[place]
        except UserError:
            continue
        assert read == document(place)
