"""The entry points on a whole smoke-sized run: what they write, say, and leave untouched."""

import base64
import json
import re
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path

import chex
import numpy as np
import pytest
from PIL import Image

from flamingo_jax import config
from flamingo_jax.checkpoints import smollm2
from flamingo_jax.checkpoints.store import load_tree
from flamingo_jax.evaluation.table import SHOTS
from flamingo_jax.models.flamingo import stack_layers
from flamingo_jax.training.journal import read_rows
from tests.tiny_run import ROOT

pytestmark = pytest.mark.slow

ROW = {"benchmark", "shots", "seed", "metric", "score", "ci95", "queries", "images", "chance"}


def run(*arguments: object) -> subprocess.CompletedProcess[str]:
    """A program of the package, in a process of its own."""
    command = [sys.executable, "-m", *map(str, arguments)]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)


def test_every_stage_leaves_its_files(smoke_run: Path) -> None:
    asked = config.load(smoke_run / "config.json")
    for name, steps in (("", asked.loop.steps), ("vision", asked.vision_training.steps)):
        assert read_rows(smoke_run / name / "metrics.jsonl")[-1]["step"] == steps
        assert (smoke_run / name / "checkpoints" / str(steps)).is_dir()
    stages = json.loads((smoke_run / "stages.json").read_text())
    assert list(stages) == ["data", "vision", "flamingo", "evaluation"]
    versions = json.loads((smoke_run / "versions.json").read_text())
    assert {"python", "jax", "git", "device"} <= versions.keys()


def test_gates_are_logged_by_language_layer(smoke_run: Path) -> None:
    asked = config.load(smoke_run / "config.json")
    layers = list(range(asked.xattn.first, asked.decoder.num_layers, asked.xattn.every))
    for row in read_rows(smoke_run / "metrics.jsonl"):
        assert row["gates"]["layers"] == layers
        assert {len(row["gates"][name]) for name in ("alpha_xattn", "alpha_dense")} == {len(layers)}


def test_frozen_language_model_is_that_of_the_file(smoke_run: Path) -> None:
    asked = config.load(smoke_run / "config.json")
    _, top, layers = smollm2.read_language_model(smollm2.find_gguf())
    expected = {"vocabulary": top, **stack_layers(layers, asked.model)}
    chex.assert_trees_all_equal(load_tree(smoke_run / "frozen")["language"], expected)


def test_rows_of_the_results(smoke_run: Path) -> None:
    rows = json.loads((smoke_run / "results.json").read_text())
    asked = config.load(smoke_run / "config.json").evaluation
    for row in rows:
        assert row.keys() == ROW
        assert row["images"] in ("true", "blank", "none")
        low, high = row["ci95"]
        assert 0 <= low <= row["score"] <= high <= 1
        assert row["queries"] == asked.episodes * asked.queries
    scored = {
        (row["benchmark"], row["shots"], row["images"])
        for row in rows
        if row["metric"] == "log_likelihood"
    }
    assert scored == {
        (family, shots, images)
        for family in asked.families
        for shots in asked.shots
        for images in ("true", "blank", "none")
    }


class Loads(HTMLParser):
    """Collects all that a browser would load to show a page."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.found: list[str] = []
        self._style = False
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self._style = tag == "style"
        if tag in ("script", "iframe", "object", "embed"):
            self.found.append(tag)
        for name, value in attrs:
            loads = ("src", "srcset", "poster", "background", "xlink:href", "formaction")
            if name in loads or (name == "href" and tag != "a"):
                self.found.append(value or "")
            if name == "style" or name.startswith("on"):
                self._css(value or "")

    def handle_endtag(self, tag: str) -> None:
        self._style = self._style and tag != "style"

    def handle_data(self, data: str) -> None:
        if self._style:
            self._css(data)

    def _css(self, text: str) -> None:
        self.found += re.findall(r"url\(\s*['\"]?([^'\")]+)", text)
        self.found += re.findall(r"@import\s+['\"]?([^'\";]+)", text)


def test_report_needs_nothing_beside_it(smoke_run: Path) -> None:
    page = (smoke_run / "report.html").read_text()
    loads = Loads(page).found
    assert loads
    assert all(load.startswith("data:image/") for load in loads)
    drawn = [load.partition("base64,")[2] for load in loads if load.startswith("data:image/svg")]
    assert len(drawn) >= 5  # two shots curves, losses, gates and the vision encoder's loss
    for code in drawn:
        inside = Loads(base64.b64decode(code).decode()).found
        assert all(load.startswith(("#", "data:image/")) for load in inside)


def test_report_shows_every_part(smoke_run: Path) -> None:
    page = (smoke_run / "report.html").read_text()
    assert 'class="note"' not in page  # which says that something is missing
    for text in ("before layer", "right answer", "Config and cost", "CC BY-SA 4.0", "waiting for"):
        assert text in page


def test_a_finished_run_says_what_is_there(smoke_run: Path) -> None:
    kept = ("results.json", "metrics.jsonl", "frozen/sums.0.json", "vision/results.json")
    before = [(smoke_run / name).stat().st_mtime_ns for name in kept if (smoke_run / name).exists()]
    done = run(
        *("flamingo_jax.train", "--config=configs/openmoji_smoke.py", f"--workdir={smoke_run}")
    )
    assert done.returncode == 0, done.stderr
    shots = config.load(smoke_run / "config.json").evaluation.shots
    assert done.stdout.startswith(f"{max(k for k in shots if k <= SHOTS)} shots")
    assert done.stdout.splitlines()[-1] == f"Report: {smoke_run / 'report.html'}"
    assert done.stderr.strip() == ""  # no bar: nothing was done again
    after = [(smoke_run / name).stat().st_mtime_ns for name in kept if (smoke_run / name).exists()]
    assert after == before


def test_generate_reads_every_kind_of_image(trained: Path, tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    frames = [Image.fromarray(rng.integers(0, 256, (50, 70, 3), np.uint8)) for _ in range(3)]
    images = [tmp_path / f"picture.{kind}" for kind in ("png", "jpg", "webp", "gif")]
    for path in images[:3]:
        frames[0].save(path)
    frames[0].save(images[3], save_all=True, append_images=frames[1:], duration=100)
    prompt = "<image>Output: cat<|endofchunk|>" * 3 + "<image>Output:"
    done = run(
        "flamingo_jax.generate",
        f"--model={trained}",
        f"--prompt={prompt}",
        *(f"--image={path}" for path in images),
        "--max_new_tokens=4",
    )
    assert done.returncode == 0, done.stderr
    assert len(done.stdout.splitlines()) == 1
    assert not done.stderr


def test_generate_counts_images(trained: Path) -> None:
    done = run("flamingo_jax.generate", f"--model={trained}", "--prompt=<image>Output:")
    assert done.returncode == 1
    assert len(done.stderr.splitlines()) == 1
    assert "1 <image> markers but 0 images" in done.stderr


def test_evaluate_and_report_on_validation(trained: Path) -> None:
    few = ("--families=category", "--shots=0,2", "--episodes=1", "--queries=2", "--seed=3")
    done = run("flamingo_jax.evaluate", f"--model={trained}", "--split=validation", *few)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("2 shots")
    rows = json.loads((trained / "results-validation.json").read_text())
    assert all(row.keys() == ROW and row["seed"] == 3 and row["queries"] == 2 for row in rows)
    assert {row["shots"] for row in rows} == {0, 2}
    done = run("flamingo_jax.report", f"--model={trained}", "--split=validation")
    assert done.stdout.strip() == f"Report: {trained / 'report-validation.html'}"
    assert not (trained / "results.json").exists()
