"""Pairs: whether they are of images or of videos, which no single record decides."""

import csv
import io
import json
import tarfile
from pathlib import Path

import pytest

from flamingo_jax.data.bad_records import BadRecord
from flamingo_jax.data.documents import Medium
from flamingo_jax.data.sources import fields, pairs
from flamingo_jax.data.sources.base import Source
from flamingo_jax.data.sources.opening import open_source
from tests.data.sources import files


def shard(folder: Path, endings: list[str]) -> Source:
    """A tar of samples with a caption, in a text and in a json, and files of these endings."""
    content: dict[str, bytes] = {}
    for i, ending in enumerate(endings):
        if ending:
            content[f"{i}.{ending}"] = f"{ending} {i}".encode()
        content[f"{i}.json"] = json.dumps({"caption": f"caption {i}"}).encode()
        content[f"{i}.txt"] = f"caption {i}".encode()
    files.tar(folder / "0.tar", content)
    return open_source(folder)


def test_a_first_sample_without_its_image_makes_no_pages(tmp_path: Path) -> None:
    source = shard(tmp_path, ["", "jpg", "jpg"])
    assert (source.schema.format, source.schema.gives) == ("WebDataset", "pairs")
    assert source[1].items == (Medium("1.jpg", b"jpg 1"), "caption 1")
    with pytest.raises(BadRecord) as error:
        source[0]
    assert error.value.reason == "missing_media"


@pytest.mark.parametrize(
    ("endings", "gives"),
    [
        (["gif", "jpg", "png"], "pairs"),
        (["", "", "webp"], "pairs"),
        (["", ""], "pairs"),
        (["jpg", "mp4", "webm"], "videos"),
        (["", "", "", "mp4"], "videos"),
    ],
)
def test_samples_are_what_most_of_the_first_are(
    tmp_path: Path, endings: list[str], gives: str
) -> None:
    assert shard(tmp_path, endings).schema.gives == gives


def test_pages_are_told_by_what_their_json_holds(tmp_path: Path) -> None:
    rows = [{"caption": "no page"}, files.mmc4_row(1, True), files.mmc4_row(2, True)]
    named = {f"{i}.json": json.dumps(row).encode() for i, row in enumerate(rows)}
    files.tar(tmp_path / "0.tar", named)
    source = open_source(tmp_path)
    assert source.schema.gives == "pages"
    assert source[1].items[0] == "Page 1."


@pytest.mark.parametrize(
    ("column", "names", "gives"),
    [
        ("image", ["cat.gif", "dog.jpg", "cow.jpg"], "pairs"),
        ("image", ["cat.gif", "dog.gif"], "pairs"),
        ("file_name", ["cat.gif", "dog.jpg", "cow.jpg"], "pairs"),
        ("file_name", ["cat.jpg", "dog.mp4", "cow.webm"], "videos"),
        ("file_name", ["cat.gif"], "videos"),
        ("video", ["cat.jpg"], "videos"),
    ],
)
def test_tables_are_what_their_column_or_most_rows_say(
    tmp_path: Path, column: str, names: list[str], gives: str
) -> None:
    with (tmp_path / "captions.csv").open("w", newline="") as file:
        csv.writer(file).writerows([[column, "caption"], *([name, "an animal"] for name in names)])
    assert open_source(tmp_path).schema.gives == gives


def test_a_pair_whose_file_is_too_large_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fields, "MOST_BYTES", 500)
    (tmp_path / "large.png").write_bytes(bytes(501))
    (tmp_path / "rows.jsonl").write_text(json.dumps({"image": "large.png", "caption": "a"}))
    with pytest.raises(BadRecord, match=r"large\.png has more than 500 bytes") as error:
        open_source(tmp_path)[0]
    assert error.value.reason == "huge_media"


@pytest.mark.parametrize("kind", [tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
@pytest.mark.parametrize("key", ["a", "folder/ä", "f" * 60 + "/" + "k" * 60])
def test_a_sample_is_read_alike_whatever_kind_of_tar_it_is(kind: int, key: str) -> None:
    buffer = io.BytesIO()
    contents = {"jpg": b"j" * 700, "txt": b"", "json": b"{}"}
    with tarfile.open(fileobj=buffer, mode="w", format=kind) as archive:
        for ending, content in contents.items():
            member = tarfile.TarInfo(f"{key}.{ending}")
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
        end = archive.offset
    expected = {ending: (f"{key}.{ending}", content) for ending, content in contents.items()}
    assert pairs._members(buffer.getvalue()[:end]) == expected
    assert pairs._plain_members(buffer.getvalue()[:end]) in ({}, expected)


def test_plain_samples_take_the_short_way(tmp_path: Path) -> None:
    shard(tmp_path, ["jpg", "txt"])
    content = next(tmp_path.glob("*.tar")).read_bytes()
    end = content.rstrip(b"\0")
    whole = content[: -(-len(end) // 512) * 512]
    assert pairs._plain_members(whole) == pairs._members(whole) != {}
    for damaged in (whole[:-512], whole[:100], b"x" + whole[1:], bytes(512)):
        assert pairs._plain_members(damaged) == {}
