"""What every reader of a published checkpoint gives: a model's config, lazy variables and text.

Readers read no tensor: the leaves of their trees are lazy, so that a model of any size passes
through memory tensor by tensor.
"""

import dataclasses
from typing import Any, Literal

from flamingo_jax.models.flamingo import FlamingoConfig

Fit = Literal["pad", "crop", "stretch"]
"""How a picture becomes a square: white borders, the centre of it, or its sides stretched."""


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
    """

    image_id: int
    eoc_id: int
    pad_id: int
    bos_id: int | None = None
    image_token: str = "<image>"
    eoc_token: str = "<|endofchunk|>"
    around_image: str | None = None
    max_tokens: int = 2048
    fit: Fit = "pad"


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
