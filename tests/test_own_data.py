"""The main job with files beside the drawings: it trains, tells what it skips, goes on alike."""

import dataclasses
import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from flamingo_jax import job
from flamingo_jax.config import RunConfig
from flamingo_jax.data.datasets import DatasetConfig
from flamingo_jax.errors import UserError
from flamingo_jax.parallel.mesh import MeshConfig
from flamingo_jax.training.journal import read_rows
from flamingo_jax.training.tally import FILE
from tests import tiny_job
from tests.data.sources import files
from tests.data.test_records import many
from tests.tiny_run import ROOT, finished, free_port

ONE = MeshConfig()


@pytest.fixture
def sources(tmp_path: Path) -> Path:
    """A folder of pages, pairs of which two are damaged, and clips."""
    files.obelics(tmp_path / "pages")
    many(tmp_path / "pairs", 16, (3, 7))
    files.videos(tmp_path / "videos")
    return tmp_path


def config(folder: Path, mesh: MeshConfig = ONE, **mixture: Any) -> RunConfig:
    """The tiny job with the sources of a folder in place of its own."""
    pages, pairs, videos = (folder / name for name in ("pages", "pairs", "videos"))
    datasets = (
        *tiny_job.CONFIG.mixture.datasets[:1],
        DatasetConfig(
            *("pages", "interleaved", 2, 1.0, 48, 2, 48), p_next=0.5, path=str(pages), held_out=4
        ),
        DatasetConfig("pairs", "pairs", 2, 0.2, 24, 1, 24, path=str(pairs), flip=True),
        DatasetConfig("clips", "video", 2, 0.03, 24, 1, 24, frames=4, path=str(videos)),
    )
    changed = dataclasses.replace(tiny_job.CONFIG.mixture, datasets=datasets, **mixture)
    return dataclasses.replace(tiny_job.CONFIG, mixture=changed, mesh=mesh)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A work directory that has the drawings."""
    monkeypatch.setattr(job.smollm2, "read_language_model", tiny_job.language_model)
    shutil.copytree(finished() / "data", tmp_path / "run" / "data")
    return tmp_path / "run"


@pytest.mark.slow
def test_files_and_drawings_in_one_run(folder: Path, sources: Path) -> None:
    recipe = config(sources, max_bad_fraction=0.5)
    job.run(recipe, folder)
    metrics, bad = read_rows(folder / "metrics.jsonl"), read_rows(folder / FILE)
    assert {"loss/episodes", "loss/pages", "loss/pairs", "loss/clips"} <= set(metrics[-1])
    assert metrics[-1]["skipped"]["pairs"] == {"corrupt_image": len(bad)}
    assert bad
    assert all(row["dataset"] == "pairs" for row in bad)
    assert {row["source"][-2:] for row in bad} <= {"#3", "#7"}
    before = {name: (folder / name).read_bytes() for name in ("metrics.jsonl", FILE)}
    for step in (6, 7):  # as if it had been killed after the third step
        shutil.rmtree(folder / "checkpoints" / str(step))
    (folder / "results.json").unlink()
    job.run(recipe, folder)
    assert before == {name: (folder / name).read_bytes() for name in before}
    held_out = json.loads((folder / "held_out.json").read_text())
    assert [(row["dataset"], row["images"]) for row in held_out] == [
        ("pages", "true"),
        ("pages", "other"),
        ("pages", "blank"),
    ]
    assert f"{held_out[0]['loss']:.3f}" in (folder / "report.html").read_text()
    other = in_two_processes(sources, folder.with_name("two"))
    assert_close(read_rows(other / "metrics.jsonl"), metrics)
    assert (other / FILE).read_bytes() == before[FILE]
    assert_close(json.loads((other / "held_out.json").read_text()), held_out)


def assert_close(found: list[dict[str, Any]], expected: list[dict[str, Any]]) -> None:
    for mine, other in zip(found, expected, strict=True):
        assert mine.get("skipped") == other.get("skipped")
        numbers = {name: value for name, value in other.items() if isinstance(value, float)}
        assert {name: mine[name] for name in numbers} == pytest.approx(numbers, rel=1e-4, abs=1e-4)


PROCESS = """
from flamingo_jax.parallel import processes
processes.start("127.0.0.1:{port}", 2, {index})
from pathlib import Path
from tests.test_own_data import run_job
run_job(Path({sources!r}), Path({folder!r}))
"""


def run_job(sources: Path, folder: Path) -> None:
    """What each of two processes does."""
    tiny_job.install()
    job.run(config(sources, MeshConfig(data=2), max_bad_fraction=0.5), folder)


def in_two_processes(sources: Path, folder: Path) -> Path:
    """The whole job, each process with half of every batch."""
    shutil.copytree(finished() / "data", folder / "data")
    port, running = free_port(), []
    for index in (0, 1):
        code = PROCESS.format(port=port, index=index, sources=str(sources), folder=str(folder))
        told = (folder / f"told.{index}.txt").open("w")
        line = [sys.executable, "-c", code]
        running.append((subprocess.Popen(line, stdout=told, stderr=told, cwd=ROOT), told))
    for process, told in running:
        assert process.wait(timeout=300) == 0, Path(told.name).read_text()
        told.close()
    return folder


@pytest.mark.slow
def test_too_many_bad_records_stop_it(folder: Path, sources: Path) -> None:
    with pytest.raises(UserError, match=r"Data set pairs: up to step \d, .* could not be used"):
        job.run(config(sources, max_bad_fraction=0.01), folder)
    assert not (folder / "results.json").exists()


def test_what_is_wrong_with_a_path_is_told_before_anything_is_made(
    sources: Path, tmp_path: Path
) -> None:
    recipe = config(sources)
    shutil.rmtree(sources / "videos")
    with pytest.raises(UserError, match="Data set clips: There is no file or folder"):
        job.run(recipe, tmp_path / "new")
    assert not (tmp_path / "new").exists()
