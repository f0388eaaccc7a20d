"""OpenFlamingo's tokens with a meaning, which it adds to its language model's tokenizer.

As its `create_model_and_transforms` does: `<|endofchunk|>`, `<image>`, then `<PAD>` if there is no
padding yet, each after the last token that is there.
"""

from pathlib import Path

from tokenizers import Tokenizer

from flamingo_jax.checkpoints.languages import Language
from flamingo_jax.checkpoints.tokenizer_files import (
    Found,
    add_token,
    check_ids,
    missing,
    read_tokenizer,
)
from flamingo_jax.data.tokenizer import END_OF_CHUNK, IMAGE, TextConfig
from flamingo_jax.errors import UserError

PADDING = "<PAD>"

_IMAGE_FLAG, _EOC_FLAG = "media_token_id", "eoc_token_id"


def read_text(
    folder: Path, language: Language, image_id: int | None, eoc_id: int | None
) -> tuple[TextConfig, str | None]:
    """The tokens with a meaning, and the text of a tokenizer with them in it.

    Args:
      folder: of the language model.
      language: what was read of it.
      image_id: `--media_token_id`; None for what the tokenizer says.
      eoc_id: `--eoc_token_id`; None likewise.

    Raises:
      UserError: there is neither a tokenizer nor both ids, the two disagree, or the model has no
        token of an id.
    """
    found = read_tokenizer(folder)
    if found is not None:
        text = _marked(found, folder, language, image_id, eoc_id)
    elif image_id is None or eoc_id is None:
        raise UserError(
            f"{missing(folder)}: give --{_IMAGE_FLAG} and --{_EOC_FLAG}, the ids of {IMAGE} and "
            f"{END_OF_CHUNK}."
        )
    else:
        text = TextConfig(
            image_id=image_id,
            eoc_id=eoc_id,
            pad_id=eoc_id,
            bos_id=language.bos_id,
            max_tokens=language.max_tokens,
            fit="crop",
        )
    doubt = f"is {folder} the language model that the checkpoint was trained on"
    check_ids(text, language.config.vocab_size, doubt)
    return text, None if found is None else found.tokenizer.to_str(pretty=True)


def _marked(
    found: Found, folder: Path, language: Language, image_id: int | None, eoc_id: int | None
) -> TextConfig:
    """Adds what the tokenizer lacks."""
    tokenizer, rows = found.tokenizer, language.config.vocab_size
    order = [(_EOC_FLAG, END_OF_CHUNK, eoc_id), (_IMAGE_FLAG, IMAGE, image_id)]
    if image_id is not None and eoc_id is not None and image_id < eoc_id:
        order.reverse()
    marks = {flag: _mark(tokenizer, folder, flag, text, asked) for flag, text, asked in order}
    (image_token, image_id), (eoc_token, eoc_id) = marks[_IMAGE_FLAG], marks[_EOC_FLAG]
    pad_id = found.pad_id
    if pad_id is None:
        pad_id = add_token(tokenizer, PADDING) if tokenizer.get_vocab_size() < rows else eoc_id
    return TextConfig(
        image_id=image_id,
        eoc_id=eoc_id,
        pad_id=pad_id,
        bos_id=found.bos_id,
        image_token=image_token,
        eoc_token=eoc_token,
        max_tokens=language.max_tokens,
        fit="crop",
    )


def _mark(
    tokenizer: Tokenizer, folder: Path, flag: str, text: str, asked: int | None
) -> tuple[str, int]:
    """The text and id of a marker: the token that was asked for, or the one of this text."""
    there = None if asked is None else tokenizer.id_to_token(asked)
    text = text if there is None else there
    number = add_token(tokenizer, text)
    if asked not in (None, number):
        raise UserError(
            f"--{flag}={asked} is no token of the tokenizer in {folder}, which has {text} as "
            f"{number}: leave the flag out, or give the id of one of its tokens."
        )
    return text, number
