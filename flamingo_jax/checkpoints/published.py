"""What every reader of a published checkpoint gives: a model's config, lazy variables and text.

Readers read no tensor: the leaves of their trees are lazy, so that a model of any size passes
through memory tensor by tensor.
"""

import dataclasses
from typing import Any

from flamingo_jax.data.tokenizer import TextConfig
from flamingo_jax.errors import UserError
from flamingo_jax.models.flamingo import FlamingoConfig


@dataclasses.dataclass(frozen=True)
class Published:
    """A published model.

    Attributes:
      family: `openflamingo`, `idefics` or `flamingo_mini`.
      config: of the model.
      variables: its collections `params` and `frozen`, with lazy leaves.
      text: its tokens and prompts.
      tokenizer: the text of a `tokenizers` file; None where the source has none.
    """

    family: str
    config: FlamingoConfig
    variables: dict[str, Any]
    text: TextConfig
    tokenizer: str | None


def with_ids(
    published: Published, media_token_id: int | None, eoc_token_id: int | None
) -> Published:
    """The model with the ids that a user gave in place of those that its source has.

    Args:
      published: the model.
      media_token_id: stands where a medium is shown; None leaves it.
      eoc_token_id: ends the text of a medium; None leaves it.

    Raises:
      UserError: the model has no such token.
    """
    size = published.config.decoder.vocab_size
    given = {"image_id": media_token_id, "eoc_id": eoc_token_id}
    asked = {name: token for name, token in given.items() if token is not None}
    for token in asked.values():
        if not 0 <= token < size:
            raise UserError(f"The model has {size} tokens, but none with the id {token}.")
    text = dataclasses.replace(published.text, **asked)
    if media_token_id is not None:
        text = dataclasses.replace(text, spaced_image_id=None)
    return dataclasses.replace(published, text=text)
