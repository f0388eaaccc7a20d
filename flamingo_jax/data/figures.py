"""The figures of a page with their captions: pairs of an image and a text."""

import re

from flamingo_jax.data.documents import Document, Medium

_CAPTION = re.compile(r"(?:Figure|Fig\.?)\s*\d[\w.\u2013-]*?[.:]?\s+(\S.*)", re.DOTALL)
_PARAGRAPHS = re.compile(r"\n\s*\n")


def captioned_figures(page: Document) -> list[Document]:
    """A pair for each image of a page whose caption stands next to it.

    A caption is a paragraph that begins with `Figure` or `Fig.` and a number, which is left out. It
    stands right before the image or right after it, whichever is more usual on the page.
    """
    texts = [item if isinstance(item, str) else None for item in page.items]
    before = [_caption(text, -1) for text in [None, *texts[:-1]]]
    after = [_caption(text, 0) for text in [*texts[1:], None]]
    images = [i for i, item in enumerate(page.items) if isinstance(item, Medium)]
    side = max((before, after), key=lambda captions: sum(captions[i] is not None for i in images))
    return [
        Document(page.source, (page.items[i], caption))
        for i in images
        if (caption := side[i]) is not None
    ]


def _caption(text: str | None, paragraph: int) -> str | None:
    """What a text's first or last paragraph says as a caption, if it is one."""
    if text is None:
        return None
    found = _CAPTION.fullmatch(_PARAGRAPHS.split(text.strip())[paragraph].strip())
    return found and found[1]
