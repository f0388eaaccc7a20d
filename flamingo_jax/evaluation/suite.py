"""The suite: every published benchmark asked of, at every number of shots, as often as seeds.

A run that is stopped goes on where it was, and the same config gives the same figures, whatever is
run together (see `answering`).
"""

import dataclasses
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
from tqdm import tqdm

from flamingo_jax.errors import Interrupted, UserError
from flamingo_jax.evaluation import protocol
from flamingo_jax.evaluation.answering import Answerer, PromptTooLong
from flamingo_jax.evaluation.benchmark import Benchmark, Example, Media
from flamingo_jax.evaluation.footage import read_frames
from flamingo_jax.evaluation.latents import LatentStore
from flamingo_jax.evaluation.records import Predictions, Seconds, Stage, claim
from flamingo_jax.evaluation.retrieval import Retrieval
from flamingo_jax.evaluation.stages import Choose, Question, StagePrompts
from flamingo_jax.inference.handle import Flamingo


@dataclasses.dataclass(frozen=True)
class SuiteConfig:
    """All that decides the figures, besides model and data.

    Attributes:
      benchmarks: names.
      shots: numbers of supports.
      seeds: of the draws of supports; a figure for each.
      split: of the queries; None for each benchmark's own.
      limit: most queries of a benchmark, drawn at random once; 0 for all.
      supports: drawn at `random` once for all queries, or the most similar to each (`rices`).
      images: `true`, or `blank` ones in their place.
      permutations: orders of the supports in which close-ended answers are weighed.
      beams: hypotheses of beam search.
      frames: of a video.
      tile: prompts that are run together; figures can differ in the last bit from tile to tile.
    """

    benchmarks: tuple[str, ...]
    shots: tuple[int, ...] = (0, 4, 8, 16, 32)
    seeds: tuple[int, ...] = (0,)
    split: str | None = None
    limit: int = 0
    supports: Literal["random", "rices"] = "random"
    images: Literal["true", "blank"] = "true"
    permutations: int = 6
    beams: int = 3
    frames: int = 30
    tile: int = 8

    def __post_init__(self) -> None:
        for name in ("benchmarks", "shots", "seeds"):
            values = getattr(self, name)
            if not values or len(set(values)) < len(values):
                raise UserError(f"{name} must name at least one, and none twice, not {values}.")
        if min(*self.shots, *self.seeds, self.limit) < 0:
            raise UserError("shots, seeds and limit must be 0 or more.")
        if self.images == "blank" and self.supports == "rices":
            raise UserError("Blank images are all alike: supports must be random with them.")
        if min(self.permutations, self.beams, self.frames, self.tile) < 1:
            raise UserError("permutations, beams, frames and tile must be at least 1.")


Begin = Callable[[StagePrompts, Sequence[Example]], None]


@dataclasses.dataclass(frozen=True)
class Done:
    """A stage whose queries are all answered.

    Attributes:
      benchmark: what was asked.
      stage: its name.
      queries: in the order of `lines`.
      lines: of `predictions.jsonl`.
      seconds: that it took, over all runs.
    """

    benchmark: Benchmark
    stage: Stage
    queries: list[Example]
    lines: list[dict[str, Any]]
    seconds: float


class Suite:
    """A run of the suite in a folder."""

    def __init__(
        self,
        handle: Flamingo,
        benchmarks: Sequence[Benchmark],
        data_dir: Path,
        config: SuiteConfig,
        cache_dir: Path,
        checkpoint: str,
    ) -> None:
        """Nothing is read yet.

        Args:
          handle: the model.
          benchmarks: of `config.benchmarks`.
          data_dir: holds their files.
          config: what is asked.
          cache_dir: keeps the vision encoder's features of supports from run to run.
          checkpoint: hash of the model's weights.
        """
        self.handle, self.config, self._data_dir = handle, config, data_dir
        self._benchmarks, self._checkpoint = benchmarks, checkpoint
        self._tokenizer = handle.require_tokenizer()
        frames = config.frames if handle.config.resampler.max_frames else 1
        size, fit = handle.config.vision.image_size, handle.text.fit
        white = np.full((1, size, size, 3), 255, np.uint8)

        def read(medium: Media) -> np.ndarray:
            return white if config.images == "blank" else read_frames(medium, size, fit, frames)

        self.read = read
        self.left_out: list[str] = []
        self.latents = LatentStore(handle, read)
        self._retrieval = Retrieval(self.latents, cache_dir, handle.weights.vision)

    def run(
        self, folder: Path, ahead: int, progress: bool = True, begin: Begin | None = None
    ) -> Iterator[Done]:
        """Asks what has no answer yet, and yields each stage when it is done.

        A stage whose prompts are too long for the model goes to `left_out`, and so does a benchmark
        that has none of the numbers of shots.

        Args:
          folder: of the results.
          ahead: prompts whose images are read and encoded together.
          progress: show a bar.
          begin: called with each stage's prompts and queries before they are asked.

        Raises:
          UserError: the folder holds results of another config or checkpoint, or a file is missing.
          Interrupted: by SIGINT or SIGTERM.
        """
        self._check()
        claim(folder, dataclasses.asdict(self.config), self._checkpoint)
        predictions, seconds = Predictions(folder), Seconds(folder)
        try:
            for benchmark in self._benchmarks:
                if not self._shots(benchmark):
                    self.left_out.append(f"{benchmark.title}: only 0 shots are published of it.")
                    continue
                queries = self.queries(benchmark)
                stages = self.stages(benchmark)
                todo = sum(q.id not in predictions.of(s.stage) for s in stages for q in queries)
                with tqdm(
                    total=len(stages) * len(queries),
                    initial=len(stages) * len(queries) - todo,
                    unit="query",
                    disable=not progress,
                ) as bar:
                    for prompts in stages:
                        bar.set_description(_title(prompts))
                        if begin is not None:
                            begin(prompts, queries)
                        try:
                            self._answer(prompts, queries, predictions, seconds, ahead, bar)
                        except PromptTooLong as error:
                            self.left_out.append(f"{_title(prompts)}: {error}")
                            continue
                        found = predictions.of(prompts.stage)
                        lines = [found[query.id] for query in queries]
                        spent = seconds.of(prompts.stage)
                        yield Done(benchmark, prompts.stage, queries, lines, spent)
        except KeyboardInterrupt:
            raise Interrupted("Stopped: the same command goes on from the last answers.") from None
        finally:
            self.latents.close()

    def queries(self, benchmark: Benchmark) -> list[Example]:
        """The queries of a benchmark, in the order of its file."""
        examples = benchmark.read(self._data_dir, self._query_split(benchmark))
        return limited(examples, self.config.limit)

    def stages(self, benchmark: Benchmark) -> list[StagePrompts]:
        """The stages of a benchmark; those with supports are left out where it has none."""
        split = self._support_split(benchmark)
        pool = benchmark.read(self._data_dir, split) if split is not None else []
        return [
            StagePrompts(
                benchmark,
                k,
                seed,
                self._chooser(benchmark, pool, k, seed),
                self._tokenizer,
                self.config.permutations,
            )
            for seed in self.config.seeds
            for k in self._shots(benchmark)
        ]

    def _check(self) -> None:
        """Looks for all files at once: a missing one is told before hours of work, not after."""
        for benchmark in self._benchmarks:
            if self._shots(benchmark):
                splits = (self._query_split(benchmark), self._support_split(benchmark))
                for split in dict.fromkeys(splits):
                    if split is not None:
                        benchmark.check(self._data_dir, split)

    def _shots(self, benchmark: Benchmark) -> list[int]:
        return [k for k in self.config.shots if k == 0 or benchmark.support is not None]

    def _query_split(self, benchmark: Benchmark) -> str:
        split = self.config.split or benchmark.query
        if split not in benchmark.splits:
            raise UserError(
                f"{benchmark.title} has no split {split!r}: it has {', '.join(benchmark.splits)}."
            )
        return split

    def _support_split(self, benchmark: Benchmark) -> str | None:
        """None where no prompt shows a support."""
        shown = any(k or benchmark.open_ended for k in self._shots(benchmark))
        return benchmark.support if shown else None

    def _chooser(self, benchmark: Benchmark, pool: list[Example], shots: int, seed: int) -> Choose:
        if not pool or (shots == 0 and not benchmark.open_ended):
            return lambda query: ()
        members = protocol.support_pool(benchmark, pool, seed)
        if self._similar(shots):
            return self._retrieval.chooser([pool[i] for i in members], shots)
        order = protocol.draw_supports(benchmark, members, self.config.shots, seed)
        drawn = [pool[i] for i in order]
        return lambda query: protocol.take(benchmark, drawn, query, shots or protocol.TEXT_ONLY)

    def _similar(self, shots: int) -> bool:
        """Whether each query has supports of its own."""
        return shots > 0 and self.config.supports == "rices"

    def _answer(
        self,
        prompts: StagePrompts,
        queries: Sequence[Example],
        predictions: Predictions,
        seconds: Seconds,
        ahead: int,
        bar: Any,
    ) -> None:
        """Answers the queries of a stage that have no answer yet, tile by tile."""
        tile, known = self.config.tile, predictions.of(prompts.stage)
        answerer = Answerer(
            self.handle, self.latents, tile, self.config.beams, prompts.benchmark.new_tokens
        )
        tiles = [queries[i : i + tile] for i in range(0, len(queries), tile)]
        tiles = [t for t in tiles if not all(query.id in known for query in t)]
        shared = not self._similar(prompts.shots)
        batch = max(1, ahead // tile, answerer.together)
        batches = [tiles[i : i + batch] for i in range(0, len(tiles), batch)]
        coming = self._questions(prompts, batches[0]) if batches else []
        for number in range(len(batches)):
            began, asked = time.perf_counter(), coming
            if number + 1 < len(batches):
                coming = self._questions(prompts, batches[number + 1])
            for i in range(0, len(asked), answerer.together):
                part = asked[i : i + answerer.together]
                before = len(predictions.of(prompts.stage))
                predictions.add(_lines(prompts, part, answerer, shared))
                bar.update(len(predictions.of(prompts.stage)) - before)
            seconds.add(prompts.stage, time.perf_counter() - began)

    def _questions(
        self, prompts: StagePrompts, tiles: Sequence[Sequence[Example]]
    ) -> list[list[Question]]:
        """The questions of some tiles, whose images begin to be read."""
        if self._similar(prompts.shots):
            self._retrieval.expect([query for tile in tiles for query in tile])
        found = [[prompts.question(query) for query in tile] for tile in tiles]
        asks = [ask for tile in found for question in tile for ask in question.asks]
        self.latents.prefetch(medium for ask in asks for medium in ask.media)
        return found


def limited(examples: list[Example], limit: int) -> list[Example]:
    """At most `limit` of the examples (0: all), the same ones each time, in their order."""
    if not 0 < limit < len(examples):
        return examples
    chosen = np.random.default_rng(limit).choice(len(examples), limit, replace=False)
    return [examples[i] for i in np.sort(chosen).tolist()]


def _lines(
    prompts: StagePrompts, tiles: Sequence[Sequence[Question]], answerer: Answerer, shared: bool
) -> list[dict[str, Any]]:
    """Lines of `predictions.jsonl` of some tiles."""
    replies = [
        answerer([[question.asks[order] for question in tile] for tile in tiles], shared)
        for order in range(len(prompts.orders))
    ]
    return [
        prompts.line(question, [of_order[t][q] for of_order in replies])
        for t, tile in enumerate(tiles)
        for q, question in enumerate(tile)
    ]


def _title(prompts: StagePrompts) -> str:
    _, shots, seed = prompts.stage
    return f"{prompts.benchmark.title}, {shots} shots" + (f", seed {seed}" if seed else "")
