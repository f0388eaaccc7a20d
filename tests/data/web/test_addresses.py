"""Addresses of images: order of candidates, resolution, and what is inline."""

import base64

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flamingo_jax.data.web.addresses import candidates, inline, name_of, resolve


@pytest.mark.parametrize(
    ("image", "found"),
    [
        ({"src": " a.png "}, ("a.png",)),
        ({"src": ""}, ()),
        ({"src": None, "data-src": "b.png"}, ("b.png",)),
        ({"src": "holder.gif", "data-src": "b.png"}, ("b.png", "holder.gif")),
        ({"src": "a", "srcset": "a 320w, b 640w,c 480w"}, ("b", "c", "a")),
        ({"srcset": "a, b 2x, c 1.5x"}, ("b", "c", "a")),
        ({"srcset": "a.png?x=1,2 1x,\n b.png 2x ,"}, ("b.png", "a.png?x=1,2")),
        ({"srcset": "data:image/gif;base64,AA== 1x, b 2x"}, ("b", "data:image/gif;base64,AA==")),
        ({"srcset": ",,, "}, ()),
        ({"data-lazy-srcset": "l 2x", "srcset": "s 9x", "src": "a"}, ("l", "s", "a")),
    ],
)
def test_candidates(image: dict, found: tuple[str, ...]) -> None:
    assert candidates(image) == found


def test_sources_of_a_picture_go_before() -> None:
    sources = [{"type": "image/avif", "srcset": "no"}, {"srcset": "s 1x"}, {"data-srcset": "d"}]
    assert candidates({"src": "a"}, sources) == ("s", "d", "a")


@pytest.mark.parametrize(
    ("reference", "address"),
    [
        ("a b.png", "http://x.org/d/a%20b.png"),
        ("../../../a.png#f", "http://x.org/a.png"),
        ("//y.org/ü?q=1", "http://y.org/%C3%BC?q=1"),
        ("HTTP://X.org:80/./e/%2e%2e/a", "http://x.org/a"),
        ("img\\a.png", "http://x.org/d/img/a.png"),
        ("\n a.png\t", "http://x.org/d/a.png"),
        ("http://", None),
        ("http://[", None),
        ("a" * 9000, None),
    ],
)
def test_resolve(reference: str, address: str | None) -> None:
    assert resolve(reference, "http://x.org/d/page.html") == address


def test_inline_images() -> None:
    content = bytes(range(256))
    encoded = base64.b64encode(content).decode()
    assert inline(f"data:image/png;base64,{encoded}", 1000) == content
    assert (
        inline(f"DATA:image/png;charset=x;base64,{encoded[:20]}\n {encoded[20:]}", 999) == content
    )
    assert inline("data:,a%20b", 10) == b"a b"
    assert inline("data:image/png;base64", 10) is None
    assert inline(f"data:image/png;base64,{encoded}", 100) is None
    assert name_of(f"data:image/png;base64,{encoded}") == "data:image/png"
    assert name_of("a,b;c.png") == "a,b;c.png"


@pytest.mark.parametrize(
    "reference",
    [
        "data:image/png; base64,{}",
        "data:image/png;BASE64,{}",
        "data:image/png;charset=utf-8; Base64 ,{}",
        " data:;base64, {} ",
        "data:image/png;base64,\t{}\r\n\f",
        "data:image/png;base64,%20{}%0A",
    ],
)
@pytest.mark.parametrize("content", [b"abcd", b"abcde", b"abcdef"])
def test_inline_images_as_browsers_take_them(reference: str, content: bytes) -> None:
    encoded = base64.b64encode(content).decode()
    spaced = f"{encoded[:3]} {encoded[3:]}"
    escaped = encoded.replace("=", "%3D")
    for each in (encoded, encoded.rstrip("="), spaced, escaped):
        assert inline(reference.format(each), 100) == content


@pytest.mark.parametrize(
    ("reference", "content"),
    [
        ("data:image/png;base64,AAAAA", None),
        ("data:image/png;base64,AA.A", None),
        ("data:image/png;base64,", b""),
        ("data:image/png;base64;x,AA", b"AA"),
        ("data:base64,AA", b"AA"),
        ("data:text/plain,a,b;c%2", b"a,b;c%2"),
        ("data:,\ud800", None),
    ],
)
def test_damaged_inline_images(reference: str, content: bytes | None) -> None:
    assert inline(reference, 100) == content


@given(st.text(max_size=60))
def test_any_address_can_be_tried(text: str) -> None:
    candidates({"src": text, "srcset": text})
    resolve(text, "http://x.org/")
    inline(f"data:{text}", 100)
    name_of(text)
