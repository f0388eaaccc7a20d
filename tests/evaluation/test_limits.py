"""Prompts that do not fit are told before any model is run, and only those."""

import dataclasses
from typing import Any

import pytest

from flamingo_jax.data.tasks import Pool
from flamingo_jax.errors import UserError
from flamingo_jax.evaluation.episodes import draw_cases, make_requests
from flamingo_jax.evaluation.limits import check_limits
from flamingo_jax.evaluation.run import EvaluationConfig
from flamingo_jax.evaluation.tree import Limits, pack
from tests.evaluation.test_run import drawings
from tests.evaluation.tiny import END, tiny_tokenizer

CONFIG = EvaluationConfig((0, 4), ("category",), 3, 2, ceiling_shots=4)


@pytest.mark.parametrize("field", ["tokens", "media", "logits", "targets"])
def test_the_bound_is_the_one_of_packing(field: str) -> None:
    """One less than what is needed is refused by name; what is needed passes, and packs."""
    needed = max_needed(field)
    message = rf"evaluation\.{field} is {needed - 1}, .* category with 4 shots needs {needed}:"
    with pytest.raises(UserError, match=message):
        check(**{field: needed - 1})
    check(**{field: needed})


def check(split: str = "test", **fields: Any) -> None:
    check_limits(dataclasses.replace(CONFIG, **fields), drawings(), tiny_tokenizer(), split)


def max_needed(field: str) -> int:
    """By trying: the smallest limit with which every prompt packs alone."""
    tokenizer, keys = tiny_tokenizer(), {}
    requests = [
        request
        for case in draw_cases("category", Pool(drawings(), "test"), 4, 2, 3, CONFIG.seed)
        for request in make_requests(
            case, 4, tokenizer, lambda medium: keys.setdefault(medium.tobytes(), len(keys) + 1)
        )
    ]

    def fits(limit: int) -> bool:
        limits = dataclasses.replace(Limits(999, 999, 999, 999), **{field: limit})
        try:
            for request in requests:
                pack([request], limits, END)
        except UserError:
            return False
        return True

    return next(limit for limit in range(1, 999) if fits(limit))


def test_names_as_text_must_fit_too() -> None:
    """They are longer than an image's one token."""
    binding, without = ("category_binding",), 8  # 8 is not among the shots

    def fits(tokens: int) -> bool:
        try:
            check(families=binding, tokens=tokens, ceiling_shots=without)
        except UserError:
            return False
        return True

    enough = next(tokens for tokens in range(1, 200) if fits(tokens))
    with pytest.raises(UserError, match=rf"tokens is {enough}, .* with 4 shots needs"):
        check(families=binding, tokens=enough)


def test_a_split_without_drawings() -> None:
    with pytest.raises(UserError, match="No drawings of the split 'validation'"):
        check("validation")
