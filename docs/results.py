"""Makes the second half of docs/results.md anew (half an hour on two cores):

    python docs/results.py --model=runs/openmoji --data_dir=benchmarks

The folder holds `NotoColorEmoji.ttf`, see docs/evaluation.md.
"""

import argparse
import json
from collections.abc import Sequence
from pathlib import Path

from flamingo_jax.evaluation import overlap, suite_run
from flamingo_jax.evaluation.results import Figure
from flamingo_jax.evaluation.suite import SuiteConfig
from flamingo_jax.evaluation.table import shown_cell, summary_cells
from flamingo_jax.fields import build
from flamingo_jax.runs import load

BENCHMARKS = ("digits", "openmoji", "noto_emoji")
SHOTS, QUERIES = (0, 4, 8, 16, 32), 100
SETTINGS = {
    "random supports": {"shots": SHOTS},
    "RICES": {"shots": SHOTS[1:], "supports": "rices"},
    "random supports, white images": {"shots": SHOTS, "images": "blank"},
}
MARK = "<!-- From here on made by docs/results.py. -->\n"
TEXT = """
# The default run

`./launch/local.sh`, on two CPU cores: {minutes}.

{tasks}

# Other data, through the suite

The model of the default run, asked by the suite of [evaluation.md](evaluation.md): handwritten
digits of scikit-learn, one of ten words; held-out drawings of OpenMoji, one of eight categories;
and the same held-out emojis by another artist, Noto's. {queries} queries a figure, one order
of the supports, 95% bootstrap intervals, shots across.

{table}

Digits, which look like nothing it was trained on, it names only where RICES puts their like into
the prompt; drawings by another artist it still sorts, less well. By chance {chance}. Made by

```sh
python docs/results.py --model=runs/openmoji --data_dir=benchmarks
```
"""


def tasks(model: Path) -> str:
    """The run's own figures at 8 shots, in Markdown."""
    shots, columns, lines = summary_cells(json.loads((model / "results.json").read_text()))
    rows = [
        f"| {shots} shots | " + " | ".join(columns) + " | chance | queries |",
        "|---" * (len(columns) + 3) + "|",
    ]
    for line in lines:
        cells = [shown_cell(row) if row else "" for row in line.cells]
        rows.append(
            f"| {line.name} | " + " | ".join(cells) + f" | {line.chance:.2f} | {line.queries} |"
        )
    return "\n".join(rows)


def minutes(model: Path) -> str:
    """What the stages of the run took."""
    seconds = json.loads((model / "stages.json").read_text())
    return ", ".join(f"{stage} {value / 60:.1f} min" for stage, value in seconds.items())


def ask(model: Path, data_dir: Path) -> dict[str, list[Figure]]:
    """Figures by setting; what is already in `MODEL/suite` is not asked again."""
    handle, chosen = load(model), suite_run.choose(BENCHMARKS)
    options = suite_run.Options(32, 0, overlap.drawing_hashes(model), model / "suite" / "cache")
    found = {}
    for number, (title, fields) in enumerate(SETTINGS.items()):
        common = {"benchmarks": BENCHMARKS, "limit": QUERIES, "permutations": 1}
        asked = build(SuiteConfig, {**common, **fields})
        output = model / "suite" / str(number)
        found[title] = suite_run.evaluate_suite(handle, chosen, data_dir, output, asked, options)
    return found


def table(found: dict[str, list[Figure]]) -> str:
    """In Markdown: a row for each benchmark and setting, a column for each number of shots."""
    lines = [
        "| | | " + " | ".join(map(str, SHOTS)) + " |",
        "|---|---|" + "---|" * len(SHOTS),
    ]
    for name in BENCHMARKS:
        for title, figures in found.items():
            cells = [
                _cell([f for f in figures if (f.benchmark, f.shots) == (name, s)]) for s in SHOTS
            ]
            lines.append(f"| {name} | {title} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def _cell(figures: Sequence[Figure]) -> str:
    return "".join(shown_cell(figure.to_json()) for figure in figures)


def main() -> None:
    """Asks what is missing and writes the page's second half."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", type=Path, required=True)
    parser.add_argument("--data_dir", type=Path, required=True)
    given = parser.parse_args()
    page = Path(__file__).with_name("results.md")
    first, _, _ = page.read_text(encoding="utf-8").partition(MARK)
    made = TEXT.format(
        minutes=minutes(given.model),
        tasks=tasks(given.model),
        queries=QUERIES,
        table=table(ask(given.model, given.data_dir)),
        chance="0.10 of digits, 0.125 of both kinds of emojis",
    )
    page.write_text(f"{first}{MARK}{made}", encoding="utf-8")


if __name__ == "__main__":
    main()
