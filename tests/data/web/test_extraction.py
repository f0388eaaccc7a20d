"""From units of the input to candidates: what is kept, and a count for all that is not."""

import base64
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from flamingo_jax.data.documents import Document, Medium
from flamingo_jax.data.web.extraction import Facts, Unit, extract, joined, text_of
from flamingo_jax.data.web.limits import Limits
from flamingo_jax.data.web.settings import Settings
from tests.data.web.pages import TEXT, archive, picture, site

A, B, C = (picture(seed) for seed in range(3))
SMALL = picture(9, 20, 20)
USUAL = Settings()


def run(unit: Unit, options: Settings = USUAL) -> tuple[list[Document], list[Facts], dict]:
    tally: Counter[str] = Counter()
    found = list(extract(unit, options, tally))
    return [document for document, _ in found], [facts for _, facts in found], dict(tally)


def folder(tmp_path: Path, pages: dict[str, str], pictures: dict[str, bytes]) -> Unit:
    root = site(tmp_path / "site", pages, pictures)
    return Unit(0, root, tuple(sorted(root.rglob("*.html"))))


def page(inner: str) -> str:
    return f"<html><body><p>{TEXT}</p>{inner}</body></html>"


def test_a_folder(tmp_path: Path) -> None:
    pages = {"d/p.html": page("<img src='../a.png'><p>After.</p><img src=b.jpg>")}
    unit = folder(tmp_path, pages, {"a.png": A, "d/b.jpg": B})
    (document,), (facts,), tally = run(unit)
    assert document.source == str(tmp_path / "site" / "d" / "p.html")
    assert document.items == (TEXT, Medium("../a.png", A), "After.", Medium("b.jpg", B))
    assert len(facts.digests) == 2
    assert tally == {"pages/in": 1, "images/in": 2}


def test_an_archive(tmp_path: Path) -> None:
    path = tmp_path / "a.warc.gz"
    inner = "<base href='http://b.org/d/'><img src=a.png><p>x<img src='http://a.org/b.png'>"
    path.write_bytes(
        archive(
            ("http://a.org/page", page(inner).encode()),
            ("http://b.org/d/a.png", A, "image/png"),
            ("http://a.org/b.png", B, "image/png"),
        )
    )
    (document,), _, tally = run(Unit(0, path))
    names = [item.name for item in document.items if isinstance(item, Medium)]
    assert document.source == "http://a.org/page"
    assert names == ["http://b.org/d/a.png", "http://a.org/b.png"]
    assert tally == {"pages/in": 1, "images/in": 2, "records/in": 4}


def test_an_unreadable_archive_is_counted(tmp_path: Path) -> None:
    assert run(Unit(0, tmp_path / "none.warc")) == ([], [], {"archives/unreadable": 1})


@pytest.mark.parametrize("content", [b"<html>404</html>", b""])
def test_an_archive_that_is_none_is_counted(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "crawl.warc.gz"
    path.write_bytes(content)
    documents, _, tally = run(Unit(0, path))
    assert documents == []
    assert tally["archives/unreadable"] == 1


def test_a_page_that_a_parser_cannot_bear_is_counted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def read(text: str) -> None:
        raise RecursionError(text)

    monkeypatch.setattr("flamingo_jax.data.web.html.read", read)
    documents, _, tally = run(folder(tmp_path, {"p.html": page("<img src=a.png>")}, {"a.png": A}))
    assert documents == []
    assert tally == {"pages/in": 1, "pages/dropped/damaged": 1}


def test_inline_and_lazy_images(tmp_path: Path) -> None:
    data = f"data:image/png;base64,{base64.b64encode(A).decode()}"
    pixel = base64.b64encode(picture(0, 1, 1, "GIF")).decode()
    holder = f"data:image/gif;base64,{pixel}"
    inner = f"<img src='{data}'><p>x<img src='{holder}' data-src=b.png><p>y<img src='{holder}'>"
    (document,), _, tally = run(folder(tmp_path, {"p.html": page(inner)}, {"b.png": B}))
    assert document.items == (
        TEXT,
        Medium("data:image/png", A),
        "x",
        Medium("b.png", B),
        "y",
    )
    assert tally == {"pages/in": 1, "images/in": 3, "images/dropped/tracking": 1}


def test_the_first_address_that_is_good_enough(tmp_path: Path) -> None:
    inner = "<img src=a.png srcset='none.png 3x, small.png 2x'><img src=none.png>"
    unit = folder(tmp_path, {"p.html": page(inner)}, {"a.png": A, "small.png": SMALL})
    (document,), _, tally = run(unit)
    assert document.items == (TEXT, Medium("a.png", A))
    assert tally == {"pages/in": 1, "images/in": 2, "images/dropped/missing": 1}


def test_an_image_is_shown_once_on_a_page(tmp_path: Path) -> None:
    inner = "<img src=a.png><p>x<img src=copy.png><p>y<img src=a.png><p>z"
    unit = folder(tmp_path, {"p.html": page(inner)}, {"a.png": A, "copy.png": A})
    (document,), _, tally = run(unit)
    assert document.items == (TEXT, Medium("a.png", A), "x\n\ny\n\nz")
    assert tally["images/dropped/repeated"] == 2


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (page("no image"), "no_image"),
        (page("<img src=small.png>"), "no_image"),
        ("<p>Few words.</p><img src=a.png>", "too_little_text"),
        (page("word " * 200_000 + "<img src=a.png>"), "too_long"),
        ("", "too_little_text"),
        ("<div>" * 2000, "too_deep"),
        ("x" * 10_000_001, "too_large"),
    ],
)
def test_pages_that_are_dropped(tmp_path: Path, content: str, reason: str) -> None:
    found, _, tally = run(folder(tmp_path, {"p.html": content}, {"a.png": A, "small.png": SMALL}))
    assert not found
    assert tally[f"pages/dropped/{reason}"] == 1


def test_bytes_that_are_no_text(tmp_path: Path) -> None:
    unit = folder(tmp_path, {"p.html": ""}, {})
    (tmp_path / "site" / "p.html").write_bytes(b"\xef\xbb\xbf" + bytes(range(128, 256)) * 9)
    assert run(unit)[2] == {"pages/in": 1, "pages/dropped/charset": 1}


def test_images_of_a_page_are_limited(tmp_path: Path) -> None:
    inner = "".join(f"<img src={i}.png>" for i in range(5))
    pictures = {f"{i}.png": picture(i) for i in range(5)}
    unit = folder(tmp_path, {"p.html": page(inner)}, pictures)
    (document,), _, tally = run(unit, Settings(Limits(max_images=3)))
    assert [item.name for item in document.items[1:]] == ["0.png", "1.png", "2.png"]
    assert tally["images/dropped/too_many"] == 2
    room = len(pictures["0.png"]) + len(pictures["1.png"])
    (document,), _, tally = run(unit, Settings(Limits(max_document_bytes=room)))
    assert len(document.items) <= 3
    assert tally["images/dropped/too_many"] >= 2


def test_every_page_and_image_is_counted(tmp_path: Path) -> None:
    pages = {
        "1.html": page("<img src=a.png><img src=small.png><img src=none.png>"),
        "2.html": "<p>Few words.</p><img src=a.png><img src=b.png>",
        "3.html": page("<img src=b.png><img src=b.png>"),
    }
    unit = folder(tmp_path, pages, {"a.png": A, "b.png": B, "small.png": SMALL})
    found, facts, tally = run(unit)
    assert [Path(document.source).name for document in found] == ["1.html", "3.html"]
    dropped = sum(count for name, count in tally.items() if name.startswith("images/dropped/"))
    assert tally["images/in"] == 7 == dropped + sum(len(fact.digests) for fact in facts)
    assert tally["images/dropped/page_dropped"] == 2


def test_a_sign_that_is_left_out_of_a_line_leaves_one_line(tmp_path: Path) -> None:
    inner = "<img src=a.png><p>Press <img src=small.png> now.</p><img src=small.png><p>Then.</p>"
    unit = folder(tmp_path, {"p.html": page(inner)}, {"a.png": A, "small.png": SMALL})
    (document,), _, _ = run(unit)
    assert document.items == (TEXT, Medium("a.png", A), "Press now.\n\nThen.")


def test_joined() -> None:
    image = Medium("a", b"")
    assert joined(["a", "b", image, "c", "d"]) == ("a\n\nb", image, "c\n\nd")
    assert joined([]) == ()
    assert text_of(["a", image, "b"]) == "a\n\nb"


WHOLE = archive(
    ("http://a.org/page", page("<img src=a.png><p>x<img src='b.png'>").encode()),
    ("http://a.org/a.png", A, "image/png"),
    ("http://a.org/b.png", B, "image/png"),
    gzip=False,
)


@settings(
    deadline=None, max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(st.lists(st.tuples(st.integers(0, 10**6), st.integers(0, 255)), max_size=30))
def test_any_damage_leaves_documents(tmp_path: Path, changes: list[tuple[int, int]]) -> None:
    content = bytearray(WHOLE)
    for place, value in changes:
        content[place % len(content)] = value
    path = tmp_path / "a.warc"
    path.write_bytes(content)
    found, facts, tally = run(Unit(0, path))
    for document, fact in zip(found, facts, strict=True):
        assert np.isfinite(fact.signature).all()
        media = [item for item in document.items if isinstance(item, Medium)]
        assert len(media) == len(fact.digests) > 0
    assert tally.get("pages/in", 0) == len(found) + sum(
        count for name, count in tally.items() if name.startswith("pages/dropped/")
    )
