"""What every reader of a published checkpoint gives: a model's config, lazy variables and text.

Readers read no tensor: the leaves of their trees are lazy, so that a model of any size passes
through memory tensor by tensor.
"""

import dataclasses
from typing import Any

from flamingo_jax.data.tokenizer import TextConfig
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
