"""The tokenizer in a Hugging Face folder, and what it starts and pads sequences with."""

import dataclasses
from pathlib import Path
from typing import Any

from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers

from flamingo_jax.checkpoints.options import Options
from flamingo_jax.data.tokenizer import TextConfig
from flamingo_jax.errors import UserError

FILES = "tokenizer.json, or vocab.json and merges.txt"
"""Names of what is looked for, for messages."""


@dataclasses.dataclass(frozen=True)
class Found:
    """A published tokenizer.

    Attributes:
      tokenizer: with neither truncation nor padding.
      bos_id: token that it starts every sequence with; None for none.
      pad_id: its padding; None for none.
    """

    tokenizer: Tokenizer
    bos_id: int | None
    pad_id: int | None


def read_tokenizer(folder: Path) -> Found | None:
    """The tokenizer in a folder; None if there is none of `FILES`.

    Raises:
      UserError: a file is damaged.
    """
    options = _read_options(folder)
    if (path := folder / "tokenizer.json").is_file():
        tokenizer = _read(path, lambda: Tokenizer.from_file(str(path)))
    elif (path := folder / "vocab.json").is_file() and (folder / "merges.txt").is_file():
        tokenizer = _read(path, lambda: _byte_level(folder, options))
    else:
        return None
    tokenizer.no_truncation()
    tokenizer.no_padding()
    return Found(tokenizer, _start(tokenizer, options), _id(tokenizer, options, "pad_token"))


def missing(folder: Path) -> str:
    """Why a folder has no tokenizer that is read, as the beginning of a sentence."""
    if (folder / "tokenizer.model").is_file():
        return (
            f"{folder} holds its tokenizer as tokenizer.model only, which is not read (save it as "
            "tokenizer.json with transformers first)"
        )
    return f"{folder} holds no tokenizer ({FILES})"


def check_ids(text: TextConfig, rows: int, doubt: str) -> None:
    """Makes sure that a model has the tokens that show media and end their texts.

    Args:
      text: the tokens with a meaning.
      rows: how many tokens the model has.
      doubt: what to ask where they do not belong together, without its question mark.

    Raises:
      UserError: the model has no token of an id.
    """
    media = [("media_token_id", number) for number in text.image_ids]
    for flag, number in (*media, ("eoc_token_id", text.eoc_id)):
        if not 0 <= number < rows:
            raise UserError(
                f"The model has {rows} tokens and none with the id {number} (--{flag}): {doubt}?"
            )


def add_token(tokenizer: Tokenizer, text: str) -> int:
    """Makes a text one token that is never split, new if it was none, and gives its id."""
    tokenizer.add_special_tokens([AddedToken(text, special=True, normalized=False)])
    number = tokenizer.token_to_id(text)
    assert number is not None
    return number


def _read_options(folder: Path) -> Options:
    """What the two files about special tokens say."""
    path = folder / "tokenizer_config.json"
    values: dict[str, Any] = {}
    for file in (folder / "special_tokens_map.json", path):
        if file.is_file():
            values |= {k: v for k, v in Options.read(file).values.items() if v is not None}
    return Options(values, path)


def _read(path: Path, read: Any) -> Tokenizer:
    try:
        return read()
    except UserError:
        raise
    except Exception as error:  # tokenizers raises bare Exception
        raise UserError(f"{path} cannot be read as a tokenizer: {error}") from error


def _byte_level(folder: Path, options: Options) -> Tokenizer:
    """GPT-2's tokenizer (byte-level BPE), with the tokens that were added to it later."""
    files = (str(folder / "vocab.json"), str(folder / "merges.txt"))
    tokenizer = Tokenizer(models.BPE.from_file(*files))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    for name in ("bos_token", "eos_token", "unk_token", "pad_token"):
        text = _text(options, name)
        if text is not None and tokenizer.token_to_id(text) is not None:
            add_token(tokenizer, text)
    path = folder / "added_tokens.json"
    added = {} if not path.is_file() else Options.read(path).values
    for text, number in sorted(added.items(), key=lambda item: item[1]):
        if add_token(tokenizer, text) != number:
            raise UserError(f"{path} gives {text!r} the id {number}, which does not follow.")
    return tokenizer


def _text(options: Options, name: str) -> str | None:
    """A special token's text, which may be wrapped."""
    value = options.values.get(name)
    text = value.get("content") if isinstance(value, dict) else value
    if text is not None and not isinstance(text, str):
        raise options.wrong(name, value, "a token's text")
    return text


def _id(tokenizer: Tokenizer, options: Options, name: str) -> int | None:
    text = _text(options, name)
    return None if text is None else tokenizer.token_to_id(text)


def _start(tokenizer: Tokenizer, options: Options) -> int | None:
    """What the options say, else what the tokenizer itself puts before a text."""
    if "add_bos_token" in options.values:
        asked = options.flag("add_bos_token", False)
        return _id(tokenizer, options, "bos_token") if asked else None
    plain = tokenizer.encode("a", add_special_tokens=False).ids
    whole = tokenizer.encode("a").ids
    return whole[0] if whole[:1] != plain[:1] else None
