"""The evaluate and report commands on a trained work directory."""

import json
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.tiny_run import finished, python


@pytest.fixture(scope="module")
def tiny_run() -> Path:
    return finished()


def command(module: str, folder: Path, *options: str) -> subprocess.CompletedProcess[str]:
    return python(f"flamingo_jax.{module}", f"--model={folder}", *options)


@pytest.mark.parametrize(
    ("option", "sentence"),
    [
        ("--shots=0,16", "evaluation.tokens is 64, but a prompt of category_binding with 16 shots"),
        ("--shots=0,many", "--shots takes numbers, such as 0,4,8: "),
        ("--families=names", "evaluation.families ['names'] are not among "),
        ("--queries=0", "evaluation.episodes and evaluation.queries must be at least 1."),
    ],
)
def test_what_cannot_be_asked_is_told_first(tiny_run: Path, option: str, sentence: str) -> None:
    done = command("evaluate", tiny_run, option)
    assert done.returncode == 1
    assert done.stderr.startswith(sentence)
    assert len(done.stderr.strip().splitlines()) == 1


def test_the_validation_split_is_measured_and_reported_beside_the_test(
    tiny_run: Path, tmp_path: Path
) -> None:
    folder = shutil.copytree(tiny_run, tmp_path / "run")
    done = command("evaluate", folder, "--split=validation", "--shots=0,1", "--seed=3")
    assert done.returncode == 0, done.stderr
    assert "category binding" in done.stdout
    rows = json.loads((folder / "results-validation.json").read_text())
    assert {row["shots"] for row in rows} == {0, 1}
    assert {row["seed"] for row in rows} == {3}
    before = (tiny_run / "results.json").read_bytes()
    assert (folder / "results.json").read_bytes() == before
    done = command("report", folder, "--split=validation")
    assert done.stdout == f"Report: {folder / 'report-validation.html'}\n"
    assert (done.returncode, done.stderr) == (0, "")
