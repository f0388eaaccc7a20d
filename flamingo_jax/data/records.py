"""Examples made of a source's documents, in a seeded order; what cannot be used is skipped."""

import collections
import contextlib
import zlib
from collections.abc import Iterator, Mapping

import grain
import numpy as np

from flamingo_jax.data.augment import augment
from flamingo_jax.data.bad_records import BadRecord, Problem
from flamingo_jax.data.clips import read_clip
from flamingo_jax.data.datasets import DatasetConfig
from flamingo_jax.data.documents import Document, Medium
from flamingo_jax.data.figures import captioned_figures
from flamingo_jax.data.layouts import Limits, lay_out_page, lay_out_pair
from flamingo_jax.data.pictures import read_picture
from flamingo_jax.data.sequences import TokenSequence, pad
from flamingo_jax.data.sources.base import Gives, Source
from flamingo_jax.data.sources.opening import open_source
from flamingo_jax.data.staged import Staged, finish
from flamingo_jax.data.tokenizer import Tokenizer
from flamingo_jax.errors import UserError

Example = tuple[dict[str, np.ndarray], list[Problem]]
"""Arrays by field of `Batch`, without the batch axis, and what was skipped for it."""

_MAKES: Mapping[Gives, tuple[str, ...]] = {
    "pages": ("interleaved", "pairs"),
    "pairs": ("pairs", "interleaved"),
    "videos": ("video",),
}
_IN_A_ROW = 100  # records that cannot be used, before it is clear that none can


def open_records(config: DatasetConfig) -> Source:
    """The source of a data set that has a path.

    Raises:
      UserError: it cannot be opened, or makes nothing of the data set's kind.
    """
    assert config.path is not None
    try:
        source = open_source(config.path)
    except UserError as error:
        raise UserError(f"Data set {config.name}: {error}") from error
    if config.kind not in _MAKES[source.schema.gives]:
        raise UserError(
            f"Data set {config.name}: {config.path} holds {source.schema.gives} "
            f"({source.schema.format}), of which none is made of kind {config.kind!r}: set it to "
            f"{' or '.join(map(repr, _MAKES[source.schema.gives]))}."
        )
    return source


class Records:
    """Examples by number: an epoch is a seeded order of all records, each of them once.

    Where a record cannot be used the one after it, in this order, takes its place. Of every
    `held_out` records the first is in no epoch. The pairs of a page are its captioned figures, of
    which one is drawn; a page that has none is passed over.
    """

    def __init__(
        self, config: DatasetConfig, source: Source, tokenizer: Tokenizer, size: int, seed: int
    ) -> None:
        """`size`: side of the vision encoder's input, pixels."""
        self._config, self._source, self._tokenizer, self._size = config, source, tokenizer, size
        self._seed = zlib.crc32(f"{seed}:{config.name}".encode())
        self._limits = Limits(
            config.length,
            config.media,
            config.max_answer_tokens,
            config.eoc_weight,
            config.p_next,
        )
        if len(source) < config.held_out:
            raise UserError(
                f"Data set {config.name}: held_out is {config.held_out}, but {config.path} has "
                f"{len(source)} records: lower it, or set it to 0 to hold out none."
            )

    def __len__(self) -> int:
        """Records an epoch."""
        return len(self._source) - len(self._held_out())

    def __getitem__(self, number: int) -> Staged[Example]:
        """Example `number`, of this epoch or a later one, to be finished.

        Raises:
          UserError: none of many records in a row can be used.
        """
        rng = np.random.default_rng((self._seed, number))
        problems: list[Problem] = []
        for skipped in range(min(_IN_A_ROW, len(self))):
            record = self._record(number + skipped)
            where = f"{self._config.path}#{record}"
            try:
                document = self._source[record]
                where = document.source
                yield
                parts = self._parts(document)
                if not parts:
                    continue
                part = parts[0] if len(parts) == 1 else parts[rng.integers(len(parts))]
                arrays, lost = yield from self._laid_out(part, rng)
            except BadRecord as error:
                problems.append(Problem(where, error.reason, str(error)[:300]))
                continue
            return arrays, [*problems, *lost]
        if not problems:
            raise UserError(
                f"Data set {self._config.name}: no page of many in {self._config.path} has a "
                "figure with a caption to make pairs of: set its kind to interleaved."
            )
        raise UserError(
            f"Data set {self._config.name}: none of {len(problems)} records of {self._config.path} "
            f"in a row can be used ({counted(problems)}): look at them with python -m "
            f"flamingo_jax.data.show {self._config.path}."
        )

    def held_out(self, most: int) -> Iterator[tuple[int, dict[str, np.ndarray]]]:
        """The examples of the first `most` records held out: (record, arrays).

        A page's captioned figures are an example each. What cannot be used is left out.
        """
        for record in self._held_out()[:most]:
            rng = np.random.default_rng((self._seed, len(self._source), record))
            try:
                parts = self._parts(self._source[record])
            except BadRecord:
                continue
            for part in parts:
                with contextlib.suppress(BadRecord):
                    yield record, finish(self._laid_out(part, rng))[0]

    def _held_out(self) -> range:
        every = self._config.held_out
        return range(0, len(self._source), every) if every else range(0)

    def _record(self, number: int) -> int:
        """Which record is the one of that number, in the epochs' orders one after another."""
        epoch, place = divmod(number, len(self))
        seed = (self._seed + epoch) % 2**32
        kept = grain.experimental.index_shuffle(place, max_index=len(self) - 1, seed=seed, rounds=4)
        every = self._config.held_out
        return kept + kept // (every - 1) + 1 if every else kept

    def _parts(self, document: Document) -> list[Document]:
        """The documents of which examples are made: the one given, or its captioned figures."""
        if self._source.schema.gives == "pages" and self._config.kind == "pairs":
            return captioned_figures(document)
        return [document]

    def _laid_out(self, document: Document, rng: np.random.Generator) -> Staged[Example]:
        config, name = self._config, f"Data set {self._config.name}"
        sequence, lost = yield from self._sequence(document, rng)
        arrays = pad(sequence, config.length, config.media, self._tokenizer.pad_id, name)
        return arrays, lost

    def _sequence(
        self, document: Document, rng: np.random.Generator
    ) -> Staged[tuple[TokenSequence, list[Problem]]]:
        text = " ".join(item for item in document.items if isinstance(item, str))

        def decode(medium: Medium) -> np.ndarray:
            frames = self._frames(medium.content, rng)
            return augment(frames, text, self._config.flip, self._config.colour, rng)

        if self._config.kind == "interleaved":
            return (yield from lay_out_page(document, self._tokenizer, self._limits, decode, rng))
        pair = yield from lay_out_pair(document, self._tokenizer, self._limits, decode, rng)
        return pair, []

    def _frames(self, content: bytes, rng: np.random.Generator) -> np.ndarray:
        """uint8 [F, size, size, 3]; an image is shown in all frames."""
        fit, frames = self._tokenizer.text.fit, self._config.frames
        if self._config.kind == "video":
            return read_clip(content, frames, self._size, fit, rng=rng)
        image = read_picture(content, self._size, fit)
        return np.broadcast_to(image, (frames, *image.shape))


def counted(problems: list[Problem]) -> str:
    """Reasons and how often each was."""
    counts = collections.Counter(problem.reason for problem in problems)
    return ", ".join(f"{reason} {count}" for reason, count in counts.most_common())
