"""The table of results at one number of shots, as cells and as text."""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

Rows = Sequence[Mapping[str, Any]]

COLUMNS = {
    "images": ("true",),
    "blank": ("blank",),
    "alone": ("none",),
    "class means": ("true", "ceiling_class_means"),
    "names as text": ("none", "ceiling_names_as_text"),
}
"""Column name to condition and, for ceilings, metric."""

SHOTS = 8


@dataclasses.dataclass(frozen=True)
class Line:
    """One task's figures: a row of `results.json` or None for each column."""

    name: str
    cells: tuple[Mapping[str, Any] | None, ...]
    chance: float
    queries: int


def summary_cells(rows: Rows) -> tuple[int, list[str], list[Line]]:
    """(shots shown, column names, lines): 8 shots, or the most there are below that."""
    scored = [row for row in rows if not row["metric"].startswith("ceiling")]
    shots = max((row["shots"] for row in scored if row["shots"] <= SHOTS), default=0)
    found = {
        (row["benchmark"], row["metric"], row["images"]): row
        for row in rows
        if row["shots"] == shots
    }
    lines = []
    for benchmark, metric in dict.fromkeys(
        (row["benchmark"], row["metric"]) for row in scored if row["shots"] == shots
    ):
        cells = []
        for images, *ceiling in COLUMNS.values():
            wanted = ceiling[0] if ceiling else metric
            shown = not ceiling or metric == "log_likelihood"
            cells.append(found.get((benchmark, wanted, images)) if shown else None)
        some = next(cell for cell in cells if cell)
        title = f"{benchmark}, {metric}".replace("_", " ")
        lines.append(Line(title, tuple(cells), some["chance"], some["queries"]))
    return shots, list(COLUMNS), lines


def summary(rows: Rows) -> str:
    """A table for the terminal: score and 95% interval of each task and condition."""
    shots, columns, lines = summary_cells(rows)
    if not lines:
        return "No results."
    width = max(len(line.name) for line in lines)
    head = f"{f'{shots} shots':{width}}" + "".join(f"  {name:>17}" for name in columns)
    text = [head + "  chance  queries"]
    for line in lines:
        cells = "".join(f"  {shown_cell(row):>17}" for row in line.cells)
        chance = f"{line.chance:.2f}" if line.chance else "-"
        text.append(f"{line.name:{width}}{cells}  {chance:>6}  {line.queries:>7}")
    return "\n".join(text)


def shown_cell(row: Mapping[str, Any] | None) -> str:
    """Score and 95% interval of a row; a dash for none."""
    if row is None:
        return "-"
    return "{:.2f} [{:.2f}, {:.2f}]".format(row["score"], *row["ci95"])
