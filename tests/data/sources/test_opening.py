"""Every source gives the documents that were written, from a path alone."""

import csv
import gzip
import json
import pickle
import shutil
import zipfile
from pathlib import Path

import numpy as np
import pytest

from flamingo_jax.data.bad_records import BadRecord
from flamingo_jax.data.documents import Document, Medium, check
from flamingo_jax.data.sources.opening import LAYOUTS, open_source
from flamingo_jax.errors import UserError
from tests.data.sources import files


def parts(document: Document) -> list[str | bytes]:
    return [item if isinstance(item, str) else item.content for item in document.items]


@pytest.mark.parametrize("make", files.PAGES, ids=lambda make: make.__name__)
def test_pages(make: files.Make, tmp_path: Path) -> None:
    source = open_source(make(tmp_path / "set"))
    assert source.schema.gives == "pages"
    assert len(source) == files.COUNT
    for i in range(files.COUNT):
        document = source[i]
        check(document)
        texts = [item for item in document.items if isinstance(item, str)]
        assert texts[0] == f"Page {i}."
        if "mmc4" in make.__name__:
            assert texts[1:] == ["A sentence. Another."]
            assert parts(document)[1] == files.picture(i)
            assert document.source == f"https://a.org/{i}"
        else:
            first, second = (p for p in parts(document) if isinstance(p, bytes))
            assert first in (files.picture(i, 40), files.picture(i))
            assert second == files.picture(i, 41)
            assert [isinstance(p, str) for p in parts(document)[:4]] == [True, False] * 2


@pytest.mark.parametrize("make", [*files.PAIRS, *files.VIDEOS], ids=lambda make: make.__name__)
def test_pairs_and_videos(make: files.Make, tmp_path: Path) -> None:
    source = open_source(make(tmp_path / "set"))
    assert source.schema.gives == ("videos" if make in files.VIDEOS else "pairs")
    assert len(source) == files.COUNT
    found = {}
    for i in range(files.COUNT):
        medium, text = source[i].items
        assert isinstance(medium, Medium)
        assert isinstance(text, str)
        found[text] = medium.content
    assert sorted(found) == [files.caption(i) for i in range(files.COUNT)]  # TFDS shuffles
    kinds = {"webdataset": "JPEG", "table_csv": "WEBP"}
    for i in range(files.COUNT):
        content = found[files.caption(i)]
        if make in files.PAIRS:
            assert content == files.picture(i, kind=kinds.get(make.__name__, "PNG"))
        elif make is files.videos:
            assert content == files.movie(i, kind=("mp4", "webm", "gif")[i % 3])
        else:
            assert content == files.movie(i)


@pytest.mark.parametrize(
    "make", [*files.PAGES, *files.PAIRS, *files.VIDEOS], ids=lambda make: make.__name__
)
def test_worker_processes_get_a_copy_that_reads_the_same(make: files.Make, tmp_path: Path) -> None:
    source = open_source(make(tmp_path / "set"))
    before = [source[i] for i in range(len(source))]
    copy = pickle.loads(pickle.dumps(source))
    assert [copy[i] for i in reversed(range(len(source)))] == before[::-1]


def test_names_tell_where_things_were_found(tmp_path: Path) -> None:
    shards = open_source(files.webdataset(tmp_path / "shards"))
    assert shards[4].source == f"{tmp_path}/shards/00001.tar#000010004"
    assert shards[4].items[0] == Medium("http://d.org/4.jpg", files.picture(4, kind="JPEG"))
    page = open_source(files.obelics(tmp_path / "obelics"))[2]
    assert page.source == "https://a.org/2"
    assert page.items[1] == Medium("https://b.org/p/2-0.png", files.picture(2, 40))
    table = open_source(files.table_csv(tmp_path / "table"))
    assert table[3].source == f"{tmp_path}/table/captions.csv#3"


def test_a_pattern_names_files(tmp_path: Path) -> None:
    folder = files.webdataset(tmp_path / "shards")
    assert len(open_source(f"{folder}/*.tar")) == 6
    assert len(open_source(f"{folder}/00001.tar")) == 3


def test_of_two_versions_the_newer_one_is_read(tmp_path: Path) -> None:
    folder = files.prepared(tmp_path / "tfds")
    assert len(open_source(folder)) == len(open_source(folder / "1.0.0")) == files.COUNT
    shutil.copytree(folder / "1.0.0", folder / "0.10.0")
    assert "1.0.0" in open_source(folder)[0].source


def test_images_saved_under_host_and_path_are_found(tmp_path: Path) -> None:
    row = {"image": "https://f.org/a/b.png?x=1", "caption": "a b"}
    (tmp_path / "rows.jsonl").write_text(json.dumps(row) + "\n")
    kept = tmp_path / "images" / "f.org" / "a" / "b.png"
    kept.parent.mkdir(parents=True)
    kept.write_bytes(files.picture(1))
    assert open_source(tmp_path)[0].items[0] == Medium(row["image"], files.picture(1))


def test_captions_with_line_breaks_and_tabs(tmp_path: Path) -> None:
    said = ["one\ntwo", 'a "b", c', "d\u2028e", "\ufeffx"]
    for ending, delimiter in (("csv", ","), ("tsv", "\t")):
        path = tmp_path / f"a.{ending}"
        with path.open("w", newline="", encoding="utf-8-sig") as file:
            writer = csv.writer(file, delimiter=delimiter)
            writer.writerow(["file_name", "text"])
            writer.writerows([["x.png", text] for text in said])
        source = open_source(path)
        assert [source[i].items[1] for i in range(len(source))] == said


def test_what_is_no_source_says_what_one_is(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"There is no file or folder .*/nothing"):
        open_source(tmp_path / "nothing")
    with pytest.raises(UserError, match="is no source of documents: one is a folder that") as error:
        open_source(tmp_path)
    assert all(layout in str(error.value) for layout in LAYOUTS)
    (tmp_path / "a.csv").write_text("image,label\na.png,3\n")
    with pytest.raises(UserError, match="no field of image, label holds a text: name one caption"):
        open_source(tmp_path)
    (tmp_path / "a.csv").write_text("picture_file,caption\na.png,3\n")
    with pytest.raises(UserError, match="holds an image or a video: name one video"):
        open_source(tmp_path)
    (tmp_path / "a.csv").write_text("")
    with pytest.raises(UserError, match=r"none of the first rows can be read|holds no record"):
        open_source(tmp_path)
    (tmp_path / "a.parquet").write_bytes(b"PAR1 no")
    with pytest.raises(UserError, match=r"none of the first rows can be read \(its row"):
        open_source(tmp_path / "a.parquet")
    (tmp_path / "b.tar").write_bytes(b"")
    assert reason(tmp_path / "b.tar", 0) == "truncated_file"


def reason(path: Path, i: int) -> str:
    source = open_source(path)
    with pytest.raises(BadRecord) as error:
        check(source[i])
    return error.value.reason


def test_a_truncated_tar_loses_what_is_missing_alone(tmp_path: Path) -> None:
    path = files.webdataset(tmp_path / "shards") / "00000.tar"
    whole = path.read_bytes()
    source = open_source(path)
    before = [source[i] for i in range(3)]
    path.write_bytes(whole[: 5 * 512 + len(files.picture(0, kind="JPEG")) + 2000])
    source = open_source(path)
    assert source[0] == before[0]
    assert reason(path, len(source) - 1) == "truncated_file"


def test_of_several_parquet_files_the_damaged_one_is_one_bad_record(tmp_path: Path) -> None:
    folder = files.obelics(tmp_path / "set")
    (folder / "part-1.parquet").write_bytes((folder / "part-0.parquet").read_bytes()[:-20])
    assert len(open_source(folder)) == files.COUNT + 1
    assert reason(folder, files.COUNT) == "damaged_record"


def test_a_tar_that_goes_wrong_in_the_middle_says_so(tmp_path: Path) -> None:
    path = files.webdataset(tmp_path / "shards") / "00000.tar"
    content = bytearray(path.read_bytes())
    places = [p for p in range(0, len(content), 512) if content[p : p + 9] == b"000000001"]
    content[places[0] : places[0] + 512] = b"x" * 512
    path.write_bytes(content)
    source = open_source(path)
    assert len(source) == 2
    assert reason(path, 1) == "truncated_file"


def test_reasons(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    rows: list[bytes] = [
        json.dumps({"image": "a.png", "caption": "fine"}).encode(),
        b'{"image": "a.png", "caption": ',
        b"[1]",
        '{"image": "a.png", "caption": "café"}'.encode("latin-1"),
        json.dumps({"image": "a.png", "caption": ""}).encode(),
        json.dumps({"image": "a.png", "caption": "x" * 1_000_000}).encode(),
        json.dumps({"image": 3, "caption": "x"}).encode(),
        json.dumps({"caption": "x"}).encode(),
        b'{"image": "a.png", "caption": "\\ud800"}',
        json.dumps({"image": "a.png", "caption": {"a": 1}}).encode(),
    ]
    path.write_bytes(b"\n".join(rows))
    (tmp_path / "a.png").write_bytes(files.picture(0))
    source = open_source(path)
    check(source[0])
    expected = [
        *("damaged_record", "damaged_record", "charset", "empty", "long_text"),
        *("damaged_record", "damaged_record", "charset", "damaged_record"),
    ]
    assert [reason(path, i) for i in range(1, len(rows))] == expected


def test_a_damaged_archive_of_lines_tells_of_the_rest(tmp_path: Path) -> None:
    path = files.mmc4_gzip(tmp_path / "set") / "docs.jsonl.gz"
    rng = np.random.default_rng(0)
    rows = [{**files.mmc4_row(0, True), "noise": rng.bytes(5_000).hex()} for _ in range(50)]
    path.write_bytes(gzip.compress("\n".join(map(json.dumps, rows)).encode()))
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    source = open_source(path)
    assert source[0].items[0] == "Page 0."
    assert reason(path, len(source) - 1) == "damaged_record"


def test_missing_files_are_media_without_content(tmp_path: Path) -> None:
    folder = files.obelics(tmp_path / "set")
    (folder / "images" / "3-1.png").unlink()
    document = open_source(folder)[3]
    contents = [len(p) for p in parts(document) if isinstance(p, bytes)]
    assert contents == [len(files.picture(3, 40)), 0]


def test_a_zip_beside_a_table_is_none_of_it(tmp_path: Path) -> None:
    folder = files.table_csv(tmp_path / "set")
    with zipfile.ZipFile(folder / "images.zip", "w") as archive:
        archive.write(folder / "0.webp", "0.webp")
    source = open_source(folder)
    assert source.schema.format == "table"
    assert source[1].items == (Medium("1.webp", files.picture(1, kind="WEBP")), files.caption(1))
    with pytest.raises(UserError, match=r"is no source of documents"):
        open_source(folder / "images.zip")
