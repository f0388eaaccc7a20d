"""WARC files: pages, images at their addresses, and damage that costs one record."""

import gzip
import io
import re
from pathlib import Path

import brotli
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from warcio.warcwriter import WARCWriter

from flamingo_jax.data.web.archives import Archive
from flamingo_jax.data.web.limits import Limits
from tests.data.web.pages import archive, picture, response

LIMITS = Limits(max_page_bytes=50_000, max_image_bytes=60_000)
PICTURES = [picture(seed) for seed in range(3)]
ANSWERS = [
    ("http://a.org/", b"<p>first"),
    ("http://a.org/1.png", PICTURES[0], "image/png"),
    ("http://a.org/page", b"<p>second", "text/html"),
    ("http://a.org/2.png", PICTURES[1], "image/png"),
    ("http://a.org/last", b"<p>third", "application/xhtml+xml"),
]


@pytest.fixture
def opened(tmp_path: Path):
    """Opens the bytes of an archive."""
    archives = []

    def open_it(content: bytes, limits: Limits = LIMITS) -> Archive:
        path = tmp_path / f"{len(archives)}.warc.gz"
        path.write_bytes(content)
        archives.append(Archive(path, limits))
        return archives[-1]

    yield open_it
    for each in archives:
        each.close()


def members(content: bytes) -> list[bytes]:
    """The gzip members of an archive that warcio wrote."""
    starts = [found.start() for found in re.finditer(rb"\x1f\x8b\x08\x00", content)]
    parts = [content[a:b] for a, b in zip(starts, [*starts[1:], len(content)], strict=True)]
    assert all(gzip.decompress(part).startswith(b"WARC/1.0") for part in parts)
    return parts


def forms() -> dict[str, bytes]:
    """An archive compressed by record, as a whole, and not at all."""
    plain = archive(*ANSWERS, gzip=False)
    return {"records": archive(*ANSWERS), "whole": gzip.compress(plain), "plain": plain}


@pytest.mark.parametrize("form", ["records", "whole", "plain"])
def test_pages_and_images(opened, form: str) -> None:
    found = opened(forms()[form])
    pages = [(page.source, page.content, page.charset, page.refused) for page in found.pages()]
    assert pages == [
        ("http://a.org/", b"<p>first", "utf-8", None),
        ("http://a.org/page", b"<p>second", None, None),
        ("http://a.org/last", b"<p>third", None, None),
    ]
    assert found.find("http://a.org/1.png") == PICTURES[0]
    assert found.find("https://a.org/2.png") == PICTURES[1]  # recorded under http
    assert found.find("http://a.org/3.png") is None
    assert found.tally == {"records/in": 6}


def test_encodings_redirects_and_other_records(opened) -> None:
    buffer = io.BytesIO()
    writer = WARCWriter(buffer, gzip=True)
    html, png = "text/html", "image/png"
    encoded = {
        "g": (gzip.compress(b"<p>gzip"), "Content-Encoding", "gzip"),
        "b": (brotli.compress(b"<p>brotli"), "Content-Encoding", "br"),
        "c": (b"8\r\n<p>chunk\r\n2\r\ned\r\n0\r\n\r\n", "Transfer-Encoding", "chunked"),
        "d": (b"<p>decoded", "Content-Encoding", "gzip"),
        "e": (b"<p>whole", "Transfer-Encoding", "chunked"),
        "x": (b"9\r\n<p>chunk", "Transfer-Encoding", "chunked"),
    }
    for name, (content, *header) in encoded.items():
        response(writer, f"http://a.org/{name}", content, html, "200 OK", [tuple(header)])
    response(writer, "http://a.org/404", b"<p>no", html, "404 Not Found")
    response(writer, "http://a.org/old", b"<p>moved", html, "301 Moved", [("Location", "/g")])
    response(writer, "http://a.org/i", b"", png, "302 Found", [("Location", "./j#x")])
    response(writer, "http://a.org/j", b"", png, "302 Found", [("Location", "//b.org/k")])
    response(writer, "http://b.org/k", PICTURES[0], png)
    response(writer, "http://a.org/loop", b"", png, "302 Found", [("Location", "/loop")])
    response(writer, "http://a.org/gone.png", PICTURES[1], png, "404 Not Found")
    for address, kind, content in (
        ("http://a.org/r", html, b"<p>res"),
        ("http://a.org/r.png", png, PICTURES[2]),
    ):
        writer.write_record(
            writer.create_warc_record(
                address, "resource", payload=io.BytesIO(content), warc_content_type=kind
            )
        )
    writer.write_record(
        writer.create_revisit_record(
            "http://a.org/again.png", "sha1:X", "http://b.org/k", "2020-01-01T00:00:00Z"
        )
    )
    found = opened(buffer.getvalue())
    pages = {page.source[13:]: page.refused or page.content for page in found.pages()}
    assert pages == {
        "g": b"<p>gzip",
        "b": b"<p>brotli",
        "c": b"<p>chunked",
        "d": b"<p>decoded",
        "e": b"<p>whole",
        "x": "damaged",
        "404": "http_status",
        "r": b"<p>res",
    }
    assert found.find("http://a.org/i") == PICTURES[0]
    assert found.find("http://a.org/again.png") == PICTURES[0]
    assert found.find("http://a.org/r.png") == PICTURES[2]
    assert found.find("http://a.org/loop") is None
    assert found.find("http://a.org/gone.png") is None


def test_spellings_of_an_address(opened) -> None:
    found = opened(archive(("HTTP://A.org:80/ü b.png", PICTURES[0], "image/png")))
    assert found.find("http://a.org/%C3%BC%20b.png") == PICTURES[0]
    (page,) = opened(archive(("http://a.org/ü", b"<p>text"))).pages()
    assert (page.source, page.base) == ("http://a.org/ü", "http://a.org/%C3%BC")


def test_large_contents_are_cut(opened) -> None:
    bomb = gzip.compress(bytes(10**8))
    found = opened(
        archive(
            ("http://a.org/", b"<p>" + bytes(60_000)),
            ("http://a.org/bomb", bomb, "text/html", "200 OK", [("Content-Encoding", "gzip")]),
            ("http://a.org/i", bytes(500_000), "image/png"),
            ("http://a.org/end", b"<p>end"),
        )
    )
    pages = [(page.source, page.content, page.refused) for page in found.pages()]
    assert pages[0] == ("http://a.org/", b"", "too_large")
    assert pages[1] == ("http://a.org/bomb", b"", "too_large")
    assert pages[2] == ("http://a.org/end", b"<p>end", None)
    assert len(found.find("http://a.org/i")) == LIMITS.max_image_bytes + 1


def with_length(record: bytes, change: int) -> bytes:
    """A record whose length is said wrongly."""
    return re.sub(
        rb"Content-Length: (\d+)",
        lambda found: b"Content-Length: %d" % max(int(found[1]) + change, 0),
        record,
        count=1,
    )


def damage(kind: str) -> tuple[bytes, str]:
    """An archive whose page `page` is damaged, and what the damage is called."""
    parts = members(archive(*ANSWERS))
    before, bad, after = parts[:3], parts[3], parts[4:]
    if kind.startswith("length"):
        wrong = gzip.compress(with_length(gzip.decompress(bad), int(kind[6:])))
        return b"".join([*before, wrong, *after]), "length"
    if kind.startswith("plain"):
        plain = [gzip.decompress(part) for part in parts]
        plain[3] = with_length(plain[3], int(kind[5:]))
        return b"".join(plain), "length"
    changed = {
        "flipped": (bad[:60] + bytes(20) + bad[80:], "compression"),
        "cut": (bad[:-30], "compression"),
        "not a record": (gzip.compress(b"hello\r\n\r\n"), "header"),
        "no length": (
            gzip.compress(re.sub(rb"Content-Length", b"X", gzip.decompress(bad))),
            "header",
        ),
        "no HTTP": (
            gzip.compress(gzip.decompress(bad).replace(b"HTTP/1.1 200", b"\xff\xfe\x00 ???")),
            None,
        ),
    }
    content, reason = changed[kind]
    return b"".join([*before, content, *after]), reason


@pytest.mark.parametrize(
    "kind",
    [
        *("length10", "length-10", "length1000000000000", "length-100000"),
        *("plain10", "plain-10", "plain1000000000000", "plain-100000"),
        *("flipped", "cut", "not a record", "no length", "no HTTP"),
    ],
)
def test_damage_costs_one_record(opened, kind: str) -> None:
    content, reason = damage(kind)
    found = opened(content)
    whole = [page.source for page in found.pages() if page.content]
    assert whole == ["http://a.org/", "http://a.org/last"]
    assert found.find("http://a.org/2.png") == PICTURES[1]
    if reason is not None:
        assert found.tally == {"records/in": 6, f"records/bad/{reason}": 1}


@pytest.mark.parametrize("form", ["records", "whole", "plain"])
def test_the_end_may_be_missing(opened, form: str) -> None:
    content = forms()[form]
    found = opened(content[: -len(content) // 40])
    assert [page.content for page in found.pages()][:1] == [b"<p>first"]
    assert found.find("http://a.org/1.png") == PICTURES[0]


@pytest.mark.parametrize("content", [b"", b"\x1f\x8b\x08", b"no archive" * 9999, b"WARC/1.0\r\n"])
def test_what_is_no_archive(opened, content: bytes) -> None:
    found = opened(content)
    assert not list(found.pages())
    assert found.find("http://a.org/") is None


@settings(
    deadline=None, max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    st.sampled_from(sorted(forms())),
    st.lists(st.tuples(st.integers(0, 10**6), st.integers(0, 255)), max_size=10),
    st.integers(0, 10**6),
)
def test_any_damage_is_passed_over(
    tmp_path: Path, form: str, changes: list[tuple[int, int]], cut: int
) -> None:
    content = bytearray(forms()[form])
    for place, value in changes:
        content[place % len(content)] = value
    path = tmp_path / "a.warc.gz"
    path.write_bytes(content[: cut % (2 * len(content)) + 1])
    found = Archive(path, LIMITS)
    list(found.pages())
    found.find("http://a.org/1.png")
    found.close()
