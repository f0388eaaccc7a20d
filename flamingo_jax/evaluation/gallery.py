"""Examples for the report: whole prompts with the model's answers, and where it looked."""

import base64
import io
from collections.abc import Sequence
from typing import Any

import numpy as np
from PIL import Image

from flamingo_jax.data.sequences import PROMPT
from flamingo_jax.data.tasks import Pool, Turn
from flamingo_jax.data.tokenizer import END_OF_CHUNK, IMAGE
from flamingo_jax.evaluation import plots
from flamingo_jax.evaluation.episodes import Case, draw_cases
from flamingo_jax.evaluation.scoring import Scored
from flamingo_jax.inference.handle import Flamingo

_EACH = 2  # right and wrong examples of a family
_MAPPED = ("category", "name", "colour", "instance_binding")
_MAP_SHOTS = 2


def gallery_examples(
    cases: Sequence[Case], scored: Sequence[Sequence[Scored]], shots: int
) -> list[dict[str, Any]]:
    """The first right and the first wrong answers, of different episodes, as plain JSON."""
    left = {True: _EACH, False: _EACH}
    examples = []
    for case, answers in zip(cases, scored, strict=True):
        query, answer = case.queries[0], answers[0]
        correct = case.candidates[answer.choice] == query.answer
        if left[correct]:
            left[correct] -= 1
            examples.append(_example(case, shots, query, answer, correct))
    return sorted(examples, key=lambda example: not example["correct"])


def _example(case: Case, shots: int, query: Turn, answer: Scored, correct: bool) -> dict[str, Any]:
    turns = [*case.supports[:shots], query]
    return {
        "benchmark": case.family,
        "shots": shots,
        "correct": correct,
        "exact": answer.exact,
        "turns": [
            {"images": [png_uri(medium[0]) for medium in turn.media], "answer": turn.answer}
            for turn in turns
        ],
        "candidates": [
            {
                "text": text,
                "log_prob": log_prob,
                "gold": text == query.answer,
                "chosen": i == answer.choice,
            }
            for i, (text, log_prob) in enumerate(
                zip(case.candidates, answer.log_probs, strict=True)
            )
        ],
    }


def attention_examples(
    handle: Flamingo, pool: Pool, families: Sequence[str], seed: int
) -> list[dict[str, Any]]:
    """Heat maps over one query image of some families, from the token before the answer."""
    examples = []
    for family in (name for name in _MAPPED if name in families):
        case = draw_cases(family, pool, _MAP_SHOTS, 1, 1, seed)[0]
        query = case.queries[0]
        turns = (*case.supports, query)
        answered = "".join(f"{IMAGE}{PROMPT} {t.answer}{END_OF_CHUNK}" for t in case.supports)
        found = handle.attention(
            f"{answered}{IMAGE}{PROMPT}", [medium for turn in turns for medium in turn.media]
        )
        image = query.media[0][0]
        maps_LxP = found.weights_LxTxNxFxP[:, -1, -1, 0]
        side = int(np.sqrt(maps_LxP.shape[-1]))
        maps = [
            {"layer": layer, "uri": plots.heat_map(image, weights.reshape(side, side))}
            for layer, weights in zip(found.layers, maps_LxP, strict=True)
        ]
        title = f"{family.replace('_', ' ')}: {query.answer}"
        examples.append({"title": title, "image": png_uri(image), "maps": maps})
    return examples


def png_uri(image_HxWx3: np.ndarray) -> str:
    """A uint8 image as a PNG `data:` URI."""
    file = io.BytesIO()
    Image.fromarray(image_HxWx3).save(file, format="png", optimize=True)
    return "data:image/png;base64," + base64.b64encode(file.getvalue()).decode()
