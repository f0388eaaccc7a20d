"""The main job with files beside the drawings: it trains, tells what it skips, goes on alike."""

import dataclasses
import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from flamingo_jax import job
from flamingo_jax.config import RunConfig
from flamingo_jax.data.datasets import DatasetConfig
from flamingo_jax.errors import UserError
from flamingo_jax.training.journal import read_rows
from flamingo_jax.training.tally import FILE
from tests import tiny_job
from tests.data.sources import files
from tests.data.test_records import many
from tests.tiny_run import finished


def config(folder: Path, **mixture: Any) -> RunConfig:
    """The tiny job with pages, pairs of which two are damaged, and clips, in place of its own."""
    pages, videos = files.obelics(folder / "pages"), files.videos(folder / "videos")
    pairs = many(folder / "pairs", 16, (3, 7))
    datasets = (
        *tiny_job.CONFIG.mixture.datasets[:1],
        DatasetConfig(
            *("pages", "interleaved", 2, 1.0, 48, 2, 48), p_next=0.5, path=str(pages), held_out=4
        ),
        DatasetConfig("pairs", "pairs", 2, 0.2, 24, 1, 24, path=str(pairs), flip=True),
        DatasetConfig("clips", "video", 1, 0.03, 24, 1, 24, frames=4, path=str(videos)),
    )
    changed = dataclasses.replace(tiny_job.CONFIG.mixture, datasets=datasets, **mixture)
    return dataclasses.replace(tiny_job.CONFIG, mixture=changed)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A work directory that has the drawings."""
    monkeypatch.setattr(job.smollm2, "read_language_model", tiny_job.language_model)
    shutil.copytree(finished() / "data", tmp_path / "run" / "data")
    return tmp_path / "run"


@pytest.mark.slow
def test_files_and_drawings_in_one_run(folder: Path, tmp_path: Path) -> None:
    recipe = config(tmp_path, max_bad_fraction=0.5)
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


@pytest.mark.slow
def test_too_many_bad_records_stop_it(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"Data set pairs: up to step \d, .* could not be used"):
        job.run(config(tmp_path, max_bad_fraction=0.01), folder)
    assert not (folder / "results.json").exists()


def test_what_is_wrong_with_a_path_is_told_before_anything_is_made(tmp_path: Path) -> None:
    recipe = config(tmp_path)
    shutil.rmtree(tmp_path / "videos")
    with pytest.raises(UserError, match="Data set clips: There is no file or folder"):
        job.run(recipe, tmp_path / "new")
    assert not (tmp_path / "new").exists()
