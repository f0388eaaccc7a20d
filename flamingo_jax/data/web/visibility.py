"""What a style hides from a reader: declarations in attributes and in a page's own style sheets."""

import re
from collections.abc import Iterator, Mapping

import tinycss2
import tinycss2.ast
from selectolax.lexbor import LexborHTMLParser, SelectolaxError

_HIDDEN_CLASSES = {
    "hidden",
    "d-none",
    "is-hidden",
    "u-hidden",
    "invisible",
    "sr-only",
    "visually-hidden",
    "visuallyhidden",
    "screen-reader-text",
    "screen-reader-only",
}
"""Names by which widespread style sheets, which pages link to, hide what has them."""

_MOST_CSS = 200_000
_MOST_SELECTORS = 200
_HIDING = {"display", "visibility", "opacity", "left", "top", "clip", "text-indent", "font-size"}
_SHEETS_FOR_SCREENS = ("", "all", "screen", "only screen")
_NUMBER = re.compile(r"^(-?\d*\.?\d+)(px|em|rem|%|vw|pt)?$")


def hides(said: Mapping[str, str]) -> bool:
    """Whether CSS declarations, names and values in small letters, hide an element's content."""
    get = said.get
    if get("display") == "none" or get("visibility") in ("hidden", "collapse"):
        return True
    if get("content-visibility") == "hidden" or get("color") == "transparent":
        return True
    if _size(get("opacity")) == 0 or _size(get("font-size")) == 0:
        return True
    away = ("left", "right", "top", "text-indent", "margin-left")
    if any((size := _size(get(name))) is not None and size <= -999 for name in away):
        return True
    if "clip" in said and get("position") in ("absolute", "fixed"):
        return True
    sizes = [_size(get(name)) for name in ("width", "height")]
    cut = get("overflow") in ("hidden", "clip")
    return cut and any(size is not None and size <= 1 for size in sizes)


def hidden(attributes: Mapping[str, str | None]) -> bool:
    """Whether an element's attributes hide it: `hidden`, ARIA, style, well-known classes."""
    if "hidden" in attributes:
        return True
    if (attributes.get("aria-hidden") or "").strip().lower() == "true":
        return True
    style = attributes.get("style")
    if style and hides(dict(declarations(style))):
        return True
    names = attributes.get("class")
    return bool(names) and not _HIDDEN_CLASSES.isdisjoint(names.lower().split())


def hidden_by_sheets(page: LexborHTMLParser) -> set[int]:
    """`mem_id` of the elements that a page's own `style` elements hide.

    Of rules with the same selector the last counts; which of two selectors is the more special one
    is not weighed. Rules that depend on a state, as `:hover` does, are left out.
    """
    rules: dict[str, bool] = {}
    for sheet in page.css("style"):
        text = sheet.text()
        if "none" in text or "hidden" in text or "opacity" in text or "-999" in text:
            rules.update(_rules(text[:_MOST_CSS]))
    found: set[int] = set()
    selectors = [selector for selector, hiding in rules.items() if hiding]
    for selector in selectors[:_MOST_SELECTORS]:
        try:
            found.update(node.mem_id for node in page.css(selector))
        except SelectolaxError:  # no selector that there is
            continue
    return found


def _rules(sheet: str) -> Iterator[tuple[str, bool]]:
    """Selectors and whether their elements are hidden, where a rule says anything about it."""
    pending = tinycss2.parse_stylesheet(sheet, skip_comments=True, skip_whitespace=True)
    while pending:
        rule = pending.pop(0)
        if not isinstance(rule, tinycss2.ast.AtRule | tinycss2.ast.QualifiedRule):
            continue
        selector = tinycss2.serialize(rule.prelude).strip()
        if isinstance(rule, tinycss2.ast.QualifiedRule):
            said = dict(declarations(tinycss2.serialize(rule.content)))
            if not said.keys().isdisjoint(_HIDING):
                for each in selector.split(","):
                    if ":" not in each:
                        yield each.strip(), hides(said)
        elif rule.lower_at_keyword == "media" and selector.lower() in _SHEETS_FOR_SCREENS:
            pending[:0] = tinycss2.parse_rule_list(rule.content or [], True, True)


def declarations(style: str) -> Iterator[tuple[str, str]]:
    """Names and values of CSS declarations, in small letters."""
    for declaration in style.lower().split(";"):
        name, colon, value = declaration.partition(":")
        if colon:
            yield name.strip(), value.replace("!important", "").strip()


def _size(value: str | None) -> float | None:
    found = _NUMBER.match(value) if value else None
    return float(found[1]) if found else None
