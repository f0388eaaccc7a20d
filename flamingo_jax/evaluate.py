"""Few-shot figures of a trained model on held-out drawings, with baselines and intervals.

    python -m flamingo_jax.evaluate --model=runs/openmoji --shots=0,1,2,4,8,16

Writes results.json, gallery.json, attention.json and results.png into the run's folder; with
--split=validation, which is the one to choose settings on, the split is part of their names.
"""

import dataclasses
from pathlib import Path

from absl import flags

from flamingo_jax import cli, config
from flamingo_jax.data.drawings import load_drawings
from flamingo_jax.errors import UserError
from flamingo_jax.evaluation.limits import check_limits
from flamingo_jax.evaluation.run import evaluate, write_results
from flamingo_jax.evaluation.table import summary
from flamingo_jax.runs import load

_MODEL = flags.DEFINE_string("model", None, "Work directory of a run.", required=True)
_SHOTS = flags.DEFINE_list(
    "shots", None, "Numbers of supports; those of the run's config if unset."
)
_FAMILIES = flags.DEFINE_list("families", None, "Tasks; those of the run's config if unset.")
_EPISODES = flags.DEFINE_integer("episodes", None, "Episodes a task.")
_QUERIES = flags.DEFINE_integer("queries", None, "Queries an episode.")
_SEED = flags.DEFINE_integer("seed", None, "Of the draw of episodes.")
_SPLIT = flags.DEFINE_enum("split", "test", ["validation", "test"], "Whose drawings to show.")


def main() -> None:
    """Evaluates and prints the table."""
    folder = Path(_MODEL.value)
    handle = load(folder)
    drawings = load_drawings(folder / "data")
    asked = dataclasses.replace(config.load(folder / "config.json").evaluation, **_changes())
    check_limits(asked, drawings, handle.require_tokenizer(), _SPLIT.value)
    found = evaluate(handle, drawings, asked, _SPLIT.value)
    write_results(folder, found, _SPLIT.value)
    print(summary([row.to_json() for row in found.rows]))


def _changes() -> dict:
    """Fields of the evaluation's config that were given as flags."""
    try:
        shots = _SHOTS.value and tuple(int(k) for k in _SHOTS.value)
    except ValueError as error:
        raise UserError(f"--shots takes numbers, such as 0,4,8: {error}.") from error
    values = {
        "shots": shots,
        "families": _FAMILIES.value and tuple(_FAMILIES.value),
        "episodes": _EPISODES.value,
        "queries": _QUERIES.value,
        "seed": _SEED.value,
    }
    return {name: value for name, value in values.items() if value is not None}


if __name__ == "__main__":
    cli.run(main)
