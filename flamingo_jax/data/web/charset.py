"""Bytes of a page as text, whatever charset it is in and says it is in."""

import codecs
import re

from resiliparse.parse.encoding import detect_encoding, map_encoding_to_html5

_MARKS = ((codecs.BOM_UTF8, "utf-8"), (codecs.BOM_UTF16_LE, "utf-16-le"))
_MARKS += ((codecs.BOM_UTF16_BE, "utf-16-be"),)
_PRESCAN = 4096
_META = re.compile(rb"""<meta\b[^>]*?charset\s*=\s*["']?\s*([\w.:+-]+)""", re.IGNORECASE)
_XML = re.compile(rb"""^\s*<\?xml\b[^>]*?encoding\s*=\s*["']([\w.:+-]+)""", re.IGNORECASE)
_COMMENT = re.compile(rb"<!--.*?-->", re.DOTALL)
# What browsers read under these names holds more than Python's codecs of the name.
_WIDER = {"gbk": "gb18030", "shift_jis": "cp932", "euc_kr": "cp949"}
_WIDE_CLAIM = ("utf-16", "utf-16-le", "utf-16-be", "utf-16le", "utf-16be")


def decode(content: bytes, header: str | None = None) -> str:
    """The text of a page; what its charset has no character for becomes U+FFFD.

    The order is the HTML standard's (§13.2.3.2): byte order mark, HTTP header, the page's own word,
    detection. One departure: bytes that are valid UTF-8 beyond ASCII are UTF-8 whatever is said,
    since no text in another charset is so by chance and servers often say what is not true.

    Args:
      content: the page.
      header: the charset that the HTTP header names.
    """
    for mark, charset in _MARKS:
        if content.startswith(mark):
            return content[len(mark) :].decode(charset, "replace")
    try:
        text = content.decode("utf-8")
    except UnicodeDecodeError:
        text = None
    if text is not None and not content.isascii():
        return text
    said = [charset for charset in (_known(header), _declared(content)) if charset]
    for charset in said:
        try:
            return content.decode(charset)
        except UnicodeDecodeError:
            continue
    if text is not None:
        return text
    if said:
        text = content.decode(said[0], "replace")
        beyond_ascii = sum(1 for character in text if character > "\x7f")
        # A few damaged bytes do not make the page another charset's.
        if text.count("\ufffd") * 2 <= beyond_ascii:
            return text
    return content.decode(_detected(content), "replace")


def damaged(text: str) -> bool:
    """Whether more than one character in a hundred could not be decoded."""
    return text.count("\ufffd") * 100 > len(text)


def _declared(content: bytes) -> str | None:
    head = _COMMENT.sub(b"", content[:_PRESCAN])
    found = _META.search(head) or _XML.search(head)
    charset = _known(found[1].decode("ascii", "replace")) if found else None
    # A page whose charset can be read as ASCII is not in UTF-16 (HTML standard, §13.2.3.2).
    return "utf-8" if charset in _WIDE_CLAIM else charset


def _known(label: str | None) -> str | None:
    """The charset that browsers use for a label, None if there is none."""
    found = map_encoding_to_html5(label.strip(" \t\"'"), False) if label else None
    try:
        return codecs.lookup(_WIDER.get(found, found)).name if found else None
    except LookupError:  # one that browsers have and Python has not
        return None


def _detected(content: bytes) -> str:
    return _known(detect_encoding(content)) or "cp1252"
