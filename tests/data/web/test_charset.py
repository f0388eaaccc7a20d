"""Charsets: by mark, header, the page's own word, or the bytes alone."""

import codecs

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flamingo_jax.data.web.charset import damaged, decode

RUSSIAN = "Старый маяк стоит на берегу моря, и каждую ночь он светит кораблям."
JAPANESE = "古い灯台は港の端に立っていて、毎晩船に光を送っています。"
GERMAN = "Der Leuchtturm steht am Ende der Mole, und über der Küste fällt schöner Schnee."


@pytest.mark.parametrize(
    ("content", "header"),
    [
        (RUSSIAN.encode(), None),
        (codecs.BOM_UTF8 + RUSSIAN.encode(), "koi8-r"),
        (codecs.BOM_UTF16_LE + RUSSIAN.encode("utf-16-le"), None),
        (codecs.BOM_UTF16_BE + RUSSIAN.encode("utf-16-be"), "utf-8"),
        (RUSSIAN.encode("cp1251"), "windows-1251"),
        (RUSSIAN.encode("koi8-r"), "KOI8-R"),
        (RUSSIAN.encode("cp1251"), None),  # detected
        (RUSSIAN.encode(), "iso-8859-1"),  # the server is wrong
        (RUSSIAN.encode("cp1251"), "utf-8"),
        (RUSSIAN.encode("cp1251"), "no-such-charset"),
    ],
)
def test_russian(content: bytes, header: str | None) -> None:
    assert decode(content, header) == RUSSIAN


@pytest.mark.parametrize(
    "meta",
    [
        '<meta charset="{}">',
        "<META http-equiv=Content-Type content='text/html; charset={}'>",
        '<?xml version="1.0" encoding="{}"?>',
        '<!-- <meta charset="utf-8"> --><meta charset={}>',
    ],
)
@pytest.mark.parametrize(
    ("text", "charset"),
    [(JAPANESE, "shift_jis"), (JAPANESE, "euc-jp"), (JAPANESE, "iso-2022-jp"), (GERMAN, "latin1")],
)
def test_what_the_page_says(meta: str, text: str, charset: str) -> None:
    page = meta.format(charset) + text
    assert decode(page.encode(charset)) == page


def test_the_header_goes_before_the_page() -> None:
    page = f"<meta charset=koi8-r>{RUSSIAN}"
    assert decode(page.encode("cp1251"), "windows-1251") == page


def test_latin1_is_read_as_browsers_do() -> None:
    assert decode(b"\x93quoted\x94 \x80", "iso-8859-1") == "“quoted” €"


def test_a_few_damaged_bytes() -> None:
    content = (JAPANESE * 20).encode()
    text = decode(content[:50] + b"\xff" + content[50:], "utf-8")
    assert text.count("\ufffd") <= 3
    assert not damaged(text)
    assert damaged("\ufffd" * 2 + "a" * 100)


@given(st.binary(max_size=300), st.none() | st.text(max_size=12))
def test_any_bytes_become_text(content: bytes, header: str | None) -> None:
    decode(content, header).encode()  # no surrogates
