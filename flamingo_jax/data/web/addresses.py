"""Where a page's images are: addresses in its markup, from the best one to the last resort."""

import base64
import re
import urllib.parse
from collections.abc import Iterator, Mapping, Sequence

import ada_url

_LAZY_SETS = ("data-srcset", "data-lazy-srcset", "data-original-set")
_LAZY = ("data-src", "data-original", "data-lazy-src", "data-lazy", "data-original-src")
_LAZY += ("data-hi-res-src", "data-full-src", "data-img-src", "data-image-src")
_CANDIDATE = re.compile(r"[\s,]*(\S*[^\s,])(?:\s+([^,]*))?(?:,|$)", re.ASCII)
_DESCRIPTOR = re.compile(r"^(\d+(?:\.\d+)?)[wx]$")
_READABLE = ("image/png", "image/jpeg", "image/jpg", "image/webp", "image/gif")
_LONGEST = 8192

Attributes = Mapping[str, str | None]


def candidates(image: Attributes, sources: Sequence[Attributes] = ()) -> tuple[str, ...]:
    """Addresses of an `img` element as written, without repeats.

    A picture's sources come first, as in a browser, then what a script would load once the reader
    is near, then the largest of the set, and `src`, which may hold a place for those, last.

    Args:
      image: attributes of the `img` element.
      sources: attributes of the `source` elements before it in a `picture`.
    """
    found: list[str] = []
    for source in sources:
        kind = (source.get("type") or "").split(";")[0].strip().lower()
        if not kind or kind in _READABLE:
            for name in ("srcset", *_LAZY_SETS):
                found += _of_set(source.get(name))
    for name in _LAZY_SETS:
        found += _of_set(image.get(name))
    found += [image.get(name) or "" for name in _LAZY]
    found += _of_set(image.get("srcset"))
    found.append(image.get("src") or "")
    return tuple(dict.fromkeys(address.strip() for address in found if address.strip()))


def resolve(reference: str, base: str) -> str | None:
    """The whole address that a reference stands for, without its fragment; None if it is none.

    Two spellings of an address that browsers take for the same come out the same (WHATWG URL).
    """
    if len(reference) > _LONGEST:
        return None
    try:
        return ada_url.URL(reference, base=base).href.partition("#")[0]
    except (ValueError, UnicodeError):
        return None


def inline(reference: str, most_bytes: int) -> bytes | None:
    """What a `data:` address holds; None if it is damaged or may be larger than `most_bytes`.

    Browsers take more than RFC 2397 allows (WHATWG Fetch): spaces, large letters, no padding.
    """
    if len(reference) > 3 * most_bytes:  # each byte may be escaped
        return None
    kind, comma, data = reference.strip().partition(",")
    try:
        content = urllib.parse.unquote_to_bytes(data)
        if kind.rpartition(";")[2].strip().lower() == "base64":
            content = b"".join(content.split()).rstrip(b"=")
            content = base64.b64decode(content + b"=" * (-len(content) % 4), validate=True)
    except ValueError:
        return None
    return content if comma else None


def is_inline(reference: str) -> bool:
    """Whether an address is a `data:` one."""
    return reference[:5].lower() == "data:"


def name_of(reference: str) -> str:
    """What an image is called by its address: all of it, or the kind of a `data:` one."""
    return reference.split(",", 1)[0].split(";", 1)[0] if is_inline(reference) else reference


def _of_set(srcset: str | None) -> Iterator[str]:
    """Addresses of a srcset attribute, the largest first."""
    sized = []
    for found in _CANDIDATE.finditer((srcset or "").strip(" ,\t\r\n\f\v")):
        size = _DESCRIPTOR.match((found[2] or "1x").strip())
        sized.append((-float(size[1]) if size else 0.0, found[1]))
    yield from (address for _, address in sorted(sized, key=lambda pair: pair[0]))
