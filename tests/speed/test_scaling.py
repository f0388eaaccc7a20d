"""What a step costs against its work: which points are measured, and the page made of them."""

import dataclasses
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from flamingo_jax.errors import UserError
from flamingo_jax.speed import scaling, scaling_page, workload
from tests.test_benchmark import ROOT, TINY, recipe

SMALL = {
    **{"devices": (1, 2), "tokens": (6,), "images": (2,), "layers": (4,), "remat": ("none",)},
    **{"width": 16, "vocab_size": 30, "image_size": 8, "batch": 2, "repeats": 1},
}


def rows_of(step_s: float = 0.5) -> list[dict[str, Any]]:
    points = scaling.points(workload.read(recipe()))
    figures = {"step_s": step_s, "compile_s": 12.3, "temp_mb": 4.5, "argument_mb": 6.0, "loss": 7.0}
    named = ({k: getattr(p, k) for k in ("part", "series", "value")} for p in points)
    return [{**name, **figures} for name in named]


def test_each_line_changes_one_thing_and_meets_the_others() -> None:
    config = workload.read(recipe())
    base = scaling.common_point(config)
    assert (base.decoder.width, base.decoder.mlp_dim, base.unroll) == (128, 512, False)
    lines: dict[tuple[str, str], list[scaling.Point]] = {}
    for point in scaling.points(config):
        lines.setdefault((point.part, point.series), []).append(point)
    assert {name: [p.value for p in line] for name, line in lines.items()} == {
        ("devices", "data"): [1, 2, 4, 8],
        ("devices", "fsdp"): [1, 2, 4, 8],
        ("tokens", "tokens"): [64, 128, 256],
        ("images", "images"): [1, 2, 4],
        ("layers", "loop"): [4, 8, 16],
        ("layers", "unrolled"): [4, 8, 16],
        ("remat", "remat"): ["none", "dots", "full"],
    }
    for (part, series), line in lines.items():
        fields = {
            **{"devices": lambda p: getattr(p.config.mesh, p.series)},
            **{"tokens": lambda p: p.config.work.tokens, "images": lambda p: p.config.work.images},
            **{"layers": lambda p: p.config.decoder.num_layers},
            **{"remat": lambda p: p.config.remat},
        }
        assert [fields[part](point) for point in line] == [point.value for point in line]
        assert (base in [point.config for point in line]) == (series != "unrolled")
        assert all(p.config.unroll == (series == "unrolled") for p in line)


def test_a_page_has_every_row_and_its_figure(tmp_path: Path) -> None:
    found = {
        **{"machine": "a CPU", "cores": 2, "rows": rows_of()},
        "base": {
            **{"batch": 8, "tokens": 128, "images": 2, "layers": 8, "width": 128},
            "image_size": 64,
        },
    }
    scaling_page.write(tmp_path / "docs", found)
    text = (tmp_path / "docs" / "performance.md").read_text()
    assert "on 2 cores (a CPU)" in text
    assert "share its cores" in text
    assert text.count("| 0.5 | 12.3 | 4.5 | 6 | 7.00000 |") == len(found["rows"])
    for name in ("data 8", "fsdp 2", "unrolled 16", "256", "dots"):
        assert f"| {name} | 0.5 |" in text
    with Image.open(tmp_path / "docs" / "performance.png") as image:
        assert min(image.size) > 500
    assert sorted(p.name for p in (tmp_path / "docs").iterdir()) == [
        *("performance.md", "performance.png")
    ]


def test_a_mesh_that_does_not_fit_is_told_by_its_name() -> None:
    config = workload.read(recipe(**TINY, scaling={**SMALL, "batch": 3}))
    wrong = dataclasses.replace(scaling.common_point(config), mesh=workload.MeshConfig(data=64))
    with pytest.raises(UserError, match="has 64 devices but JAX sees"):
        scaling.measure_point(wrong)


@pytest.mark.slow
def test_the_command_measures_and_writes(tmp_path: Path) -> None:
    rooms = {**TINY, "scaling": SMALL}
    flags = [
        f"--config.{room}.{k}={v}" for room, fields in rooms.items() for k, v in fields.items()
    ]
    done = subprocess.run(
        [
            *(sys.executable, "-m", "flamingo_jax.benchmark", "--config.vision.num_heads=2"),
            *(*flags, "--what=scaling", f"--output={tmp_path}"),
        ],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    rows = {(row["series"], row["value"]): row for row in found["rows"]}
    assert len(found["rows"]) == 9
    assert rows["data", 1] == {
        **rows["remat", "none"],
        "part": "devices",
        "series": "data",
        "value": 1,
    }
    for row in found["rows"]:
        assert min(row["step_s"], row["compile_s"], row["temp_mb"], row["argument_mb"]) >= 0
    for series in ("data", "fsdp"):  # the same step on more devices
        assert rows[series, 2]["loss"] == pytest.approx(rows[series, 1]["loss"], abs=1e-4)
    assert rows["fsdp", 2]["argument_mb"] < rows["data", 2]["argument_mb"]
    assert rows["unrolled", 4]["loss"] == pytest.approx(rows["loop", 4]["loss"], abs=1e-4)
    assert "| fsdp 2 |" in (tmp_path / "performance.md").read_text()
