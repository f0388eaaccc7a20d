"""The page on what a training step costs, and its figure, made of what `scaling` found."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from flamingo_jax.checkpoints.files import replaced

Rows = Sequence[Mapping[str, Any]]

PANELS = (
    ("devices", "step_s", "seconds a step, by devices"),
    ("tokens", "step_s", "seconds a step, by tokens"),
    ("images", "step_s", "seconds a step, by images"),
    ("layers", "step_s", "seconds a step, by layers"),
    ("layers", "compile_s", "seconds to compile, by layers"),
    ("remat", "temp_mb", "MB of intermediate values, by remat"),
)
"""Part, figure and title of each panel."""

SECTIONS = {
    "devices": """## Devices

The same batch on more devices: split over all of them (`mesh.data`), or with the weights and the
optimizer's state split too (`mesh.fsdp`). Each column of memory is for one device. The loss after
the last step is that of one device.""",
    "tokens": "## Length of a sequence",
    "images": "## Images of a sequence\n\nEach goes through the frozen encoder in the step.",
    "layers": """## Layers of the language model

`loop` compiles one group of layers, a cross-attention and the frozen layers after it, and runs that
as often as there are groups; `unrolled` (`config.unroll`) compiles them one after another.""",
    "remat": """## Rematerialisation

`config.remat` says what the backward pass computes anew: nothing, all but what products with
weights and attention give (`dots`), or everything (`full`).""",
}
"""Heading and words of each part."""


def write(folder: Path, found: Mapping[str, Any]) -> None:
    """Writes `performance.md` and `performance.png`, each whole or not at all.

    Args:
      folder: made if absent.
      found: from `flamingo_jax.speed.scaling.measure`.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with replaced(folder / "performance.png") as part:
        figure(found["rows"]).savefig(part, format="png", dpi=110, metadata={"Software": None})
    with replaced(folder / "performance.md") as part:
        part.write_text(page(found), encoding="utf-8")


def page(found: Mapping[str, Any]) -> str:
    """The page, in Markdown."""
    base = found["base"]
    sections = [f"{words}\n\n{table(found['rows'], part)}" for part, words in SECTIONS.items()]
    return f"""# Performance

```sh
python -m flamingo_jax.benchmark --what=scaling --output=docs
```

made this page and its figure, on {found["cores"]} cores ({found["machine"]}). **The devices are
made of that CPU and share its cores**: what their rows show is what splitting a step costs there,
not what more hardware would bring, and no TPU or GPU has been measured. Other work on the machine
shows in seconds, not in bytes.

Every point is the whole training step, from pixels to new parameters, in float32, compiled and run
in a process of its own. The lines meet at {base["batch"]} sequences of {base["tokens"]} tokens with
{base["images"]} images of {base["image_size"]} px, and a language model of {base["layers"]} layers
of width {base["width"]} (`scaling` in `configs/benchmark_common.py` changes these). Seconds a step
are the shortest of a few; compiling includes tracing; MB are what the program needs on each device,
for intermediate values and for weights, optimizer state and inputs.

![Cost of a training step by devices, tokens, images, layers and remat](performance.png)

{chr(10).join(f"{section}{chr(10)}" for section in sections)}"""


def table(rows: Rows, part: str) -> str:
    """The rows of one part, as Markdown."""
    rows = [row for row in rows if row["part"] == part]
    several = len({row["series"] for row in rows}) > 1
    head = [part, "step, s", "compile, s", "intermediate, MB", "held, MB", "loss"]
    lines = [head, ["---"] * len(head)]
    for row in rows:
        name = f"{row['series']} {row['value']}" if several else str(row["value"])
        figures = (row["step_s"], row["compile_s"], row["temp_mb"], row["argument_mb"])
        lines.append([name, *(f"{value:.3g}" for value in figures), f"{row['loss']:.5f}"])
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def figure(rows: Rows) -> Figure:
    """One panel for each of `PANELS`."""
    drawn = Figure(figsize=(11, 6), layout="constrained")
    for axis, (part, field, title) in zip(drawn.subplots(2, 3).ravel(), PANELS, strict=True):
        _panel(axis, [row for row in rows if row["part"] == part], field)
        axis.set_title(title, fontsize=10)
        axis.set_ylim(bottom=0)
    return drawn


def _panel(axis: Axes, rows: Rows, field: str) -> None:
    names = list(dict.fromkeys(row["series"] for row in rows))
    for name in names:
        line = [row for row in rows if row["series"] == name]
        values, heights = [row["value"] for row in line], [row[field] for row in line]
        if isinstance(values[0], str):
            axis.bar(values, heights, color="#1f5fbf")
            continue
        axis.plot(values, heights, marker="o", label=name)
        axis.set_xticks(values)
    if len(names) > 1:
        axis.legend(fontsize=9)
