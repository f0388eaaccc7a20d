"""The evaluation of a model: every family at every number of shots, with its baselines."""

import dataclasses
import functools
import itertools
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from flamingo_jax.checkpoints.files import replaced
from flamingo_jax.data.drawings import Drawing
from flamingo_jax.data.tasks import Pool
from flamingo_jax.errors import UserError
from flamingo_jax.evaluation import plots
from flamingo_jax.evaluation.ceilings import named_requests, nearest_class_means
from flamingo_jax.evaluation.episodes import (
    BINDING,
    FAMILIES,
    Case,
    MediaTable,
    blanked,
    draw_cases,
    make_requests,
)
from flamingo_jax.evaluation.gallery import attention_examples, gallery_examples
from flamingo_jax.evaluation.language import Vocabulary, generate_answers
from flamingo_jax.evaluation.metrics import Row, bootstrap_interval
from flamingo_jax.evaluation.scoring import MediaLatents, Scored, Scorer
from flamingo_jax.evaluation.tree import Limits, Request
from flamingo_jax.inference.features import FeatureCache
from flamingo_jax.inference.handle import Flamingo, encode


@dataclasses.dataclass(frozen=True)
class EvaluationConfig:
    """What is asked, and how the prompts are packed.

    Attributes:
      shots: numbers of supports.
      families: of tasks.
      episodes: of each family.
      queries: of each episode; the figures have episodes × queries of them.
      seed: of the draw.
      language_shots: where the answers' language is judged, one of `shots`.
      ceiling_shots: where the language model reads names, one of `shots`.
      gallery_shots: supports of the examples shown, one of `shots`.
      batch: B, packed sequences run at once.
      tokens: T of a packed sequence.
      media: N of a packed sequence.
      logits: A, positions of a packed sequence at which logits are computed.
      targets: E, scored tokens of a packed sequence.
    """

    shots: tuple[int, ...] = (0, 1, 2, 4, 8, 16)
    families: tuple[str, ...] = FAMILIES
    episodes: int = 25
    queries: int = 8
    seed: int = 0
    language_shots: int = 8
    ceiling_shots: int = 8
    gallery_shots: int = 4
    batch: int = 2
    tokens: int = 448
    media: int = 48
    logits: int = 288
    targets: int = 768

    def __post_init__(self) -> None:
        unknown = [family for family in self.families if family not in FAMILIES]
        if unknown or not self.families:
            raise UserError(f"evaluation.families {unknown} are not among {', '.join(FAMILIES)}.")
        if not self.shots or min(self.shots) < 0:
            raise UserError(f"evaluation.shots must be numbers from 0 on, not {self.shots}.")
        if min(self.episodes, self.queries) < 1:
            raise UserError("evaluation.episodes and evaluation.queries must be at least 1.")


@dataclasses.dataclass(frozen=True)
class Evaluation:
    """Everything that an evaluation found.

    Attributes:
      rows: the figures.
      gallery: examples with their whole prompts, plain JSON with images as `data:` URIs.
      attention: heat maps, likewise.
    """

    rows: list[Row]
    gallery: list[dict[str, Any]]
    attention: list[dict[str, Any]]


def evaluate(
    handle: Flamingo,
    drawings: Sequence[Drawing],
    config: EvaluationConfig,
    split: str,
    progress: bool = True,
) -> Evaluation:
    """Scores a model on one split's drawings.

    Args:
      handle: the model.
      drawings: of all splits; only those of `split` are shown.
      config: what is asked.
      split: `validation` for choices, `test` for what is reported.
      progress: show a bar.

    Raises:
      UserError: the split has no drawings, or a prompt does not fit the limits.
    """
    pool = Pool(drawings, split)
    features = handle.features or FeatureCache(
        functools.partial(encode, handle.config, handle.weights.vision)
    )
    run = _Run(handle, features, config, progress)
    vocabulary = Vocabulary(drawings)
    rows, gallery = [], []
    for family in config.families:
        cases = draw_cases(
            family, pool, max(config.shots), config.queries, config.episodes, config.seed
        )
        found, examples = run.family(family, cases, vocabulary)
        rows += found
        gallery += examples
    return Evaluation(rows, gallery, attention_examples(handle, pool, config.families, config.seed))


class _Run:
    """What all families of one evaluation share."""

    def __init__(self, handle: Flamingo, features: Any, config: EvaluationConfig, bar: bool):
        limits = Limits(config.tokens, config.media, config.logits, config.targets)
        alone = handle.with_gates(0.0, 0.0)  # the frozen language model, bit for bit
        self._handles = {"true": handle, "blank": handle, "none": alone}
        self._scorers = {
            images: Scorer(model, limits, config.batch) for images, model in self._handles.items()
        }
        self._features, self._config, self._bar = features, config, bar

    def family(
        self, family: str, cases: list[Case], vocabulary: Vocabulary
    ) -> tuple[list[Row], list[dict[str, Any]]]:
        """Rows and gallery examples of one family."""
        size = self._handles["true"].config.vision.image_size
        table = MediaTable(self._features, np.full((1, size, size, 3), 255, np.uint8))
        tokenizer = self._handles["true"].require_tokenizer()
        shots = self._config.shots
        groups = [
            [r for k in shots for r in make_requests(case, k, tokenizer, table.key)]
            for case in cases
        ]
        features = table.features()
        latents = MediaLatents(self._handles["true"], features)
        rows: list[Row] = []
        gallery: list[dict[str, Any]] = []
        for images in ("true", "blank", "none"):
            asked = groups if images == "true" else blanked(groups)
            scored = self._score(images, asked, latents, f"{family}, images {images}")
            rows += self._figures(family, images, asked, scored)
            if images == "true":
                gallery = gallery_examples(cases, self._at_gallery(scored), self._gallery_shots())
            if family == "name" and self._config.language_shots in shots:
                rows.append(self._language(images, cases, asked, latents, vocabulary))
        if family in BINDING:
            rows += self._ceilings(family, cases, latents, table, features)
        return rows, gallery

    def _score(
        self, images: str, groups: list[list[Request]], latents: MediaLatents, title: str
    ) -> np.ndarray:
        """Scored objects, [episodes, shots, queries]."""
        requests = itertools.chain.from_iterable(groups)
        scored = self._scorers[images](requests, latents, title if self._bar else None)
        shape = (len(groups), -1, self._config.queries)
        cells = np.empty(len(scored), object)
        cells[:] = scored
        return cells.reshape(shape)

    def _figures(
        self, family: str, images: str, groups: list[list[Request]], scored: np.ndarray
    ) -> list[Row]:
        right = right_choices(groups, scored)
        exact = np.vectorize(lambda cell: cell.exact, otypes=[bool])(scored)
        chance = 1 / len(groups[0][0].candidates)
        rows = []
        for i, k in enumerate(self._config.shots):
            rows.append(self._row(family, k, "log_likelihood", right[:, i], images, chance))
            rows.append(self._row(family, k, "exact_match", exact[:, i], images, 0.0))
        return rows

    def _row(
        self, family: str, shots: int, metric: str, right: Any, images: str, chance: float
    ) -> Row:
        """`right`: [episodes, queries]."""
        values = np.asarray(right, float)
        clusters = np.repeat(np.arange(len(values)), values.shape[1])
        interval = bootstrap_interval(values.ravel(), clusters)
        score, seed = float(values.mean()), self._config.seed
        return Row(family, shots, seed, metric, score, interval, values.size, images, chance)

    def _language(
        self,
        images: str,
        cases: list[Case],
        groups: list[list[Request]],
        latents: MediaLatents,
        vocabulary: Vocabulary,
    ) -> Row:
        """Share of generated names that are in the supports' language."""
        shots, queries = self._config.language_shots, self._config.queries
        first = self._config.shots.index(shots) * queries
        asked = [request for group in groups for request in group[first : first + queries]]
        texts = iter(generate_answers(self._handles[images], asked, latents))
        right = [
            [vocabulary.has(next(texts), case.language or "") for _ in case.queries]
            for case in cases
        ]
        chance = np.mean([vocabulary.chance(case.language or "") for case in cases])
        return self._row("name", shots, "language", right, images, float(chance))

    def _ceilings(
        self,
        family: str,
        cases: list[Case],
        latents: MediaLatents,
        table: MediaTable,
        features: dict[int, np.ndarray],
    ) -> list[Row]:
        """Rows of what could be reached; without supports there is nothing to reach."""
        rows = []
        for k in self._config.shots:
            if k:
                right = [nearest_class_means(case, k, table.key, features) for case in cases]
                rows.append(self._row(family, k, "ceiling_class_means", right, "true", 0.5))
        k = self._config.ceiling_shots
        if k in self._config.shots and k:
            tokenizer = self._handles["true"].require_tokenizer()
            groups = [named_requests(case, k, tokenizer) for case in cases]
            scored = self._score("none", groups, latents, f"{family}, names as text")
            right = right_choices(groups, scored)[:, 0]
            rows.append(self._row(family, k, "ceiling_names_as_text", right, "none", 0.5))
        return rows

    def _gallery_shots(self) -> int:
        """The most shots at or below the config's; else the fewest there are."""
        shots = self._config.shots
        return max((k for k in shots if k <= self._config.gallery_shots), default=min(shots))

    def _at_gallery(self, scored: np.ndarray) -> list[list[Scored]]:
        return scored[:, self._config.shots.index(self._gallery_shots())].tolist()


def right_choices(groups: Sequence[Sequence[Request]], scored: np.ndarray) -> np.ndarray:
    """Whether the right answer is the most probable one, bool of the shape of `scored`."""
    gold = np.array([[request.gold for request in group] for group in groups])
    choice = np.vectorize(lambda cell: cell.choice, otypes=[int])(scored)
    return choice == gold.reshape(scored.shape)


def write_results(folder: Path, found: Evaluation, split: str) -> None:
    """Writes results.png, gallery.json, attention.json and results.json, each whole or not at all.

    results.json comes last: where it is, the others are too. Files of another split than `test`
    carry its name.
    """
    suffix = "" if split == "test" else f"-{split}"
    rows = [row.to_json() for row in found.rows]
    figure = plots.shots_curves(rows, "log_likelihood")
    with replaced(folder / f"results{suffix}.png") as part:
        figure.savefig(part, format="png", dpi=110, bbox_inches="tight")
    for name, value in (
        ("gallery", found.gallery),
        ("attention", found.attention),
        ("results", rows),
    ):
        text = json.dumps(value, ensure_ascii=False, indent=1) + "\n"
        with replaced(folder / f"{name}{suffix}.json") as part:
            part.write_text(text, encoding="utf-8")
