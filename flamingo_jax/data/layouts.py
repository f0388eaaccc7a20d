"""Documents to token sequences, laid out as Flamingo lays out web pages, pairs and videos.

arXiv:2204.14198, §2.4 and appendix A.3: `<image>` stands where a medium stood, the end of a chunk
is marked before each medium of a page and at the end of all, and the loss is on text alone.

A layout stops once, before it decodes media: see `flamingo_jax.data.staged`.
"""

import dataclasses
from collections.abc import Callable

import numpy as np

from flamingo_jax.data.bad_records import BadRecord, Problem
from flamingo_jax.data.documents import Document, Medium, check
from flamingo_jax.data.sequences import TokenSequence, last_media, next_media
from flamingo_jax.data.staged import Staged
from flamingo_jax.data.tokenizer import Tokenizer

Decode = Callable[[Medium], np.ndarray]
"""A medium as uint8 [F, H, W, 3], or BadRecord."""

_BETWEEN = "\n\n"  # two texts of a page with no medium between them


@dataclasses.dataclass(frozen=True)
class Limits:
    """What a sequence may hold.

    Attributes:
      length: tokens.
      media: media.
      scored: scored tokens.
      eoc_weight: weight of the loss on the end of a chunk; text has 1, all else 0.
      p_next: share of sequences whose text sees the medium that comes next, not the last one.
    """

    length: int
    media: int
    scored: int
    eoc_weight: float
    p_next: float


def lay_out_page(
    document: Document,
    tokenizer: Tokenizer,
    limits: Limits,
    decode: Decode,
    rng: np.random.Generator,
) -> Staged[tuple[TokenSequence, list[Problem]]]:
    """A random window of a page, with the first few of its media.

    Of a page longer than that, the window is drawn among those with a medium in them. Media that
    cannot be decoded are left out, and told of.

    Raises:
      BadRecord: the page has no text or no medium that can be used.
    """
    check(document)
    tokens, media = _page(document, tokenizer)
    start = tokenizer.start()
    most = min(limits.length - len(start), limits.scored)
    first, last = _window(tokens == tokenizer.image_id, most, rng)
    text_sees_next = bool(rng.random() < limits.p_next)
    before = int((tokens[:first] == tokenizer.image_id).sum())
    tokens = tokens[first:last]
    places = np.flatnonzero(tokens == tokenizer.image_id).tolist()
    shown: list[np.ndarray] = []
    problems: list[Problem] = []
    dropped: list[int] = []
    yield
    for number, place in enumerate(places):
        medium = media[before + number]
        if len(shown) == limits.media:
            dropped.append(place)
            continue
        try:
            shown.append(decode(medium))
        except BadRecord as error:
            dropped.append(place)
            share = 1 / len(media)
            problems.append(Problem(document.source, error.reason, str(error), medium.name, share))
    if not shown:
        raise BadRecord(problems[0].reason, problems[0].message)
    kept = np.ones(len(tokens), bool)
    for place in dropped:  # with the end of the chunk before it, if that is in the window
        kept[max(place - 1, 0) : place + 1] = False
    ids = [*start, *tokens[kept].tolist()]
    sequence = _sequence(ids, tokenizer, limits, text_sees_next)
    count = sequence.tokens.count(tokenizer.image_id)
    return dataclasses.replace(sequence, media=shown[:count]), problems


def lay_out_pair(
    document: Document,
    tokenizer: Tokenizer,
    limits: Limits,
    decode: Decode,
    rng: np.random.Generator,
) -> Staged[TokenSequence]:
    """`<image>` caption `<|endofchunk|>`; a caption that is too long loses its end.

    With probability p_next the caption comes first and sees what follows it. A space is put before
    the text half of the time, since prompts have both (version 1 of the paper, appendix A.3).

    Raises:
      BadRecord: there is not one medium with a text, or it cannot be decoded.
    """
    check(document)
    media = [item for item in document.items if isinstance(item, Medium)]
    if len(media) != 1:
        raise BadRecord("damaged_record", f"{len(media)} media where a pair has one")
    texts = [tokenizer.plain(item).strip() for item in document.items if isinstance(item, str)]
    space, text = " " if rng.random() < 0.5 else "", " ".join(texts).strip()
    caption = tokenizer.encode(space + text) if text else []
    image, start = [tokenizer.image_id], tokenizer.start()
    text_first = bool(rng.random() < limits.p_next)
    if text_first:
        room = min(limits.length - len(start) - 2, limits.scored - 1)
        ids = [*start, *caption[: max(room, 1)], *image, tokenizer.eoc_id]
    else:
        ids = [*start, *image, *caption, tokenizer.eoc_id]
    sequence = _sequence(ids, tokenizer, limits, text_first)
    yield
    return dataclasses.replace(sequence, media=[decode(media[0])])


def _page(document: Document, tokenizer: Tokenizer) -> tuple[np.ndarray, list[Medium]]:
    """(token ids int64 [L] of a whole page, its media)."""
    tokens: list[int] = []
    media: list[Medium] = []
    after_text = False
    for item in document.items:
        if isinstance(item, Medium):
            tokens += [tokenizer.eoc_id, tokenizer.image_id]
            media.append(item)
        elif text := tokenizer.plain(item).strip():
            tokens += tokenizer.encode(_BETWEEN + text if after_text else text)
        else:
            continue
        after_text = isinstance(item, str)
    return np.array([*tokens, tokenizer.eoc_id]), media


def _window(is_image_L: np.ndarray, length: int, rng: np.random.Generator) -> tuple[int, int]:
    """First and last place of `length` tokens, drawn among the windows that show a medium.

    A medium at a window's last place does not count: there would be no text to see it.
    """
    total = len(is_image_L)
    if total <= length:
        return 0, total
    shown = np.concatenate([[0], np.cumsum(is_image_L)])
    starts = np.arange(total - length + 1)
    good = starts[shown[starts + length - 1] > shown[starts]]
    if not len(good):
        raise BadRecord("empty", "no text has an image before it")
    first = int(rng.choice(good))
    return first, first + length


def _sequence(
    ids: list[int], tokenizer: Tokenizer, limits: Limits, text_sees_next: bool
) -> TokenSequence:
    """The sequence, still without media, with its loss mask and φ; its end is cut at the limits."""
    weight = {tokenizer.image_id: 0.0, tokenizer.eoc_id: limits.eoc_weight}
    unscored = len(tokenizer.start())
    mask = [0.0 if t < unscored else weight.get(token, 1.0) for t, token in enumerate(ids)]
    end = limits.length
    if len(ids) > limits.scored:
        scored = np.cumsum(np.array(mask) > 0)
        end = min(end, int(np.searchsorted(scored, limits.scored, side="right")))
    ids, mask = ids[:end], mask[:end]
    if not any(token not in weight for token in ids[unscored:]):
        raise BadRecord("empty", "there is no text to learn from")
    phi = next_media if text_sees_next else last_media
    if tokenizer.image_id not in ids:
        raise BadRecord("empty", "its text leaves no room for its image")
    return TokenSequence(ids, mask, phi(ids, tokenizer.image_id), [])
