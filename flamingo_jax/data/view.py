"""A page that shows documents as the training sees them: tokens, φ and the loss mask."""

import base64
import dataclasses
import io
from collections.abc import Sequence

import jinja2
import numpy as np
from PIL import Image

from flamingo_jax.data.bad_records import Problem
from flamingo_jax.data.clips import read_clip
from flamingo_jax.data.documents import Document, Medium
from flamingo_jax.data.layouts import Limits, lay_out_page, lay_out_pair
from flamingo_jax.data.pictures import read_picture
from flamingo_jax.data.sequences import next_media
from flamingo_jax.data.sources.base import Gives
from flamingo_jax.data.staged import finish
from flamingo_jax.data.tokenizer import Tokenizer

PAGE = Limits(length=256, media=5, scored=256, eoc_weight=1.0, p_next=0.5)
"""A window of 256 tokens and 5 images, as for M3W (arXiv:2204.14198, §2.4)."""
PAIR = Limits(length=64, media=1, scored=64, eoc_weight=1.0, p_next=0.0)

_SIDE = 128  # pixels of an image on the page


@dataclasses.dataclass(frozen=True)
class Token:
    """A token of a sequence.

    Attributes:
      text: what it stands for.
      medium: number of the medium it may look at, 0 for none.
      weight: of the loss on it.
      marker: whether it is none of the text.
    """

    text: str
    medium: int
    weight: float
    marker: bool


@dataclasses.dataclass(frozen=True)
class Card:
    """A document's sequence.

    Attributes:
      source: of the document.
      tokens: in order.
      media: data addresses of the frames of each medium.
      sees_next: whether text looks at the medium after it, not before it.
      total: media of the whole document.
    """

    source: str
    tokens: tuple[Token, ...]
    media: tuple[tuple[str, ...], ...]
    sees_next: bool
    total: int


def make_card(document: Document, gives: Gives, tokenizer: Tokenizer, number: int) -> Card:
    """A document's sequence as training would draw it; `number` seeds what is drawn.

    Raises:
      BadRecord: no sequence can be made of it.
    """
    rng, fit = np.random.default_rng(number), tokenizer.text.fit

    def decode(medium: Medium) -> np.ndarray:
        if gives == "videos":
            return read_clip(medium.content, 8, _SIDE, fit, rng=rng)
        return read_picture(medium.content, _SIDE, fit)[None]

    if gives == "pages":
        sequence, _ = finish(lay_out_page(document, tokenizer, PAGE, decode, rng))
    else:
        sequence = finish(lay_out_pair(document, tokenizer, PAIR, decode, rng))
    ids = sequence.tokens
    names = {tokenizer.image_id: tokenizer.text.image_token}
    names |= {tokenizer.eoc_id: tokenizer.text.eoc_token}
    names |= dict.fromkeys(tokenizer.start(), "start")
    tokens = [
        Token(names.get(token) or tokenizer.decode([token]), medium, weight, token in names)
        for token, medium, weight in zip(ids, sequence.media_index, sequence.loss_mask, strict=True)
    ]
    return Card(
        document.source,
        tuple(tokens),
        tuple(tuple(map(_address, frames)) for frames in sequence.media),
        sequence.media_index == next_media(ids, tokenizer.image_id),
        sum(isinstance(item, Medium) for item in document.items),
    )


def render(title: str, cards: Sequence[Card], problems: Sequence[Problem]) -> str:
    """The page's HTML, which needs nothing beside it; every text is escaped."""
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("flamingo_jax.data", "."),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
    )
    page = environment.get_template("view.html")
    return page.render(title=title, cards=cards, problems=problems)


def _address(frame_HxWx3: np.ndarray) -> str:
    """A frame in the page itself; it is encoded anew, so that no foreign file gets into it."""
    buffer = io.BytesIO()
    Image.fromarray(frame_HxWx3).save(buffer, "JPEG", quality=85)
    return f"data:image/jpeg;base64,{base64.b64encode(buffer.getvalue()).decode()}"
