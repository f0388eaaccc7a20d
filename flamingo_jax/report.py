"""One self-contained HTML page about a run.

python -m flamingo_jax.report --model=runs/openmoji
"""

from pathlib import Path

from absl import flags

from flamingo_jax import cli
from flamingo_jax.evaluation.page import write_report

_MODEL = flags.DEFINE_string("model", None, "Work directory of a run.", required=True)
_SPLIT = flags.DEFINE_enum("split", "test", ["validation", "test"], "Whose results to show.")


def main() -> None:
    """Writes the page and says where."""
    print(f"Report: {write_report(Path(_MODEL.value), _SPLIT.value)}")


if __name__ == "__main__":
    cli.run(main)
