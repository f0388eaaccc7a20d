"""Text to token ids and back, through a `tokenizers` file, and the tokens with a meaning."""

import dataclasses
import re
from collections.abc import Sequence
from pathlib import Path

import tokenizers

from flamingo_jax.data.media import Fit
from flamingo_jax.errors import UserError

IMAGE = "<image>"
END_OF_CHUNK = "<|endofchunk|>"
MAX_TOKENS = 2048
"""Longest text that SmolLM2 was first trained on (arXiv:2502.02737, §4)."""


@dataclasses.dataclass(frozen=True)
class TextConfig:
    """The tokens that a model gives a meaning of their own, and how its prompts are made.

    Attributes:
      image_id: stands where a medium is shown.
      eoc_id: ends the text of a medium.
      pad_id: fills the end of a sequence; never scored.
      bos_id: starts every sequence; None for none.
      image_token: the text of `image_id`.
      eoc_token: the text of `eoc_id`.
      around_image: text that prompts have before and after each image, once between two of them;
        None for none.
      max_tokens: most tokens of a sequence.
      fit: how pictures are made square.
      spaced_image_id: stands where a medium is shown after a space; None where `image_id` does.
    """

    image_id: int
    eoc_id: int
    pad_id: int
    bos_id: int | None = None
    image_token: str = IMAGE
    eoc_token: str = END_OF_CHUNK
    around_image: str | None = None
    max_tokens: int = MAX_TOKENS
    fit: Fit = "pad"
    spaced_image_id: int | None = None

    @property
    def image_ids(self) -> tuple[int, ...]:
        """All ids that stand where a medium is shown."""
        spaced = self.spaced_image_id
        return (self.image_id,) if spaced is None else (self.image_id, spaced)


class Tokenizer:
    """A tokenizer whose vocabulary holds the two markers.

    Attributes:
      text: the tokens with a meaning.
      image_id: id of `<image>`, which stands where a medium is shown.
      eoc_id: id of `<|endofchunk|>`, which ends the text of a medium.
      bos_id: id that every sequence starts with; None for none.
      pad_id: id that fills the end of a sequence; never scored.
      vocab_size: number of ids.
    """

    def __init__(self, tokenizer: tokenizers.Tokenizer, text: TextConfig | None = None) -> None:
        """`text` None: the markers by their names, `<|endoftext|>` at the start and as padding."""
        self._tokenizer = tokenizer
        self.vocab_size = tokenizer.get_vocab_size()
        if text is None:
            names = (IMAGE, END_OF_CHUNK, "<|endoftext|>")
            image, end, start = (self._id(name) for name in names)
            text = TextConfig(image, end, start, start)
        self.text = text
        self.image_id, self.eoc_id = text.image_id, text.eoc_id
        self.bos_id, self.pad_id = text.bos_id, text.pad_id
        added = [token.content for token in tokenizer.get_added_tokens_decoder().values()]
        self._added = re.compile("|".join(map(re.escape, sorted(added, key=len, reverse=True))))

    @classmethod
    def load(cls, path: Path, text: TextConfig | None = None) -> "Tokenizer":
        """Reads a `tokenizer.json`.

        Raises:
          UserError: the file is missing, damaged, or lacks one of the markers.
        """
        try:
            return cls(tokenizers.Tokenizer.from_file(str(path)), text)
        except UserError:
            raise
        except Exception as error:  # tokenizers raises bare Exception
            raise UserError(f"{path} cannot be read as a tokenizer: {error}") from error

    def start(self) -> list[int]:
        """The ids that every sequence starts with."""
        return [] if self.bos_id is None else [self.bos_id]

    def encode(self, text: str) -> list[int]:
        """Token ids of a text, the two markers included; no id is added at either end."""
        return self._tokenizer.encode(text, add_special_tokens=False).ids

    def plain(self, text: str) -> str:
        """A text that others wrote: what would be a marker in it becomes a space."""
        return self._added.sub(" ", text) if self._added.pattern else text

    def decode(self, ids: list[int]) -> str:
        """The text of token ids, markers left out."""
        return self._tokenizer.decode(ids, skip_special_tokens=True)

    def show(self, ids: Sequence[int]) -> str:
        """The text of token ids, markers and all."""
        return self._tokenizer.decode(list(ids), skip_special_tokens=False)

    def _id(self, token: str) -> int:
        found = self._tokenizer.token_to_id(token)
        if found is None:
            raise UserError(f"The tokenizer has no token {token!r}.")
        return found
