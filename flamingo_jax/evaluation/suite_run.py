"""A whole evaluation of a model by the suite, and the files that it leaves.

OUTPUT/suite.json         config and checkpoint hash: whose folder it is
OUTPUT/predictions.jsonl  a line for each query, see `records.Predictions`
OUTPUT/seconds.jsonl      how long each stage took
OUTPUT/results.json       a row for each benchmark, shots and seed, see `results.Figure`
OUTPUT/overlap.json       queries whose images were trained on, where that could be told
OUTPUT/hashes.txt         perceptual hashes of the queries' images, likewise
OUTPUT/report.html        all of it on one page
"""

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from flamingo_jax.checkpoints.files import write_json
from flamingo_jax.errors import UserError
from flamingo_jax.evaluation import overlap
from flamingo_jax.evaluation.benchmark import Benchmark, Example
from flamingo_jax.evaluation.benchmarks import BENCHMARKS, OTHERS
from flamingo_jax.evaluation.gallery import png_uri
from flamingo_jax.evaluation.records import Predictions, Stage, checkpoint_hash, config_hash
from flamingo_jax.evaluation.results import Figure, figure
from flamingo_jax.evaluation.stages import Question, StagePrompts
from flamingo_jax.evaluation.suite import Done, Suite, SuiteConfig
from flamingo_jax.evaluation.suite_page import write_page
from flamingo_jax.inference.handle import Flamingo


@dataclasses.dataclass(frozen=True, kw_only=True)
class Recipe(SuiteConfig):
    """An evaluation as a config describes it: the protocol, and what it is done with.

    Attributes:
      model: folder of a model; None where a flag says so, as below.
      data_dir: folder of the benchmarks' files.
      output: folder of the results.
      batch_size: queries whose images are read and encoded together.
    """

    model: str | None = None
    data_dir: str | None = None
    output: str | None = None
    batch_size: int = 32

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.batch_size < 1:
            raise UserError(f"batch_size must be at least 1, not {self.batch_size}.")

    @property
    def protocol(self) -> SuiteConfig:
        """What decides the figures."""
        names = (field.name for field in dataclasses.fields(SuiteConfig))
        return SuiteConfig(**{name: getattr(self, name) for name in names})


@dataclasses.dataclass(frozen=True)
class Options:
    """What does not change the figures.

    Attributes:
      batch_size: queries whose images are read and encoded together.
      show_prompts: prompts of each stage that are printed and shown in the report.
      training: perceptual hashes of the training images, uint64 [N]; none if they are not known.
      cache_dir: keeps the vision encoder's features of supports from run to run.
      progress: show bars.
    """

    batch_size: int
    show_prompts: int
    training: np.ndarray
    cache_dir: Path
    progress: bool = True


class LeftOut(UserError):
    """All is asked and written, but not every figure could be made.

    Attributes:
      figures: that could be.
      reasons: a sentence for each that is missing.
    """

    def __init__(self, figures: list[Figure], reasons: list[str]) -> None:
        super().__init__(f"All else is written, but {len(reasons)} without a score: {reasons[0]}")
        self.figures, self.reasons = figures, reasons


def evaluate_suite(
    handle: Flamingo,
    benchmarks: Sequence[Benchmark],
    data_dir: Path,
    output: Path,
    config: SuiteConfig,
    options: Options,
) -> list[Figure]:
    """Runs or resumes the suite in a folder and writes its files.

    Raises:
      LeftOut: some figures could not be made.
      UserError: as `Suite.run`.
      Interrupted: as `Suite.run`.
    """
    checkpoint, config_id = checkpoint_hash(handle.weights), config_hash(config)
    suite = Suite(handle, benchmarks, data_dir, config, options.cache_dir, checkpoint)
    figures: list[Figure] = []
    overlaps: dict[str, overlap.Overlap] = {}
    hashes: dict[Any, int] = {}
    shown: list[dict[str, Any]] = []
    missing: list[str] = []
    training = options.training if config.images == "true" else options.training[:0]
    lines: dict[Stage, list[dict[str, Any]]] = {}

    def begin(prompts: StagePrompts, queries: Sequence[Example]) -> None:
        for query in queries[: options.show_prompts]:
            question = prompts.question(query)
            shown.append(_shown(suite, prompts, question))
            tqdm.write(f"{shown[-1]['title']}, {prompts.shots} shots, query {query.id}:")
            tqdm.write(prompts.shown(question) + "\n")

    for done in suite.run(output, options.batch_size, options.progress, begin):
        lines[done.stage] = done.lines
        try:
            figures.append(figure(done, config, config_id, checkpoint))
        except UserError as error:  # the others' figures are wanted none the less
            missing.append(f"{done.benchmark.title}, {done.stage[1]} shots: {error}")
        write_json(output / "results.json", [row.to_json() for row in figures])
        if len(training) and done.benchmark.name not in overlaps:
            found = overlap.query_hashes(done.queries, suite.read, done.benchmark.title)
            hashes.update(found)
            name = done.benchmark.name
            overlaps[name] = overlap.overlap(name, done.queries, found, training)
        _add_answers(shown, done)
    Predictions(output).finish(lines)
    if len(training):
        overlap.write_hashes(output / "hashes.txt", hashes)
        write_json(output / "overlap.json", [entry.to_json() for entry in overlaps.values()])
    write_page(
        output / "report.html",
        [row.to_json() for row in figures],
        {benchmark.name: benchmark.title for benchmark in benchmarks},
        shown,
        [entry.to_json() for entry in overlaps.values()],
        dataclasses.asdict(config),
    )
    if missing := [*suite.left_out, *missing]:
        raise LeftOut(figures, missing)
    return figures


def _shown(suite: Suite, prompts: StagePrompts, question: Question) -> dict[str, Any]:
    """A prompt in pieces, each an image (a `data:` URI or None) and the text after it."""
    ask, image_id = question.asks[0], suite.handle.text.image_id
    places = [0, *(i for i, token in enumerate(ask.tokens) if token == image_id), len(ask.tokens)]
    images = [None, *(png_uri(suite.read(medium)[0]) for medium in ask.media)]
    show = suite.handle.require_tokenizer().show
    pieces = [
        {"image": image, "text": show(ask.tokens[start:end])}
        for image, start, end in zip(images, places, places[1:], strict=False)
    ]
    return {
        "title": prompts.benchmark.title,
        "stage": prompts.stage,
        "shots": prompts.shots,
        "query": question.query.id,
        "pieces": pieces,
        "right": list(dict.fromkeys(question.query.answers)),
        "raw": "",
        "answer": "",
    }


def _add_answers(shown: Sequence[dict[str, Any]], done: Done) -> None:
    lines = {line["query"]: line for line in done.lines}
    for entry in shown:
        if entry["stage"] == done.stage:
            line = lines[entry["query"]]
            entry.update(raw=line["raw"], answer=line["answer"])


def choose(names: Sequence[str]) -> list[Benchmark]:
    """Benchmarks by name; `all` stands for every one of the paper.

    Raises:
      UserError: there is none of a name.
    """
    if list(names) == ["all"]:
        return list(BENCHMARKS.values())
    known = {**BENCHMARKS, **OTHERS}
    for name in names:
        if name not in known:
            raise UserError(
                f"There is no benchmark {name!r}: there are {', '.join(known)}; or all."
            )
    return [known[name] for name in names]
