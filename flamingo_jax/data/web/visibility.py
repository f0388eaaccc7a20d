"""What a style hides from a reader: declarations in attributes and in a page's own style sheets."""

import re
from collections.abc import Iterator, Mapping

import tinycss2
import tinycss2.ast
from selectolax.lexbor import LexborHTMLParser, SelectolaxError

from flamingo_jax.data.web.boilerplate import words

Ways = Mapping[str, bool]
"""Ways of hiding that styles speak of, most by the name of a property, and whether they hide."""

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
_WIDTHS = words("xs sm md lg xl xxl 2xl 3xl")
_SHOWING = words(
    "block flex grid table inline inline-block inline-flex inline-grid inline-table table-cell "
    "table-row contents flow-root list-item visible not-sr-only"
)
"""With a width before them, classes of the same sheets that show on wide screens what has them."""

_MOST_CSS = 200_000
_MOST_SELECTORS = 400
_HIDING_WORDS = ("none", "hidden", "opacity", "-999")
# Wide ones: most pages are written for them, and hide their parts for narrow ones beside them.
_SCREENS = re.compile(r"((only\s+)?(all|screen)(\s+and\s+|$))?(\(\s*min-width\s*:[^()]*\))?")
_NUMBER = re.compile(r"^(-?(?:\d++(?:\.\d++)?|\.\d++))(px|em|rem|%|vw|pt)?$")

_VALUES = {
    "display": ("none",),
    "visibility": ("hidden", "collapse"),
    "content-visibility": ("hidden",),
    "color": ("transparent",),
}
_ZERO = ("opacity", "font-size")
_AWAY = ("left", "right", "top", "text-indent", "margin-left")
_OF_TEXT = words("color font-size text-indent")
# Sheets set these in other rules than what shows it after all: padding, a background for letters.
_OF_ATTRIBUTES = words("overflow color")
_NOTHING = ("0", "0px", "1px")


def ways(attributes: Mapping[str, str | None], by_sheets: Ways) -> Ways:
    """How an element may be hidden: `hidden`, ARIA, well-known classes, its style, or sheets.

    Args:
      attributes: the element's.
      by_sheets: what sheets say of it; its own style goes before them.
    """
    style = attributes.get("style")
    found = {**by_sheets, **_ways(dict(declarations(style)))} if style else by_sheets
    return {**found, "attributes": True} if _hidden(attributes) else found


def hides(found: Ways) -> bool:
    """Whether an element is hidden with all within it, and not only its text."""
    return any(hiding for way, hiding in found.items() if way not in _OF_TEXT)


def inherited(found: Ways, around: Ways) -> Ways:
    """The ways that hide text: an element's own, and those of what it is in."""
    if _OF_TEXT.isdisjoint(found):
        return around
    return {**around, **{way: hiding for way, hiding in found.items() if way in _OF_TEXT}}


def of_sheets(page: LexborHTMLParser) -> Mapping[int, Ways]:
    """By `mem_id`, what a page's own `style` elements say of elements that they may hide.

    Of rules with as many ids and classes in their selectors the later one counts; there is no more
    of a cascade. Rules that depend on a state, as `:hover` does, are left out.
    """
    sheets = [
        sheet.text()[:_MOST_CSS]
        for sheet in page.css("style")
        if _for_screens(sheet.attributes.get("media") or "")
    ]
    if not any(word in sheet for sheet in sheets for word in _HIDING_WORDS):
        return {}
    found: dict[int, dict[str, bool]] = {}
    used: set[str] = set()
    selectors = 0
    for selector, said in sorted((rule for sheet in sheets for rule in _read(sheet)), key=_weight):
        hiding = any(said.values())
        if not hiding and used.isdisjoint(said):
            continue  # it shows what nothing hid
        selectors += 1
        if selectors > _MOST_SELECTORS:
            break
        try:
            nodes = [node.mem_id for node in page.css(selector)]
        except (SelectolaxError, UnicodeEncodeError):  # no selector that there is, or half a letter
            continue
        for node in nodes:
            if hiding or node in found:
                found.setdefault(node, {}).update(said)
                used.update(said)
    return found


def declarations(style: str) -> Iterator[tuple[str, str]]:
    """Names and values of CSS declarations, in small letters."""
    for declaration in style.lower().split(";"):
        name, colon, value = declaration.partition(":")
        if colon:
            yield name.strip(), value.replace("!important", "").strip()


def _hidden(attributes: Mapping[str, str | None]) -> bool:
    if "hidden" in attributes:
        return True
    if (attributes.get("aria-hidden") or "").strip().lower() == "true":
        return True
    names = (attributes.get("class") or "").lower().split()
    return not _HIDDEN_CLASSES.isdisjoint(names) and not any(map(_shows_on_wide_screens, names))


def _shows_on_wide_screens(name: str) -> bool:
    """Whether a class is one as `md:block` of Tailwind or `d-md-block` of Bootstrap."""
    width, _, display = name.removeprefix("d-").replace(":", "-", 1).partition("-")
    return width in _WIDTHS and display in _SHOWING


def _ways(said: Mapping[str, str]) -> dict[str, bool]:
    """The ways of hiding that CSS declarations, names and values in small letters, speak of."""
    found = {name: said[name] in values for name, values in _VALUES.items() if name in said}
    found |= {name: _size(said[name]) == 0 for name in _ZERO if name in said}
    found |= {name: _size(said[name]) <= -999 for name in _AWAY if name in said}
    if "clip" in said:
        found["clip"] = said["clip"] != "auto" and said.get("position") in ("absolute", "fixed")
    if "overflow" in said:
        cut = said["overflow"] in ("hidden", "clip")
        small = any(said.get(side) in _NOTHING for side in ("width", "height"))
        found["overflow"] = cut and small and not _is_padded(said)
    return found


def _is_padded(said: Mapping[str, str]) -> bool:
    """Whether there is room within an element's padding: pages keep it for images so."""
    return any(name.startswith("padding") and set(said[name]) - set("0 px%") for name in said)


def _read(sheet: str) -> list[tuple[str, Ways]]:
    """The rules of a sheet; none of one whose blocks lie hundreds deep, which no browser reads."""
    try:
        return list(_rules(sheet))
    except RecursionError:
        return []


def _rules(sheet: str) -> Iterator[tuple[str, Ways]]:
    """Selectors and ways of hiding, where a rule says anything about them."""
    pending = tinycss2.parse_stylesheet(sheet, skip_comments=True, skip_whitespace=True)
    while pending:
        rule = pending.pop(0)
        if not isinstance(rule, tinycss2.ast.AtRule | tinycss2.ast.QualifiedRule):
            continue
        prelude = tinycss2.serialize(rule.prelude).strip()
        if isinstance(rule, tinycss2.ast.QualifiedRule):
            said = _ways(dict(declarations(tinycss2.serialize(rule.content))))
            said = {way: hiding for way, hiding in said.items() if way not in _OF_ATTRIBUTES}
            for selector in prelude.split(",") if said else ():
                if ":" not in selector.replace(r"\:", ""):
                    yield selector.strip(), said
        elif rule.lower_at_keyword == "media" and _for_screens(prelude):
            pending[:0] = tinycss2.parse_rule_list(rule.content or [], True, True)


def _weight(rule: tuple[str, Ways]) -> tuple[int, int]:
    """How special a selector is: its ids, then its classes and attributes."""
    selector, _ = rule
    return selector.count("#"), selector.count(".") + selector.count("[")


def _for_screens(media: str) -> bool:
    return any(_SCREENS.fullmatch(each.strip()) for each in media.lower().split(","))


def _size(value: str) -> float:
    """The number of a length, whatever its unit; no number that compares if it is none."""
    found = _NUMBER.match(value)
    return float(found[1]) if found else float("nan")
