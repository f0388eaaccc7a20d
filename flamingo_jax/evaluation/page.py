"""The report of a run: one HTML page that needs nothing beside it."""

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import jinja2

from flamingo_jax.checkpoints.files import config_file, replaced
from flamingo_jax.errors import UserError
from flamingo_jax.evaluation import plots
from flamingo_jax.evaluation.held_out import held_out_cells
from flamingo_jax.evaluation.table import summary_cells
from flamingo_jax.training.journal import read_rows

SECTIONS = (
    ("summary", "Summary"),
    ("shots", "Shots curves"),
    ("training", "Training"),
    ("gallery", "Gallery"),
    ("attention", "Where it looks"),
    ("config", "Config and cost"),
    ("credit", "Credit"),
)
_CURVES = {
    "log_likelihood": "Right answer most probable among the candidates, with 95% intervals.",
    "exact_match": "Greedy text equal to the right answer, word for word.",
    "language": "Generated name in the language of the supports.",
}
_VISION = {
    "knn5_category": "category right by the 5 nearest training drawings",
    "retrieval_top1": "own English name nearest of all names",
    "retrieval_top5": "own English name among the 5 nearest",
    "candidates": "names to choose among, one drawing of each base",
    "drawings": "drawings, variants included",
}


def write_report(folder: Path, split: str = "test") -> Path:
    """Writes `report.html` into a run's folder from the files that are there.

    Args:
      folder: of the run. Read are metrics.jsonl, timing.jsonl, stages.json, config.json,
        versions.json, held_out.json, vision/results.json, vision/metrics.jsonl, and what the
        evaluation wrote. The page says which parts are missing.
      split: whose results are shown; those of `validation` go to `report-validation.html`.

    Returns:
      The page's path.

    Raises:
      UserError: it is no folder of a run, or a file in it is damaged.
    """
    config_file(folder, "--model the work directory of a run")
    suffix = "" if split == "test" else f"-{split}"
    page = render(
        title=folder.resolve().name,
        split="held-out test" if split == "test" else split,
        rows=_json(folder / f"results{suffix}.json") or [],
        gallery=_json(folder / f"gallery{suffix}.json") or [],
        heat_maps=_json(folder / f"attention{suffix}.json") or [],
        held_out=_json(folder / "held_out.json") or [],
        metrics=_lines(folder / "metrics.jsonl"),
        timing=_lines(folder / "timing.jsonl"),
        seconds=_json(folder / "stages.json") or {},
        vision_metrics=_lines(folder / "vision" / "metrics.jsonl"),
        vision_results=_json(folder / "vision" / "results.json") or {},
        files={name: _json(folder / name) for name in ("config.json", "versions.json")},
    )
    path = folder / f"report{suffix}.html"
    with replaced(path) as part:
        part.write_text(page, encoding="utf-8")
    return path


def render(
    *,
    title: str,
    split: str,
    rows: plots.Rows,
    gallery: Sequence[Mapping[str, Any]],
    heat_maps: Sequence[Mapping[str, Any]],
    held_out: Sequence[Mapping[str, Any]],
    metrics: plots.Rows,
    timing: plots.Rows,
    seconds: Mapping[str, float],
    vision_metrics: plots.Rows,
    vision_results: Mapping[str, Any],
    files: Mapping[str, Any],
) -> str:
    """The page's HTML; every text is escaped. Empty values stand for what is missing."""
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("flamingo_jax.evaluation", "."),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
    )
    shots, columns, lines = summary_cells(rows)
    return environment.get_template("page.html").render(
        title=title,
        split=split,
        sections=SECTIONS,
        summary=lines,
        summary_shots=shots,
        summary_columns=columns,
        curves=[
            (plots.data_uri(plots.shots_curves(rows, metric)), caption)
            for metric, caption in _CURVES.items()
            if len({row["shots"] for row in rows if row["metric"] == metric}) > 1
        ],
        losses=(
            plots.data_uri(plots.loss_curves(metrics, "nats a scored token")) if metrics else None
        ),
        held_out=held_out_cells(held_out),
        gates=(
            plots.data_uri(plots.gates(metrics)) if any("gates" in row for row in metrics) else None
        ),
        vision_losses=(
            plots.data_uri(plots.loss_curves(vision_metrics, "nats, both directions"))
            if vision_metrics
            else None
        ),
        vision_splits=list(vision_results),
        vision_lines=_by_figure(vision_results),
        gallery=gallery,
        heat_maps=heat_maps,
        cost=_cost(seconds, timing),
        files=[
            (name, json.dumps(value, indent=2, ensure_ascii=False))
            for name, value in files.items()
            if value is not None
        ],
    )


def _cost(seconds: Mapping[str, float], timing: plots.Rows) -> list[tuple[str, str]]:
    """What the run took, stage by stage."""
    cost = [(f"{stage}", f"{value / 60:.1f} min") for stage, value in seconds.items()]
    if seconds:
        cost.append(("all stages", f"{sum(seconds.values()) / 60:.1f} min"))
    if timing:
        for key, unit in (("seconds", "seconds a step"), ("tokens_per_s", "tokens a second")):
            values = sorted(row[key] for row in timing if key in row)
            if values:
                cost.append((f"median {unit}", f"{values[len(values) // 2]:,.2f}"))
        waited = sum(row.get("wait_s", 0.0) for row in timing)
        spent = sum(row.get("seconds", 0.0) for row in timing)
        if spent:
            cost.append(("waiting for data, of all steps", f"{100 * waited / spent:.1f}%"))
    return cost


def _by_figure(results: Mapping[str, Mapping[str, float]]) -> list[tuple[str, list[str]]]:
    """Lines of the vision stage's table: what is measured, and its value in each split."""
    names = dict.fromkeys(name for part in results.values() for name in part)
    return [
        (_VISION.get(name, name.replace("_", " ")), [_shown(p.get(name)) for p in results.values()])
        for name in names
    ]


def _shown(value: float | None) -> str:
    if value is None:
        return "–"
    return f"{value:.3f}" if isinstance(value, float) else str(value)


def _json(path: Path) -> Any:
    if not path.exists():
        return None
    return _undamaged(path, lambda path: json.loads(path.read_text(encoding="utf-8")))


def _lines(path: Path) -> list[dict[str, Any]]:
    """Rows of a .jsonl file; [] if there is none."""
    return _undamaged(path, read_rows)


def _undamaged(path: Path, read: Callable[[Path], Any]) -> Any:
    try:
        return read(path)
    except ValueError as error:
        raise UserError(
            f"{path} is damaged ({error}): delete it and run that step again."
        ) from error
