"""Figures of the report, as matplotlib figures and as data URIs."""

import base64
import io
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

Rows = Sequence[Mapping[str, Any]]

IMAGES = {
    "true": ("#1f5fbf", "its images"),
    "blank": ("#d9822b", "blank images"),
    "none": ("#6b7280", "language model alone"),
}
"""Colour and label of each condition."""

CEILINGS = {
    "ceiling_class_means": ("#1a9850", "class means of the frozen features"),
    "ceiling_names_as_text": ("#8e44ad", "names as text, language model alone"),
}
"""Colour and label of each ceiling."""

GATES = {"alpha_xattn": "cross-attention", "alpha_dense": "feed-forward"}
"""What each gate lets through."""

_CYCLE = ("#1f5fbf", "#d9822b", "#1a9850", "#8e44ad", "#c0392b", "#16a3b8", "#7f8c8d", "#b8860b")


def data_uri(figure: Figure) -> str:
    """The figure as an SVG `data:` URI."""
    file = io.BytesIO()
    figure.savefig(file, format="svg", bbox_inches="tight", metadata={"Date": None})
    return "data:image/svg+xml;base64," + base64.b64encode(file.getvalue()).decode()


def shots_curves(rows: Rows, metric: str) -> Figure:
    """One panel for each benchmark: score against shots, with 95% bands.

    Args:
      rows: of `results.json`.
      metric: `log_likelihood` (drawn with the ceilings), `exact_match` or `language`.
    """
    names = list(dict.fromkeys(row["benchmark"] for row in rows if row["metric"] == metric))
    columns = min(4, max(1, len(names)))
    lines = -(-max(1, len(names)) // columns)
    figure = Figure(figsize=(3.1 * columns, 2.6 * lines + 0.5), layout="constrained")
    axes = figure.subplots(lines, columns, squeeze=False, sharey=True).ravel()
    for axis in axes[len(names) :]:
        axis.remove()
    for axis, name in zip(axes, names, strict=False):
        _shots_panel(axis, [row for row in rows if row["benchmark"] == name], metric)
        axis.set_title(name.replace("_", " "), fontsize=10)
    handles: dict[str, Any] = {}
    for axis in axes[: len(names)]:
        handles.update({label: handle for handle, label in zip(*_legend(axis), strict=True)})
    figure.legend(
        handles.values(), handles.keys(), loc="outside lower center", ncols=3, frameon=False
    )
    return figure


def _legend(axis: Axes) -> tuple[list[Any], list[str]]:
    handles, labels = axis.get_legend_handles_labels()
    return list(handles), list(labels)


def _shots_panel(axis: Axes, rows: Rows, metric: str) -> None:
    shots = sorted({row["shots"] for row in rows if row["metric"] == metric})
    place = {k: i for i, k in enumerate(shots)}
    for images, (colour, label) in IMAGES.items():
        _band(axis, _curve(rows, metric, images), place, colour, label, "-")
    if metric == "log_likelihood":
        for ceiling, (colour, label) in CEILINGS.items():
            found = [row for row in rows if row["metric"] == ceiling and row["shots"] in place]
            _band(axis, found, place, colour, label, "--")
    chance = [row["chance"] for row in rows if row["metric"] == metric]
    if chance and max(chance) > 0:
        axis.axhline(float(np.mean(chance)), color="#111827", lw=1, ls=":", label="chance")
    axis.set_xticks(list(place.values()), [str(k) for k in place])
    axis.set_ylim(-0.02, 1.02)
    axis.set_xlabel("shots")
    _plain(axis)


def _curve(rows: Rows, metric: str, images: str) -> Rows:
    return [row for row in rows if row["metric"] == metric and row["images"] == images]


def _band(
    axis: Axes, rows: Rows, place: Mapping[int, int], colour: str, label: str, style: str
) -> None:
    rows = sorted(rows, key=lambda row: row["shots"])
    if not rows:
        return
    x = [place[row["shots"]] for row in rows]
    low, high = np.array([row["ci95"] for row in rows]).T
    scores, on_top = [row["score"] for row in rows], 3 if rows[0]["images"] == "true" else 2
    axis.plot(x, scores, style, color=colour, label=label, marker="o", ms=3, zorder=on_top)
    axis.fill_between(x, low, high, color=colour, alpha=0.13, lw=0)
    if len(rows) == 1 < len(place):  # measured at one number of shots: a level to compare with
        axis.axhline(rows[0]["score"], color=colour, lw=1, ls=style)


def loss_curves(rows: Rows, unit: str) -> Figure:
    """Training loss over steps, one line for each `loss/NAME` in the rows, smoothed.

    Args:
      rows: of `metrics.jsonl`.
      unit: what the loss is measured in.
    """
    names = sorted({key for row in rows for key in row if key.startswith("loss")})
    parts = [name for name in names if name != "loss"] or names
    figure = Figure(figsize=(8, 3.2), layout="constrained")
    axis = figure.subplots()
    for i, name in enumerate(parts):
        points = [(row["step"], row[name]) for row in rows if name in row]
        steps, values = np.array(points, float).T
        colour = _CYCLE[i % len(_CYCLE)]
        axis.plot(steps, values, color=colour, alpha=0.22, lw=0.8)
        axis.plot(steps, _smooth(values), color=colour, lw=1.6, label=name.removeprefix("loss/"))
    axis.set_xlabel("step")
    axis.set_ylabel(unit)
    axis.xaxis.set_major_locator(MaxNLocator(integer=True))
    if len(parts) > 1:
        axis.legend(frameon=False, fontsize=8, ncols=2)
    _plain(axis)
    return figure


def gates(rows: Rows) -> Figure:
    """tanh(α) of each gated layer: over the steps, and by layer at the end, in the same colours.

    Args:
      rows: of `metrics.jsonl`; those without `gates` are passed over.
    """
    rows = [row for row in rows if "gates" in row]
    layers = [str(layer) for layer in rows[-1]["gates"]["layers"]]
    colours = colormaps["viridis"](np.linspace(0.0, 0.88, len(layers)))  # by depth
    steps = [row["step"] for row in rows]
    figure = Figure(figsize=(9.5, 4.8), layout="constrained")
    axes = figure.subplots(2, 2, width_ratios=(2, 1), sharex="col", sharey="row")
    for (over, last), (name, title) in zip(axes, GATES.items(), strict=True):
        values_SxL = np.tanh(np.array([row["gates"][name] for row in rows], float))
        for values_S, colour in zip(values_SxL.T, colours, strict=True):
            over.plot(steps, values_S, color=colour, lw=1.6, marker="o" if len(rows) == 1 else "")
        last.bar(layers, values_SxL[-1], color=colours)
        over.set_title(f"tanh({name}): {title}", fontsize=10)
        over.set_ylabel("tanh(α)")
        low, high = min(0.0, values_SxL.min()), max(0.0, values_SxL.max())
        margin = 0.08 * (high - low) or 0.1  # all shut: the line at 0 stays in sight
        over.set_ylim(low - margin * (low < 0), high + margin)
        for axis in (over, last):
            axis.axhline(0, color="#9ca3af", lw=0.8)
            _plain(axis)
    axes[0, 1].set_title("at the last step", fontsize=10)
    axes[1, 0].set_xlabel("step")
    axes[1, 0].xaxis.set_major_locator(MaxNLocator(integer=True))
    axes[1, 1].set_xlabel("before language layer")
    axes[1, 1].tick_params(axis="x", rotation=90 * (len(layers) > 16))
    return figure


def heat_map(image_HxWx3: np.ndarray, weights_YxX: np.ndarray) -> str:
    """An image under its attention weights, as a PNG `data:` URI."""
    figure = Figure(figsize=(1.5, 1.5))
    axis = figure.add_axes((0, 0, 1, 1))
    height, width = image_HxWx3.shape[:2]
    axis.imshow(image_HxWx3, extent=(0, width, height, 0))
    extent = (0, width, height, 0)
    axis.imshow(weights_YxX, cmap="inferno", alpha=0.6, extent=extent, interpolation="bicubic")
    axis.axis("off")
    file = io.BytesIO()
    figure.savefig(file, format="png", dpi=96)
    return "data:image/png;base64," + base64.b64encode(file.getvalue()).decode()


def _smooth(values: np.ndarray) -> np.ndarray:
    """Running mean over about a twentieth of the points, narrower at the ends."""
    half = max(1, len(values) // 40)
    sums = np.concatenate([[0.0], np.cumsum(values)])
    at = np.arange(len(values))
    low, high = np.maximum(at - half, 0), np.minimum(at + half + 1, len(values))
    return (sums[high] - sums[low]) / (high - low)


def _plain(axis: Axes) -> None:
    axis.spines[["top", "right"]].set_visible(False)
    axis.grid(axis="y", color="#e5e7eb", lw=0.6)
    axis.set_axisbelow(True)
    axis.tick_params(labelsize=8)
