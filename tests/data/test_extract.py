"""The commands: one sentence for a mistake, and nothing half-written."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from flamingo_jax.data.shards import DocumentShards
from flamingo_jax.errors import UserError
from tests.data.web.pages import TEXT, picture, site
from tests.tiny_run import ROOT

PAGE = f"<p>{TEXT}</p><img src=a.png><img src=small.png>"


def line(module: str, *options: str) -> list[str]:
    return [sys.executable, "-m", f"flamingo_jax.data.{module}", *options]


def run(module: str, *options: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        line(module, *options), capture_output=True, text=True, check=False, cwd=ROOT
    )


@pytest.fixture
def pages(tmp_path: Path) -> Path:
    pictures = {"a.png": picture(0), "small.png": picture(1, 20, 20)}
    return site(tmp_path / "pages", {"a.html": PAGE}, pictures)


@pytest.mark.slow
def test_extraction_and_hashes(pages: Path, tmp_path: Path) -> None:
    out, hashes = tmp_path / "new" / "out", tmp_path / "hashes.txt"
    done = run("extract", f"--input={pages}", f"--output={out}")
    assert done.returncode == 0, done.stderr
    assert f"{out}: 1 documents, 18 tokens." in done.stdout
    assert "images: 1 of 2 kept; left out: small 1" in done.stdout
    assert len(DocumentShards(out)) == 1
    assert not list(out.parent.glob("*.part"))

    done = run("hash_images", f"--input={pages}/a*.png", f"--output={hashes}")
    assert (done.returncode, done.stdout) == (0, f"{hashes}: 1 images.\n")
    again = tmp_path / "again"
    done = run("extract", f"--input={pages}", f"--output={again}", f"--exclude_images={hashes}")
    assert done.returncode == 0, done.stderr
    stats = json.loads((again / "stats.json").read_text())
    assert stats["images"]["dropped"] == {"in_evaluation": 1, "small": 1}
    assert stats["pages"] == {"in": 1, "kept": 0, "dropped": {"no_image": 1}}


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        (["--input={0}/pages", "--limits=side=3"], "--limits: there is no 'side', only min_side,"),
        (["--input={0}/pages", "--runner=NoRunner"], "--runner=NoRunner cannot be used:"),
    ],
)
def test_mistakes(pages: Path, tmp_path: Path, options: list[str], sentence: str) -> None:
    given = [option.format(tmp_path) for option in options]
    done = run("extract", *given, f"--output={tmp_path}/out")
    assert done.returncode == 1
    assert sentence.format(tmp_path) in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1
    assert sorted(path.name for path in tmp_path.iterdir()) == ["pages"]


def test_an_output_that_exists_is_left_alone(pages: Path, tmp_path: Path) -> None:
    done = run("extract", f"--input={pages}", f"--output={pages}")
    assert done.returncode == 1
    assert "exists: choose another --output" in done.stderr
    assert (pages / "a.html").read_text() == PAGE


@pytest.mark.slow
def test_a_killed_run_leaves_nothing_that_looks_finished(tmp_path: Path) -> None:
    """Killed at the worst moment that can be met from outside: documents are being written."""
    names = {
        f"{i}.html": f"<p>{' '.join(f'w{i}x{j}' for j in range(500))}</p><img src={i}.png>"
        for i in range(150)
    }
    pages = site(tmp_path / "pages", names, {f"{i}.png": picture(i) for i in range(150)})
    out, part = tmp_path / "out", tmp_path / "out.part"
    command = line("extract", f"--input={pages}", f"--output={out}")
    started = subprocess.Popen(
        command, cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    while not list(part.glob("candidates/*")) and started.poll() is None:
        time.sleep(0.01)
    os.kill(started.pid, signal.SIGKILL)
    assert started.wait() == -signal.SIGKILL
    assert not out.exists()
    with pytest.raises(UserError):
        DocumentShards(part)
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert len(DocumentShards(out)) == 150
    assert not part.exists()
