"""Which parts of a page are the site's and not the page's: by element, role, name and links.

Facts that readers of pages agree on (Readability, OBELICS arXiv:2306.16527 §3.1, trafilatura), as
rules on one element at a time, since images must stay between the texts they stand between.
"""

import itertools
import re
from collections.abc import Mapping, Sequence

Attributes = Mapping[str, str | None]


def words(text: str) -> frozenset[str]:
    """The words of a text."""
    return frozenset(text.split())


UNREAD = words(
    "head script style noscript template title meta link base svg canvas iframe frame frameset "
    "noframes object embed applet audio video map select option datalist button textarea input "
    "progress meter dialog annotation annotation-xml portal slot fencedframe"
)
"""Elements whose content is no text of the page, or is not shown as such."""

BLOCKS = words(
    "address article aside blockquote body center dd details dialog dir div dl dt fieldset "
    "figcaption figure footer form h1 h2 h3 h4 h5 h6 header hgroup hr html legend main menu nav "
    "ol p pre search section summary table tbody tfoot thead ul"
)
"""Elements that begin and end a paragraph."""

LINES = words("li tr caption")
"""Elements that begin and end a line."""

_SITE_PARTS = words("nav aside search menu")
_SECTIONS = words("article main section aside nav")
_SITE_ROLES = words(
    "navigation banner contentinfo complementary search menu menubar toolbar dialog alertdialog "
    "tablist doc-toc doc-pagelist doc-index doc-backlink"
)
_NAMED = words("div section ul ol dl table tr td form p center details")
_NAMES = words(
    "nav navbar navigation navi navheader navfooter topnav subnav navlinks menu submenu menubar "
    "breadcrumb breadcrumbs sidebar sidenav sphinxsidebar cookie cookies gdpr ccpa share sharing "
    "sharebar social addthis newsletter subscribe subscription advert adverts advertisement "
    "advertising adsense adsbygoogle ad ads sponsor sponsored sponsors promo promotion popup "
    "pagination pager paginator footer colophon masthead related recommended recommendations "
    "outbrain taboola comments disqus toolbar toc catlinks printfooter noprint editsection "
    "skiplink login signup copyright"
)
"""Words of class names and ids, alone or two joined, that name parts of a site."""
_WHOLE_NAMES = words("header banner siteheader mainheader topbar siteinfo modal consent")
"""The same, if they are the whole name: `card-header` is the page's own."""
_WORD = re.compile(r"[A-Z]?[a-z]+|[A-Z]+|[0-9]+")

_COOKIES = re.compile(r"\bcookies?\b", re.IGNORECASE)
_CONSENT = re.compile(
    r"\b(accept|agree|consent|reject|decline|got it|preferences|settings|privacy)\b",
    re.IGNORECASE,
)
_RIGHTS = re.compile(r"^\W*(©|\(c\)\s|copyright\b)|\ball rights reserved\b", re.IGNORECASE)
_BUTTONS = frozenset(
    """next|previous|prev|home|up|back|top|menu|search|share|tweet|print|login|log in|sign in
    |sign up|register|subscribe|more|read more|continue reading|learn more|show more|see more
    |view more|load more|back to top|skip to content|skip to main content|click here|reply
    |permalink|edit|contents|index""".replace("\n    ", "").split("|")
)
"""What links say that lead about a site, in English; long lists of others are found by density."""

_AROUND = " «»<>←→‹›[]|.…:"

SHORT = 300
"""Most characters of a block that may be a mere phrase, and most pieces: without that, blocks of
nothing within each other would be read again for each of those around them."""
_DENSE = 0.6
_FEW_LINKS = 3
_LONG_LINK = 100


def is_site_part(tag: str, attributes: Attributes, sections: int) -> bool:
    """Whether an element's kind or role says that it belongs to the site.

    A header is the page's own within a section (HTML-AAM: it is no banner there); a footer of a
    section holds dates, labels and links to share.

    Args:
      tag: its name.
      attributes: its attributes.
      sections: how many sections it stands in.
    """
    if tag in _SITE_PARTS or tag == "footer" or (tag == "header" and not sections):
        return True
    return (attributes.get("role") or "").strip().lower() in _SITE_ROLES


def is_section(tag: str) -> bool:
    """Whether headers in an element are its own, not the site's."""
    return tag in _SECTIONS


def is_named_so(tag: str, attributes: Attributes) -> bool:
    """Whether the class or id of a block names a part of a site.

    Writers of manuals make a section's id of its heading: `edit-menu` is about a menu.
    """
    if tag not in _NAMED:
        return False
    classes = (attributes.get("class") or "").split()
    ids = (attributes.get("id") or "").split()
    of_heading = tag == "section" or "section" in classes
    return any(_names_part(name) for name in classes) or any(
        _names_part(name, whole=of_heading) for name in ids
    )


def is_link_list(characters: int, linked: int, links: int) -> bool:
    """Whether a block is a list of links.

    Args:
      characters: of its text, spaces left out.
      linked: of those, the ones in links.
      links: how many links there are.
    """
    if links < _FEW_LINKS or characters == 0:
        return False
    return linked > _DENSE * characters and linked < _LONG_LINK * links


def is_phrase_of_sites(lines: Sequence[str], links: int, buttons: int) -> bool:
    """Whether a short block is about the site: rights, cookies, links that say `next`.

    Args:
      lines: of its text.
      links: how many links it holds.
      buttons: how many controls it holds.
    """
    text = " ".join(lines)
    if _RIGHTS.search(text):
        return True
    if not links and not buttons:
        return False
    if lines and all(line.strip(_AROUND).lower() in _BUTTONS for line in lines):
        return True
    return bool(_COOKIES.search(text)) and (buttons > 0 or bool(_CONSENT.search(text)))


def _names_part(name: str, whole: bool = False) -> bool:
    """Whether a name, or a word of it if it need not be the whole, is that of a part of a site."""
    parts = [part.lower() for part in _WORD.findall(name)]
    joined = "".join(parts)
    if whole or joined in _WHOLE_NAMES:
        return joined in _NAMES or joined in _WHOLE_NAMES
    pairs = [first + second for first, second in itertools.pairwise(parts)]
    return not _NAMES.isdisjoint(parts + pairs)
