"""Few-shot figures of a model: the papers' benchmarks, or a run's own tasks on held-out drawings.

    python -m flamingo_jax.evaluate --list
    python -m flamingo_jax.evaluate --model=models/openflamingo --benchmark=coco,vqav2 \
        --data_dir=benchmarks --shots=0,4,8,16,32 --output=runs/figures [--supports=rices]
        [--seed=0,1,2] [--limit=1000] [--batch_size=8] [--show_prompts=3] [--config=FILE]

`--benchmark=all` asks all of them. A recipe, `--config`, can hold all of this but show_prompts;
what is given as a flag goes before it. The same command goes on where it was stopped. Without
either the drawings are asked:

    python -m flamingo_jax.evaluate --model=runs/openmoji --shots=0,1,2,4,8,16

which writes results.json, gallery.json, attention.json and results.png into the run's folder; with
--split=validation, which is the one to choose settings on, the split is part of their names.
"""

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from absl import flags

from flamingo_jax import cli, config_flag
from flamingo_jax.errors import UserError

_MODEL = flags.DEFINE_string("model", None, "Work directory of a run, or a converted model.")
_SHOTS = flags.DEFINE_list("shots", None, "Numbers of supports; those of the config if unset.")
_SEED = flags.DEFINE_list("seed", None, "Of the draws; several for the papers' benchmarks.")
_SPLIT = flags.DEFINE_string("split", None, "Of the queries; test for drawings if unset.")

_BENCHMARK = flags.DEFINE_list("benchmark", None, "Names of published benchmarks, or all.")
_LIST = flags.DEFINE_bool("list", False, "Print the published benchmarks and the files they need.")

_CONFIG = config_flag.define(
    "flamingo_jax.evaluation.suite_run:Recipe",
    "Recipe of an evaluation by benchmarks, such as configs/evaluation.py.",
)
_DATA_DIR = flags.DEFINE_string("data_dir", None, "Folder of the benchmarks' files.")
_OUTPUT = flags.DEFINE_string("output", None, "Folder of the results; made if absent.")
_LIMIT = flags.DEFINE_integer("limit", None, "Most queries of a benchmark, drawn at random once.")
_SUPPORTS = flags.DEFINE_enum("supports", None, ["random", "rices"], "How supports are chosen.")
_IMAGES = flags.DEFINE_enum("images", None, ["true", "blank"], "Show images, or blank ones.")
_BATCH_SIZE = flags.DEFINE_integer(
    "batch_size", None, "Queries whose images are read and encoded together.", lower_bound=1
)
_SHOW = flags.DEFINE_integer("show_prompts", 0, "Prompts to print and show.", lower_bound=0)
_HASHES = flags.DEFINE_string(
    "training_hashes", None, "File of perceptual hashes of the training images."
)
_CACHE_DIR = flags.DEFINE_string(
    "cache_dir", str(Path.home() / ".cache" / "flamingo_jax"), "Keeps features for RICES."
)

_FAMILIES = flags.DEFINE_list("families", None, "Tasks on drawings; the config's if unset.")
_EPISODES = flags.DEFINE_integer("episodes", None, "Episodes of a task on drawings.")
_QUERIES = flags.DEFINE_integer("queries", None, "Queries of an episode on drawings.")


def main() -> None:
    """Evaluates and prints the table."""
    if _LIST.value:
        from flamingo_jax.evaluation.benchmarks import BENCHMARKS, OTHERS
        from flamingo_jax.evaluation.listing import listing

        print(listing([*BENCHMARKS.values(), *OTHERS.values()]))
    elif _BENCHMARK.value or _CONFIG.value:
        _benchmarks()
    else:
        _drawings()


def _benchmarks() -> None:
    from flamingo_jax import fields
    from flamingo_jax.data.hashes import read_hashes
    from flamingo_jax.evaluation import overlap, suite_run
    from flamingo_jax.evaluation.suite_page import summary
    from flamingo_jax.runs import load

    _refuse((_FAMILIES, _EPISODES, _QUERIES), "is for drawings, not for benchmarks")
    fixed = _CONFIG.value.to_dict() if _CONFIG.value else {}
    chosen = suite_run.choose(_BENCHMARK.value or fixed.get("benchmarks", ()))
    asked = {"benchmarks": tuple(benchmark.name for benchmark in chosen)}
    asked |= _set(shots=_numbers(_SHOTS), seeds=_numbers(_SEED), split=_SPLIT.value)
    asked |= _set(limit=_LIMIT.value, supports=_SUPPORTS.value, images=_IMAGES.value)
    asked |= _set(model=_MODEL.value, data_dir=_DATA_DIR.value, output=_OUTPUT.value)
    asked |= _set(batch_size=_BATCH_SIZE.value)
    recipe = fields.build(suite_run.Recipe, {**fixed, **asked})
    model = _given("model", recipe.model)
    data_dir, output = _given("data_dir", recipe.data_dir), _given("output", recipe.output)
    handle = load(model)
    training = read_hashes(Path(_HASHES.value)) if _HASHES.value else overlap.drawing_hashes(model)
    options = suite_run.Options(recipe.batch_size, _SHOW.value, training, Path(_CACHE_DIR.value))
    left_out: list[str] = []
    try:
        found = suite_run.evaluate_suite(handle, chosen, data_dir, output, recipe.protocol, options)
    except suite_run.LeftOut as error:
        if not error.figures:
            raise
        found, left_out = error.figures, error.reasons
    titles = {benchmark.name: benchmark.title for benchmark in chosen}
    print(summary([row.to_json() for row in found], titles))
    for reason in left_out:
        print(f"Left out: {reason}")
    print(f"Report: {output / 'report.html'}")


def _drawings() -> None:
    from flamingo_jax import config
    from flamingo_jax.data.drawings import load_drawings
    from flamingo_jax.evaluation.limits import check_limits
    from flamingo_jax.evaluation.run import evaluate, write_results
    from flamingo_jax.evaluation.table import summary
    from flamingo_jax.runs import load

    of_benchmarks = (_DATA_DIR, _OUTPUT, _LIMIT, _SUPPORTS, _IMAGES, _BATCH_SIZE, _SHOW, _HASHES)
    _refuse(of_benchmarks, "is for benchmarks: say which with --benchmark")
    folder, split = _given("model", _MODEL.value), _SPLIT.value or "test"
    if split not in ("validation", "test"):
        raise UserError(f"--split is validation or test for drawings, not {split!r}.")
    seeds = _numbers(_SEED) or ()
    if len(seeds) > 1:
        raise UserError("--seed is one number for drawings; give several with --benchmark.")
    changes = _set(shots=_numbers(_SHOTS), families=_FAMILIES.value and tuple(_FAMILIES.value))
    changes |= _set(episodes=_EPISODES.value, queries=_QUERIES.value, seed=next(iter(seeds), None))
    handle = load(folder)
    if not (folder / "checkpoints").is_dir():
        raise UserError(f"{folder} is no run on drawings: say what to ask with --benchmark.")
    asked = dataclasses.replace(config.load(folder / "config.json").evaluation, **changes)
    drawings = load_drawings(folder / "data")
    check_limits(asked, drawings, handle.require_tokenizer(), split)
    found = evaluate(handle, drawings, asked, split)
    write_results(folder, found, split)
    print(summary([row.to_json() for row in found.rows]))


def _refuse(useless: Sequence[flags.FlagHolder], why: str) -> None:
    """Tells of flags that would be passed over."""
    for flag in useless:
        if flag.present:
            raise UserError(f"--{flag.name} {why}.")


def _given(name: str, path: str | None) -> Path:
    if not path:
        raise UserError(f"--{name} is missing: give it a path.")
    return Path(path)


def _set(**values: Any) -> dict[str, Any]:
    """Those that were given as flags."""
    return {name: value for name, value in values.items() if value is not None}


def _numbers(flag: flags.FlagHolder) -> tuple[int, ...] | None:
    try:
        return flag.value and tuple(int(word) for word in flag.value)
    except ValueError as error:
        raise UserError(f"--{flag.name} takes numbers, such as 0,4,8: {error}.") from error


if __name__ == "__main__":
    cli.run(main)
