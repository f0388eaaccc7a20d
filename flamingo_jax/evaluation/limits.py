"""Whether an evaluation's prompts fit its packed sequences, told before any model is run."""

from collections.abc import Sequence

import numpy as np

from flamingo_jax.data.drawings import Drawing
from flamingo_jax.data.tasks import Pool
from flamingo_jax.data.tokenizer import Tokenizer
from flamingo_jax.errors import UserError
from flamingo_jax.evaluation.ceilings import named_requests
from flamingo_jax.evaluation.episodes import BINDING, draw_cases, make_requests
from flamingo_jax.evaluation.run import EvaluationConfig
from flamingo_jax.evaluation.tree import PromptTree, Request

_FIELDS = {"tokens": "nodes", "media": "slots", "logits": "at", "targets": "targets"}
"""What each limit bounds in a tree."""


def check_limits(
    config: EvaluationConfig, drawings: Sequence[Drawing], tokenizer: Tokenizer, split: str
) -> None:
    """Puts each prompt of the most shots into a tree of its own.

    Args:
      config: what will be asked.
      drawings: of all splits.
      tokenizer: of the model.
      split: whose drawings will be shown.

    Raises:
      UserError: a prompt does not fit; the message names the field to raise.
    """
    pool, most = Pool(drawings, split), max(config.shots)
    keys: dict[bytes, int] = {}

    def key(medium: np.ndarray) -> int:
        return keys.setdefault(medium.tobytes(), len(keys) + 1)

    for family in config.families:
        for case in draw_cases(family, pool, most, config.queries, config.episodes, config.seed):
            _check(config, family, most, make_requests(case, most, tokenizer, key), tokenizer)
            if family in BINDING and config.ceiling_shots in config.shots:
                named = named_requests(case, config.ceiling_shots, tokenizer)
                _check(config, family, config.ceiling_shots, named, tokenizer)


def _check(
    config: EvaluationConfig,
    family: str,
    shots: int,
    requests: Sequence[Request],
    tokenizer: Tokenizer,
) -> None:
    for request in requests:
        tree = PromptTree(tokenizer.eoc_id)
        tree.add(request)
        for field, part in _FIELDS.items():
            needed, room = len(getattr(tree, part)), getattr(config, field)
            if needed > room:
                raise UserError(
                    f"evaluation.{field} is {room}, but a prompt of {family} with {shots} shots "
                    f"needs {needed}: raise it, or take fewer evaluation.shots."
                )
