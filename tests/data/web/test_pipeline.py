"""Duplicates across pages, counts that add up, and no trace of which worker did what."""

import json
from collections import Counter
from pathlib import Path

import pytest

from flamingo_jax.data.documents import Medium
from flamingo_jax.data.shards import DocumentShards
from flamingo_jax.data.web import inputs
from flamingo_jax.data.web.limits import Limits
from flamingo_jax.data.web.pipeline import nested
from flamingo_jax.data.web.run import RunnerConfig, run
from flamingo_jax.data.web.settings import Settings
from flamingo_jax.errors import UserError
from tests.data.web.pages import archive, picture, site

LOGO = picture(99)


def words(seed: int) -> str:
    """A text that no other seed's is like."""
    return " ".join(f"word{seed}x{i}" for i in range(40))


def page(seed: int, inner: str) -> str:
    return f"<p>{words(seed)}</p>{inner}<p>End of {seed}.</p>"


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """An archive and a folder that have pages and images in common."""
    pages = {f"{i}.html": page(i, f"<img src={i}.png><img src=logo.png>") for i in range(6)}
    pages["5b.html"] = page(5, "<img src=5b.png>").replace("word5x20 ", "")
    pages["6.html"] = page(6, "<img src=0.png>")
    pictures = {f"{i}.png": picture(i) for i in range(6)}
    site(tmp_path / "pages", pages, {**pictures, "logo.png": LOGO, "5b.png": picture(50)})
    (tmp_path / "a.warc.gz").write_bytes(
        archive(
            ("http://a.org/1", page(10, "<img src=x.png><p>a<img src=1.png>").encode()),
            ("http://a.org/2", page(11, "<img src=y.png>").encode()),
            ("http://a.org/2", page(12, "<img src=y.png>").encode()),
            ("http://a.org/x.png", picture(20), "image/png"),
            ("http://a.org/y.png", picture(21), "image/png"),
            ("http://a.org/1.png", picture(1), "image/png"),
        )
    )
    return tmp_path


def extracted(tree: Path, name: str, workers: int = 1, **limits) -> tuple[dict, list]:
    """The stats, and of each document its file's name and its images' names."""
    folder = tree / name
    folder.mkdir()
    units = inputs.units([str(tree / "a.warc.gz"), str(tree / "pages")])
    run(units, Settings(Limits(**limits)), folder, RunnerConfig(workers=workers))
    source = DocumentShards(folder)
    documents = [source[i] for i in range(len(source))]
    names = [
        (
            document.source.rsplit("/", 1)[1],
            [item.name.rsplit("/", 1)[-1] for item in document.items if isinstance(item, Medium)],
        )
        for document in documents
    ]
    return json.loads((folder / "stats.json").read_text()), names


def test_duplicates_are_removed_and_all_is_counted(tree: Path) -> None:
    stats, documents = extracted(tree, "out", max_repeats=3)
    # 2: captured twice. 1.png: first in the archive. logo.png: on too many pages.
    # 5b: near duplicate of 5. 6: its only image was on 0.
    assert documents == [
        ("1", ["x.png", "1.png"]),
        ("2", ["y.png"]),
        ("0.html", ["0.png"]),
        ("2.html", ["2.png"]),
        ("3.html", ["3.png"]),
        ("4.html", ["4.png"]),
        ("5.html", ["5.png"]),
    ]
    assert stats["pages"] == {
        "in": 11,
        "kept": 7,
        "dropped": {"near_duplicate": 1, "no_image": 2, "same_address": 1},
    }
    assert stats["images"] == {
        "in": 18,
        "kept": 8,
        "dropped": {"page_dropped": 2, "repeated": 8},
    }
    assert stats["records"] == {"in": 7}
    assert stats["tokenizer"] == "words"
    assert stats["tokens"] == 7 * (40 + 3) + 1
    assert sorted(path.name for path in (tree / "out").iterdir()) == [
        "documents-000000.array_record",
        "documents-000001.array_record",
        "index.json",
        "stats.json",
    ]


def test_an_image_on_a_few_pages_stays_on_the_first(tree: Path) -> None:
    _, documents = extracted(tree, "out")
    assert dict(documents)["0.html"] == ["0.png", "logo.png"]
    assert sum("logo.png" in images for _, images in documents) == 1


@pytest.mark.slow
def test_workers_leave_no_trace(tree: Path) -> None:
    one, two = (extracted(tree, str(workers), workers) for workers in (1, 2))
    assert one == two
    for path in (tree / "1").iterdir():
        assert path.read_bytes() == (tree / "2" / path.name).read_bytes()


def test_nothing_kept_is_a_finished_folder(tmp_path: Path) -> None:
    site(tmp_path / "pages", {"a.html": "<p>a"}, {})
    (tmp_path / "out").mkdir()
    run(inputs.units([str(tmp_path / "pages")]), Settings(), tmp_path / "out", RunnerConfig())
    assert len(DocumentShards(tmp_path / "out")) == 0


def test_mistakes_about_the_runner(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="--runner=NoRunner cannot be used"):
        run([], Settings(), tmp_path, RunnerConfig("NoRunner"))
    with pytest.raises(UserError, match="cannot be read as a tokenizer"):
        run([], Settings(), tmp_path, RunnerConfig(), tmp_path / "none.json")


def test_counts_are_nested() -> None:
    assert nested(Counter({"pages/in": 3, "pages/dropped/b": 1, "pages/dropped/a": 2})) == {
        "pages": {"in": 3, "kept": 0, "dropped": {"a": 2, "b": 1}},
        "images": {"in": 0, "kept": 0, "dropped": {}},
        "tokens": 0,
    }
