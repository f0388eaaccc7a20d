"""README.md and docs/: every command's options exist, and what is cheap is run on the smoke run."""

import os
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from flamingo_jax.checks import check_config
from flamingo_jax.config import resolve
from tests.test_config_flag import parsed
from tests.tiny_run import ROOT

PAGES = sorted([ROOT / "README.md", *(ROOT / "docs").glob("*.md")])
BLOCK = re.compile(r"^```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
LINK = re.compile(r"\]\((?!https?://|#)([^)#]+)")
FEW = ("--families=category", "--shots=0,2", "--episodes=1", "--queries=1")


def blocks(page: Path, language: str) -> list[str]:
    """Fenced blocks of a page in one language."""
    found = BLOCK.findall(page.read_text(encoding="utf-8"))
    return [text for name, text in found if name == language]


def lines(page: Path) -> Iterator[list[str]]:
    """Commands of a page, split as the shell does; && separates two."""
    for text in blocks(page, "sh"):
        for line in re.sub(r"\\\n\s*", "", text).splitlines():
            for part in line.split(" && "):
                if words := shlex.split(part, comments=True):
                    yield words


def commands(*modules: str) -> list[tuple[str, ...]]:
    """Arguments after `python -m` of all pages' commands, of some modules only if named."""
    found = {tuple(words[2:]): None for page in PAGES for words in lines(page) if "-m" in words}
    return [words for words in found if not modules or words[0].split(".")[1] in modules]


CONVERTED = [c for c in commands() if any("models/" in word for word in c)]
"""Commands on converted models, which tests/test_convert.py runs."""
CHEAP = [c for c in commands("generate", "report", "describe") if c not in CONVERTED]


@pytest.fixture
def reader(trained: Path, tmp_path: Path) -> Path:
    """A folder with what a reader of the pages has: a trained run, two images, the configs."""
    folder = tmp_path / "reader"
    (folder / "runs").mkdir(parents=True)
    for name in {
        re.findall(r"runs/\w+", word)[0] for c in commands() for word in c if "runs/" in word
    }:
        (folder / name).symlink_to(trained)
    (folder / "configs").symlink_to(ROOT / "configs")
    rng = np.random.default_rng(0)
    for name in ("a.png", "b.png"):
        Image.fromarray(rng.integers(0, 256, (40, 60, 3), np.uint8)).save(folder / name)
    return folder


def run(folder: Path, *arguments: str) -> str:
    """Runs Python in a folder; returns its standard output."""
    line = [sys.executable, *arguments]
    done = subprocess.run(line, cwd=folder, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_the_pages_name_the_two_commands_and_ci_runs_them() -> None:
    said = [words[0] for words in lines(ROOT / "README.md")]
    assert "python" in said
    ci = (ROOT / ".ci" / "run").read_text(encoding="utf-8")
    for script in ("./launch/local.sh", "./tests/run.sh"):
        assert script in said
        assert re.search(rf"^{re.escape(script)}\b", ci, re.MULTILINE)


@pytest.mark.parametrize("script", ["launch/local.sh", "tests/run.sh"])
def test_scripts_can_be_run(script: str) -> None:
    assert os.access(ROOT / script, os.X_OK)
    subprocess.run(["bash", "-n", ROOT / script], check=True)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_and_paths_lead_somewhere(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    for link in LINK.findall(text):
        assert (page.parent / link).exists(), link
    for name in re.findall(r"`((?:models|data|training|inference|evaluation)/[\w/.]+)`", text):
        assert (ROOT / "flamingo_jax" / name).exists(), name
    for name in re.findall(r"\b(?:configs|flamingo_jax|notebooks)/[\w/]+\.\w+", text):
        assert (ROOT / name).exists() or name == "configs/mine.py", name


def test_the_tree_is_whole() -> None:
    tree = next(iter(blocks(ROOT / "README.md", "text")))
    rooms = {
        path.name for path in (ROOT / "flamingo_jax").iterdir() if (path / "__init__.py").exists()
    }
    assert rooms == set(re.findall(r"^  (\w+)/", tree, re.MULTILINE))
    for name in re.findall(r"^(\w+)/", tree, re.MULTILINE):
        assert (ROOT / name).is_dir()


@pytest.mark.slow
@pytest.mark.parametrize("command", sorted({*commands()} - {*CHEAP, *CONVERTED}), ids=" ".join)
def test_options_exist(command: tuple[str, ...]) -> None:
    run(ROOT, "-m", *command, "--only_check_args")


def jobs() -> list[tuple[str, ...]]:
    """Config flags of every training job on the pages that names a mesh, or a script for pods."""
    found = []
    for words in (words for page in PAGES for words in lines(page)):
        flags = tuple(word for word in words if word.startswith("--config"))
        starts = "launch/" in words[0] or "flamingo_jax.train" in words
        if flags[:1] and starts and ("pod" in flags[0] or any(".mesh." in flag for flag in flags)):
            found.append(flags)
    return found


@pytest.mark.parametrize("flags", jobs(), ids=" ".join)
def test_batches_of_jobs_can_be_split_over_their_mesh(flags: tuple[str, ...]) -> None:
    config = resolve(parsed(*flags))
    assert config.mesh.devices > 1
    check_config(config, config.mesh.devices)


@pytest.mark.slow
@pytest.mark.parametrize("command", CHEAP, ids=" ".join)
def test_cheap_commands_run(command: tuple[str, ...], reader: Path) -> None:
    assert run(reader, "-m", *command).endswith("\n")


@pytest.mark.slow
@pytest.mark.parametrize("command", commands("evaluate")[:1], ids=" ".join)
def test_an_evaluation_runs_with_few_episodes(command: tuple[str, ...], reader: Path) -> None:
    assert "category, log likelihood" in run(reader, "-m", *command, *FEW)


@pytest.mark.slow
@pytest.mark.parametrize(
    "page", [page for page in PAGES if blocks(page, "python")], ids=lambda page: page.name
)
def test_python_runs(page: Path, reader: Path, smoke_run: Path) -> None:
    results = reader / "runs" / "openmoji" / "results.json"
    results.symlink_to(smoke_run / "results.json")
    script = reader / f"{page.stem}.py"
    script.write_text("\n".join(blocks(page, "python")), encoding="utf-8")
    run(reader, str(script))
