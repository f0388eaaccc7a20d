"""The suite's report: one HTML page that needs nothing beside it."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import jinja2
from matplotlib.figure import Figure

from flamingo_jax.checkpoints.files import replaced
from flamingo_jax.evaluation import plots
from flamingo_jax.evaluation.published import Published, published

Rows = Sequence[Mapping[str, Any]]


def write_page(
    path: Path,
    rows: Rows,
    titles: Mapping[str, str],
    shown: Sequence[Mapping[str, Any]],
    overlaps: Rows,
    config: Mapping[str, Any],
) -> None:
    """Writes the report.

    Args:
      path: of the page.
      rows: of `results.json`.
      titles: of benchmarks by name.
      shown: prompts, see `shown.shown_prompt`, with `raw`, `answer` and `right` texts.
      overlaps: see `overlap.Overlap.to_json`.
      config: of the suite.
    """
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("flamingo_jax.evaluation", "."),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
    )
    names = list(dict.fromkeys(row["benchmark"] for row in rows))
    page = environment.get_template("suite.html").render(
        title=path.resolve().parent.name,
        tables=[_table(titles[name], _of(rows, name), _published(rows, name)) for name in names],
        curves=[
            plots.data_uri(curves(titles[name], _of(rows, name), _published(rows, name)))
            for name in names
        ],
        shown=shown,
        overlaps=[{**entry, "title": titles[entry["benchmark"]]} for entry in overlaps],
        hashes={key: rows[0][key] for key in ("config_hash", "checkpoint_hash")} if rows else {},
        config=json.dumps(config, indent=2, ensure_ascii=False),
    )
    with replaced(path) as part:
        part.write_text(page, encoding="utf-8")


def curves(title: str, rows: Rows, others: Sequence[Published]) -> Figure:
    """Score of 100 against shots: one line a seed with 95% bands, and what is published."""
    figure = Figure(figsize=(5.2, 3.2), layout="constrained")
    axis = figure.subplots()
    shots = sorted({row["shots"] for row in rows} | {other.shots for other in others})
    place = {k: i for i, k in enumerate(shots)}
    for seed in dict.fromkeys(row["seed"] for row in rows):
        own = sorted((r for r in rows if r["seed"] == seed), key=lambda row: row["shots"])
        x = [place[row["shots"]] for row in own]
        label = "this model" if seed == own[0]["seed"] == rows[0]["seed"] else None
        axis.plot(x, [100 * row["score"] for row in own], "o-", color="#1f5fbf", label=label)
        low, high = ([100 * row["ci95"][end] for row in own] for end in (0, 1))
        axis.fill_between(x, low, high, color="#1f5fbf", alpha=0.13, lw=0)
    for model in dict.fromkeys((other.model, other.supports) for other in others):
        points = [other for other in others if (other.model, other.supports) == model]
        x = [place[point.shots] for point in points]
        label = " ".join(model).removesuffix(" random").replace("rices", "RICES")
        axis.plot(x, [point.score for point in points], ".--", lw=1, label=label)
    axis.set_xticks(list(place.values()), [str(k) for k in place])
    axis.set_xlabel("shots")
    axis.set_ylabel(rows[0]["metric"])
    axis.set_title(title, fontsize=10)
    axis.spines[["top", "right"]].set_visible(False)
    axis.legend(frameon=False, fontsize=7)
    return figure


def summary(rows: Rows, titles: Mapping[str, str]) -> str:
    """A table for the terminal: score of 100 and its interval, by benchmark and shots."""
    names = list(dict.fromkeys(row["benchmark"] for row in rows))
    width = max((len(titles[name]) for name in names), default=0)
    text = [f"{'of 100':{width}}  shots  seed   score  95% interval     queries  metric"]
    for row in rows:
        low, high = (100 * end for end in row["ci95"])
        interval = f"[{low:.1f}, {high:.1f}]"
        text.append(
            f"{titles[row['benchmark']]:{width}}  {row['shots']:5}  {row['seed']:4}  "
            f"{100 * row['score']:6.1f}  {interval:15}  {row['queries']:7}  {row['metric']}"
        )
    return "\n".join(text)


def _of(rows: Rows, name: str) -> list[Mapping[str, Any]]:
    return [row for row in rows if row["benchmark"] == name]


def _published(rows: Rows, name: str) -> tuple[Published, ...]:
    """What is published of a benchmark, unless the rows are of something else."""
    return () if _of(rows, name)[0]["images"] == "blank" else published().get(name, ())


def _table(title: str, rows: Rows, others: Sequence[Published]) -> dict[str, Any]:
    """Cells of one benchmark: a line for each seed and for each published model."""
    shots = sorted({row["shots"] for row in rows} | {other.shots for other in others})
    lines = []
    for seed in dict.fromkeys(row["seed"] for row in rows):
        own = {row["shots"]: row for row in rows if row["seed"] == seed}
        cells = [
            "{:.1f} [{:.1f}, {:.1f}]".format(*(100 * x for x in (own[k]["score"], *own[k]["ci95"])))
            if k in own
            else "–"
            for k in shots
        ]
        lines.append({"name": f"this model, seed {seed}", "cells": cells, "own": True})
    for model, supports in dict.fromkeys((other.model, other.supports) for other in others):
        of_model = {o.shots: o.score for o in others if (o.model, o.supports) == (model, supports)}
        name = f"{model}, RICES" if supports == "rices" else model
        cells = [f"{of_model[k]:.1f}" if k in of_model else "–" for k in shots]
        lines.append({"name": name, "cells": cells, "own": False})
    first = rows[0]
    about = (
        f"{first['metric']}, split {first['split']}, {first['queries']} queries, supports "
        f"{'most similar (RICES)' if first['supports'] == 'rices' else 'drawn at random'}"
        + (", blank images" if first["images"] == "blank" else "")
        + f"; {sum(row['seconds'] for row in rows):,.0f} s."
    )
    return {"title": title, "shots": shots, "lines": lines, "about": about}
