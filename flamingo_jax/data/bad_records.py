"""Records that cannot be used: why, in a word and in a sentence."""

import dataclasses
from typing import Literal, get_args

from flamingo_jax.errors import UserError

Reason = Literal[
    "missing_media",
    "huge_media",
    "corrupt_image",
    "huge_image",
    "animated_image",
    "cmyk_image",
    "deep_image",
    "aspect_ratio",
    "corrupt_video",
    "half_video",
    "damaged_record",
    "truncated_file",
    "charset",
    "empty",
    "long_text",
]
REASONS: tuple[Reason, ...] = get_args(Reason)
"""All words for what is wrong; metrics count by them. `deep_image`: more than 8 bits a channel."""

MOST_BYTES = 256 * 2**20
"""A record or a file of a record that is larger is skipped before it is read."""
MOST_CHARACTERS = 500_000
"""A document of more text is skipped; a page of M3W has 4,000 (arXiv:2204.14198, §2.4)."""


class BadRecord(UserError):
    """One record, or one medium of a page, that cannot be used; others can.

    Attributes:
      reason: in a word.
    """

    def __init__(self, reason: Reason, message: str) -> None:
        super().__init__(message)
        self.reason: Reason = reason

    def __reduce__(self) -> tuple[type, tuple[Reason, str]]:
        return type(self), (self.reason, str(self))  # worker processes send them


@dataclasses.dataclass(frozen=True)
class Problem:
    """What was skipped.

    Attributes:
      source: address or path of the record.
      reason: in a word.
      message: in a sentence.
      medium: name of the medium if a page lost only that, else None.
      share: of the record that is lost, 1 for all of it.
    """

    source: str
    reason: Reason
    message: str
    medium: str | None = None
    share: float = 1.0
