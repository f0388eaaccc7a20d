"""Patterns of the input as units of work."""

from pathlib import Path

import pytest

from flamingo_jax.data.web import inputs
from flamingo_jax.errors import UserError


@pytest.fixture
def tree(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Archives, pages and other files, in the working directory."""
    for name in ("b.warc.gz", "a.warc", "s/2.html", "s/d/1.HTM", "s/d/x.png", "t/3.xhtml", "n.txt"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def units(*patterns: str) -> list[tuple[str, list[str] | None]]:
    found = inputs.units(patterns)
    assert [unit.number for unit in found] == list(range(len(found)))
    return [
        (str(unit.path), None if unit.pages is None else [str(page) for page in unit.pages])
        for unit in found
    ]


@pytest.mark.parametrize(
    ("patterns", "found"),
    [
        (["*.warc*"], [("a.warc", None), ("b.warc.gz", None)]),
        (["s"], [("s", ["s/2.html", "s/d/1.HTM"])]),
        (["s/"], [("s", ["s/2.html", "s/d/1.HTM"])]),
        (["[st]"], [("s", ["s/2.html", "s/d/1.HTM"]), ("t", ["t/3.xhtml"])]),
        (["s/2.html"], [("s", ["s/2.html"])]),
        (["s/*/*.HTM"], [("s", ["s/d/1.HTM"])]),
        (["s/**"], [("s", ["s/2.html", "s/d/1.HTM"])]),
        (["t", "b.warc.gz", "b.warc.gz"], [("b.warc.gz", None), ("t", ["t/3.xhtml"])]),
    ],
)
def test_patterns(tree: Path, patterns: list[str], found: list) -> None:
    assert units(*patterns) == found


def test_a_large_folder_is_several_units(tree: Path) -> None:
    for i in range(401):
        (tree / "t" / f"{i}.html").write_text("")
    found = inputs.units(["t"])
    assert [len(unit.pages or ()) for unit in found] == [200, 200, 2]
    assert sum((unit.pages or () for unit in found), ()) == tuple(sorted(Path("t").iterdir()))


@pytest.mark.parametrize(
    ("pattern", "message"),
    [
        ("none*", r"there is nothing by the name none\*"),
        ("n.txt", r"n\.txt is no archive"),
        ("empty", "names no archive and no page"),
    ],
)
def test_mistakes(tree: Path, pattern: str, message: str) -> None:
    (tree / "empty").mkdir()
    with pytest.raises(UserError, match=message):
        inputs.units([pattern])


def test_folders_beside_files_that_a_pattern_names(tree: Path) -> None:
    for name in ("crawl/a.warc.gz", "crawl/saved/1.html", "crawl/saved/d/2.html", "crawl/n.txt"):
        (tree / name).parent.mkdir(parents=True, exist_ok=True)
        (tree / name).write_text("")
    saved = ("crawl/saved", ["crawl/saved/1.html", "crawl/saved/d/2.html"])
    assert units("crawl/*") == [("crawl/a.warc.gz", None), saved]
    # Folders on the way to pages that are named themselves are not read a second time.
    pages = ["crawl/saved/1.html", "crawl/saved/d/2.html"]
    assert units("crawl/**") == [("crawl", pages), ("crawl/a.warc.gz", None)]
    assert units("crawl/saved/*") == [
        ("crawl/saved", ["crawl/saved/1.html"]),
        ("crawl/saved/d", ["crawl/saved/d/2.html"]),
    ]
