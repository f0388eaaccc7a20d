"""Text to token ids and back, through a `tokenizers` file that knows Flamingo's two markers."""

from pathlib import Path

import tokenizers

from flamingo_jax.errors import UserError

IMAGE = "<image>"
END_OF_CHUNK = "<|endofchunk|>"


class Tokenizer:
    """A byte-level tokenizer whose vocabulary holds `<image>` and `<|endofchunk|>`.

    Attributes:
      image_id: id of `<image>`, which stands where a medium is shown.
      eoc_id: id of `<|endofchunk|>`, which ends the text of a medium.
      bos_id: id that every sequence starts with.
      pad_id: id that fills the end of a sequence; never scored.
      vocab_size: number of ids.
    """

    def __init__(self, tokenizer: tokenizers.Tokenizer) -> None:
        self._tokenizer = tokenizer
        self.vocab_size = tokenizer.get_vocab_size()
        self.image_id = self._id(IMAGE)
        self.eoc_id = self._id(END_OF_CHUNK)
        self.bos_id = self.pad_id = self._id("<|endoftext|>")

    @classmethod
    def load(cls, path: Path) -> "Tokenizer":
        """Reads a `tokenizer.json`.

        Raises:
          UserError: the file is missing, damaged, or lacks one of the markers.
        """
        try:
            return cls(tokenizers.Tokenizer.from_file(str(path)))
        except UserError:
            raise
        except Exception as error:  # tokenizers raises bare Exception
            raise UserError(f"{path} cannot be read as a tokenizer: {error}") from error

    def encode(self, text: str) -> list[int]:
        """Token ids of a text, the two markers included; no id is added at either end."""
        return self._tokenizer.encode(text, add_special_tokens=False).ids

    def decode(self, ids: list[int]) -> str:
        """The text of token ids, markers left out."""
        return self._tokenizer.decode(ids, skip_special_tokens=True)

    def _id(self, token: str) -> int:
        found = self._tokenizer.token_to_id(token)
        if found is None:
            raise UserError(f"The tokenizer has no token {token!r}.")
        return found
