"""A page's HTML as texts and references to images, in the order of the page.

One walk over the tree that a browser would build (lexbor). What a block is, is decided when it ends
and its text and links are known; a block that belongs to the site takes what it gave with it.
"""

import dataclasses
import operator
import re
from collections import Counter
from collections.abc import Mapping
from typing import NamedTuple

from selectolax.lexbor import LexborHTMLParser, LexborNode

from flamingo_jax.data.web import boilerplate
from flamingo_jax.data.web.addresses import candidates
from flamingo_jax.data.web.visibility import Ways, declarations, hides, inherited, of_sheets, ways

MOST_DEPTH = 1000
"""Elements within each other: deeper pages take parsers a time that grows with the square."""

# What has no tags, to its end or the page's: each search succeeds, so that none is made twice.
_NO_TAGS = re.compile(
    r"<!--(?:-?>|.*?(?:--!?>|\Z))|<(script|style|textarea)\b.*?(?:</\1\b|\Z)",
    re.DOTALL | re.IGNORECASE,
)
_TAG = re.compile(r"<(/?)([a-zA-Z][a-zA-Z0-9]*)([^<>]*)")
# Their ends may be left out, or they have none.
_NO_END = boilerplate.words(
    "area base br col embed hr img input link meta param source track wbr p li dt dd tr td th "
    "thead tbody tfoot option optgroup colgroup rp rt body html head"
)
_SPACE = re.compile(r"[ \t\r\n\f\u200b\u2060\ufeff]+")
_SPACES = re.compile(" {2,}")
_LINE_ENDS = re.compile(" *\n *")
_EMPTY_LINES = re.compile(r"\n{3,}")
_KEPT_SPACE = "\x02"  # of preformatted text; no page has it, see _CONTROL
_CONTROL = re.compile(r"[\x00-\x08\x0b\x0e-\x1f\x7f-\x9f]")
_PIXELS = re.compile(r"\s*+(\d{1,9})\s*+(?:px\s*+)?$")
_JUDGED = (boilerplate.BLOCKS | {"li", "td"}) - {"body"}
_IMAGES = ("img", "amp-img")
_CONTROLS = ("button", "input", "select")
_LINE, _PARAGRAPH = 1, 2
_TINY = 3
_MAJORITY = 0.5
_SOME = 0.25


class TooDeep(ValueError):
    """A page has more than `MOST_DEPTH` elements within each other."""


@dataclasses.dataclass(frozen=True)
class ImageReference:
    """An image of a page.

    Attributes:
      candidates: its addresses as written, the best one first.
      tiny: whether the page says that it is shown at three pixels or less: it counts readers.
      inline: whether it stands within a line of text, as a sign for a word.
    """

    candidates: tuple[str, ...]
    tiny: bool = False
    inline: bool = False


@dataclasses.dataclass(frozen=True)
class Reading:
    """What a page says.

    Attributes:
      items: texts and references to images.
      base: what the page says that its references are relative to, None if nothing.
    """

    items: tuple[str | ImageReference, ...]
    base: str | None


def read(html: str) -> Reading:
    """The texts and images of a page, without what is invisible or the site's.

    Paragraphs of a text are separated by an empty line.

    Raises:
      TooDeep: too many elements are within each other.
    """
    if _is_too_deep(html):
        raise TooDeep(f"More than {MOST_DEPTH} elements are within each other.")
    page = LexborHTMLParser(html, scripting=True)
    base = page.css_first("base[href]", default=None)
    walk = _Walk(of_sheets(page))
    if page.body is not None:
        walk.over(page.body)
    return Reading(_joined(walk.result()), base.attributes.get("href") if base else None)


def _is_too_deep(html: str) -> bool:
    """Whether more than `MOST_DEPTH` elements can be within each other, from the tags alone.

    An end counts if there is a beginning: parsers pass over others. Only in drawings and formulas
    may a tag end itself.
    """
    if html.count("<") <= MOST_DEPTH:
        return False  # as most pages are
    opened: Counter[str] = Counter()
    depth = 0
    for tag in _TAG.finditer(_NO_TAGS.sub("", html)):
        closing, name, rest = tag.groups()
        name = name.lower()
        if name in _NO_END or (closing and not opened[name]):
            continue
        if rest.endswith("/") and (opened["svg"] or opened["math"]):
            continue
        step = -1 if closing else 1
        opened[name] += step
        depth += step
        if depth > MOST_DEPTH:
            return True
    return False


class _Counts(NamedTuple):
    """What the walk has met, without what it took back."""

    pieces: int
    characters: int  # spaces left out, as in the next
    linked: int
    links: int
    buttons: int
    anchors: int  # main elements and articles

    def since(self, start: "_Counts") -> "_Counts":
        """What was met after `start`."""
        return _Counts(*map(operator.sub, self, start))


@dataclasses.dataclass(frozen=True)
class _Open:
    """An element whose end was not reached, with the counts at its start."""

    node: LexborNode
    tag: str
    start: _Counts
    named: bool
    main: bool
    around: Ways  # those that hide text, before it


@dataclasses.dataclass(frozen=True)
class _Part:
    """Pieces from `first` to before `last`, with the counts of what is between."""

    first: int
    last: int
    counts: _Counts


class _Walk:
    """Collects pieces: texts, images, and breaks as numbers."""

    def __init__(self, sheets: Mapping[int, Ways]) -> None:
        self._sheets = sheets
        self._text_ways: Ways = {}
        self._pieces: list[str | int | ImageReference] = []
        self._characters = self._linked = self._links = self._buttons = self._anchors = 0
        self._named: list[_Part] = []
        self._mains: list[_Part] = []
        self._in_links = self._in_sections = self._in_pre = 0

    def over(self, body: LexborNode) -> None:
        """Walks over an element and all within it."""
        stack: list[_Open] = []
        node = body
        while True:
            if self._enter(node, stack):
                if (child := node.first_child) is not None:
                    node = child
                    continue
                self._leave(stack.pop())
            while (after := node.next) is None and stack:
                node = stack[-1].node
                self._leave(stack.pop())
            if after is None or not stack:
                return
            node = after

    def result(self) -> list[str | int | ImageReference]:
        """The pieces, without the parts that are named as the site's.

        Such a name is not believed of what holds all the page's articles and most of its text, nor
        of most of an article. A single main element with a fair share of the text is the page.
        """
        first, last = 0, len(self._pieces)
        if len(self._mains) == 1 and self._share(self._mains[0]) >= _SOME:
            first, last = self._mains[0].first, self._mains[0].last
        pieces: list[str | int | ImageReference] = []
        for part in sorted(self._named, key=lambda part: (part.first, -part.last)):
            elsewhere = self._anchors > part.counts.anchors
            if first <= part.first < last and (elsewhere or self._share(part) <= _MAJORITY):
                pieces += self._pieces[first : part.first]
                first = part.last
        return pieces + self._pieces[first:last]

    def _now(self) -> _Counts:
        counts = self._characters, self._linked, self._links, self._buttons, self._anchors
        return _Counts(len(self._pieces), *counts)

    def _share(self, part: _Part) -> float:
        return part.counts.characters / max(self._characters, 1)

    def _enter(self, node: LexborNode, stack: list[_Open]) -> bool:
        """Takes a text or an image; opens an element, or passes over it with all within it."""
        if node.is_text_node:
            if not any(self._text_ways.values()):
                self._text(node.text_content or "")
            return False
        tag = node.tag
        if not node.is_element_node or tag is None:
            return False
        self._buttons += tag in _CONTROLS
        if tag in boilerplate.UNREAD:
            return False
        attributes = node.attributes
        # Pages that hide their whole body show it when their scripts have run.
        said = {} if tag == "body" else ways(attributes, self._sheets.get(node.mem_id, {}))
        if hides(said) or boilerplate.is_site_part(tag, attributes, self._in_sections):
            return False
        if tag == "br":
            self._pieces.append("\n")
        elif tag in _IMAGES:
            self._image(node, attributes)
        else:
            self._break(tag)
            stack.append(self._open(node, tag, attributes))
            self._text_ways = inherited(said, self._text_ways)
            return True
        return False

    def _open(self, node: LexborNode, tag: str, attributes: boilerplate.Attributes) -> _Open:
        main = tag == "main" or attributes.get("role") == "main"
        named = boilerplate.is_named_so(tag, attributes)
        opened = _Open(node, tag, self._now(), named, main, self._text_ways)
        self._anchors += main or tag == "article"
        self._links += tag == "a" and "href" in attributes
        self._inside(tag, 1)
        return opened

    def _leave(self, opened: _Open) -> None:
        self._text_ways = opened.around
        self._inside(opened.tag, -1)
        self._break(opened.tag)
        counts = self._now().since(opened.start)
        part = _Part(opened.start.pieces, len(self._pieces), counts)
        judged = opened.tag in _JUDGED and not opened.main
        if judged and boilerplate.is_link_list(counts.characters, counts.linked, counts.links):
            self._take_back(part)
            _, self._characters, self._linked, self._links, self._buttons, self._anchors = (
                opened.start
            )
        elif judged and self._is_phrase(part):
            self._take_back(part)  # it counts on: a list of such phrases is a list of links
        elif opened.main or opened.tag == "article":
            self._doubt(part)
            if opened.main:
                self._mains.append(part)
        elif opened.named:
            self._named.append(part)

    def _inside(self, tag: str, step: int) -> None:
        self._in_links += step * (tag == "a")
        self._in_pre += step * (tag == "pre")
        self._in_sections += step * boilerplate.is_section(tag)

    def _take_back(self, part: _Part) -> None:
        del self._pieces[part.first :]
        for parts in (self._named, self._mains):
            del parts[_since(parts, part) :]

    def _doubt(self, part: _Part) -> None:
        """Forgets the names of what is most of a main element or article: they tell its layout."""
        since = _since(self._named, part)
        most = _MAJORITY * part.counts.characters
        self._named[since:] = [
            each for each in self._named[since:] if each.counts.characters <= most
        ]

    def _is_phrase(self, part: _Part) -> bool:
        if max(part.counts.characters, part.last - part.first) > boilerplate.SHORT:
            return False
        pieces = self._pieces[part.first : part.last]
        if any(isinstance(piece, ImageReference) for piece in pieces):
            return False
        text = "".join(piece if isinstance(piece, str) else "\n" for piece in pieces)
        lines = [line for line in text.split("\n") if line.strip()]
        return boilerplate.is_phrase_of_sites(lines, part.counts.links, part.counts.buttons)

    def _text(self, text: str) -> None:
        text = _CONTROL.sub("", text.replace("\r\n", "\n"))
        text = text.replace(" ", _KEPT_SPACE) if self._in_pre else _SPACE.sub(" ", text)
        if text:
            self._pieces.append(text)
            count = len(text) - text.count(" ") - text.count(_KEPT_SPACE)
            self._characters += count
            self._linked += count * (self._in_links > 0)

    def _image(self, node: LexborNode, attributes: boilerplate.Attributes) -> None:
        sources, parent = [], node.parent
        before = node.prev if parent is not None and parent.tag == "picture" else None
        while before is not None and before.tag not in _IMAGES:  # a source is one image's
            if before.tag == "source":
                sources.append(before.attributes)
            before = before.prev
        style = dict(declarations(attributes.get("style") or ""))
        shown = [style.get(side) or attributes.get(side) for side in ("width", "height")]
        tiny = any(_pixels(size) <= _TINY for size in shown)
        if addresses := candidates(attributes, sources[::-1]):
            self._pieces.append(ImageReference(addresses, tiny))

    def _break(self, tag: str) -> None:
        if tag in boilerplate.BLOCKS:
            self._pieces.append(_PARAGRAPH)
        elif tag in boilerplate.LINES:
            self._pieces.append(_LINE)
        elif tag in ("td", "th"):
            self._pieces.append(" ")


def _since(parts: list[_Part], part: _Part) -> int:
    """The index of the first of the parts that ended last and are within another one."""
    count = len(parts)
    while count and parts[count - 1].first >= part.first:
        count -= 1
    return count


def _pixels(size: str | None) -> float:
    """A width or height attribute; infinite if it says none in pixels."""
    found = _PIXELS.match(size or "")
    return float(found[1]) if found else float("inf")


def _joined(pieces: list[str | int | ImageReference]) -> tuple[str | ImageReference, ...]:
    """Pieces with the texts between two images as one, their lines trimmed."""
    items: list[str | ImageReference] = []
    texts: list[str] = []
    pending = 0  # the break before what comes
    apart = True  # whether there was one since the last word or image
    said = False  # whether there was a word since the last image
    for piece in [*pieces, None]:
        if isinstance(piece, int):
            pending, apart = max(pending, piece), True
        elif isinstance(piece, str):
            if pending and not piece.strip(" "):
                continue
            if piece.strip():
                if apart and items and not said:
                    items[-1] = _out_of_line(items[-1])
                apart, said = "\n" in piece, True
            elif "\n" in piece:
                apart = True
            texts += ["\n" * pending, piece]
            pending = 0
        else:
            if text := _trimmed("".join(texts)):
                items.append(text)
            if piece is not None:
                items.append(dataclasses.replace(piece, inline=not apart))
            texts, pending, apart, said = [], 0, False, False
    if items:
        items[-1] = _out_of_line(items[-1])
    return tuple(items)


def _out_of_line(item: str | ImageReference) -> str | ImageReference:
    return item if isinstance(item, str) else dataclasses.replace(item, inline=False)


def _trimmed(text: str) -> str:
    text = _LINE_ENDS.sub("\n", _SPACES.sub(" ", text))
    return _EMPTY_LINES.sub("\n\n", text).strip().replace(_KEPT_SPACE, " ").rstrip()
