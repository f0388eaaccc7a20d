"""The main job is killed, stopped, starved of room and damaged, and ends as if it had not been."""

import dataclasses
import json
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import chex
import jax
import numpy as np
import pytest

from flamingo_jax import job
from flamingo_jax.checkpoints.store import load_params, load_tree
from flamingo_jax.errors import UserError
from flamingo_jax.models.axes import parameter_axes
from flamingo_jax.parallel.layout import Layout
from flamingo_jax.parallel.mesh import MeshConfig, make_mesh
from flamingo_jax.training.journal import read_rows
from tests import tiny_job
from tests.checkpoints.test_store import damage, mounted
from tests.tiny_run import ROOT, finished, python, said

SAME = (
    *("config.json", "tokenizer.json", "metrics.jsonl", "results.json", "gallery.json"),
    *("attention.json", "vision/metrics.jsonl", "vision/results.json"),
)
STEPS, VISION_STEPS = tiny_job.CONFIG.loop.steps, tiny_job.CONFIG.vision_training.steps


def start(folder: Path, *arguments: object) -> subprocess.Popen[str]:
    """The tiny job in a process of its own, with no way to the network."""
    command = [sys.executable, "-m", "tests.tiny_job", str(folder), *map(str, arguments)]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    return subprocess.Popen(command, text=True, cwd=ROOT, **pipes)


def run(folder: Path, *arguments: object) -> tuple[int, str, list[str]]:
    """(status, stdout, lines on stderr that are not progress bars)."""
    done = python("tests.tiny_job", folder, *arguments)
    return done.returncode, done.stdout, said(done.stderr)


def when(path: Path, rows: int) -> Callable[[], bool]:
    """Tells when a .jsonl file has so many rows."""
    return lambda: len(read_rows(path)) >= rows


def signalled(folder: Path, ready: Callable[[], bool], number: int) -> tuple[int, list[str]]:
    """Starts the job and sends a signal as soon as `ready` says so: (status, stderr)."""
    process = start(folder)
    while not ready() and process.poll() is None:
        time.sleep(0.005)
    process.send_signal(number)
    errors = process.communicate()[1]
    return process.returncode, said(errors)


def assert_same(folder: Path, whole: Path) -> None:
    """Metrics of both stages, figures, parameters and frozen weights are equal, bit for bit."""
    for name in SAME:
        assert (folder / name).read_bytes() == (whole / name).read_bytes(), name
    for stage in ("checkpoints", "vision/checkpoints"):
        chex.assert_trees_all_equal(load_params(folder / stage), load_params(whole / stage))
    for tree in ("frozen", "vision/encoder"):
        chex.assert_trees_all_equal(load_tree(folder / tree), load_tree(whole / tree))
    leftovers = (".part", ".orbax-checkpoint-tmp", ".incomplete")
    assert not [path for path in folder.rglob("*") if any(s in path.name for s in leftovers)]


@pytest.fixture(scope="module")
def whole() -> Path:
    """The work directory of an undisturbed run."""
    return finished()


def copied(whole: Path, folder: Path, *without: str) -> Path:
    """A copy of a finished run without some of its files."""
    shutil.copytree(whole, folder)
    for name in without:
        path = folder / name
        shutil.rmtree(path) if path.is_dir() else path.unlink()
    return folder


@pytest.mark.slow
def test_stages_and_metrics_are_all_there(whole: Path) -> None:
    assert [row["step"] for row in read_rows(whole / "metrics.jsonl")] == [*range(1, STEPS + 1)]
    rows = read_rows(whole / "vision" / "metrics.jsonl")
    assert [row["step"] for row in rows] == [*range(1, VISION_STEPS + 1)]
    assert set(json.loads((whole / "stages.json").read_text())) == {
        *("data", "vision", "flamingo", "evaluation")
    }
    assert {"jax", "git", "device"} <= set(json.loads((whole / "versions.json").read_text()))


@pytest.mark.slow
def test_killed_three_times_and_still_the_same(whole: Path, tmp_path: Path) -> None:
    """SIGKILL in vision pretraining, after a save of Flamingo training, and between two saves."""
    folder = tmp_path / "run"
    for path, rows in (("vision/metrics.jsonl", 3), ("metrics.jsonl", 3), ("metrics.jsonl", 5)):
        status, _ = signalled(folder, when(folder / path, rows), signal.SIGKILL)
        assert status == -signal.SIGKILL
        assert not (folder / "results.json").exists()
    assert_goes_on(folder, whole)


@pytest.mark.slow
def test_killed_before_any_change_of_a_file(whole: Path, tmp_path: Path) -> None:
    """From the first folder that is made to the last file of the evaluation, each time later."""
    changes = int(whole.with_name("changes").read_text())
    folder = tmp_path / "run"
    for share in (0.02, 0.13, 0.15, 0.2, 0.2, 0.15, 0.13):
        status, _, lines = run(folder, int(share * changes))
        assert status == -signal.SIGKILL, lines
    assert_goes_on(folder, whole)


def assert_goes_on(folder: Path, whole: Path) -> None:
    """The job ends as the other did, and tells of an unfinished checkpoint if it found one."""
    told = [path.name.split(".")[0] for path in sorted(folder.rglob("*.orbax-checkpoint-tmp*"))]
    status, _, lines = run(folder)
    assert status == 0
    assert len(lines) <= len(told)  # trees that are no steps of a run are made again in silence
    assert all("was not finished when its writer stopped, and is removed" in x for x in lines)
    assert_same(folder, whole)


@pytest.mark.slow
def test_stopped_with_one_line_and_still_the_same(whole: Path, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    for number, path, sentence in (
        (signal.SIGTERM, "vision/metrics.jsonl", r"Stopped vision pretraining at step \d of 5"),
        (signal.SIGINT, "metrics.jsonl", r"Stopped at step \d of 7, saved in .*/run: the same"),
    ):
        status, lines = signalled(folder, when(folder / path, 1), number)
        assert status == 130
        assert len(lines) == 1
        assert re.match(sentence, lines[0])
    assert run(folder)[0] == 0
    assert_same(folder, whole)


@pytest.mark.slow
def test_a_finished_run_is_reported_again_without_work(whole: Path, tmp_path: Path) -> None:
    folder = copied(whole, tmp_path / "run", "report.html")
    before = {path: path.stat().st_mtime_ns for path in folder.rglob("*.npz")}
    status, out, lines = run(folder)
    assert (status, lines) == (0, [])
    assert "category binding" in out
    assert (folder / "report.html").exists()
    assert before == {path: path.stat().st_mtime_ns for path in folder.rglob("*.npz")}
    assert_same(folder, whole)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("stage", "kind", "without"),
    [
        ("checkpoints", "truncated", ("results.json",)),
        (
            "vision/checkpoints",
            "deleted",
            ("frozen", "vision/encoder", "checkpoints", "metrics.jsonl", "results.json"),
        ),
    ],
)
def test_a_damaged_checkpoint_costs_the_steps_since_the_one_before(
    whole: Path, tmp_path: Path, stage: str, kind: str, without: tuple[str, ...]
) -> None:
    folder = copied(whole, tmp_path / "run", *without)
    newest = max(int(path.name) for path in (folder / stage).iterdir())
    damage(folder / stage / str(newest), kind)
    status, _, lines = run(folder)
    assert status == 0
    assert len(lines) == 1
    assert f"{stage}/{newest} cannot be read" in lines[0]
    assert "going back to the one before" in lines[0]
    assert_same(folder, whole)


@pytest.mark.slow
def test_damaged_features_are_computed_again(whole: Path, tmp_path: Path) -> None:
    folder = copied(whole, tmp_path / "run", "results.json", "checkpoints", "metrics.jsonl")
    stored = folder / "vision" / "features.npz"
    stored.write_bytes(stored.read_bytes()[:5000])
    status, _, lines = run(folder)
    assert status == 0
    assert len(lines) == 1
    assert "features.npz cannot be read" in lines[0]
    assert_same(folder, whole)


@pytest.mark.slow
def test_damaged_frozen_weights_say_what_to_do(whole: Path, tmp_path: Path) -> None:
    folder = copied(whole, tmp_path / "run")
    damage(folder / "frozen", "zeroed")
    status, _, lines = run(folder)
    assert status == 1
    assert len(lines) == 1
    assert "delete that folder and run the job again" in lines[0]
    shutil.rmtree(folder / "frozen")
    assert run(folder)[0] == 0
    assert_same(folder, whole)


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system too small for a run."""
    with mounted(tmp_path / "disk", "64m") as folder:
        yield folder


@pytest.mark.slow
def test_a_full_disk_stops_with_one_sentence(whole: Path, small_disk: Path) -> None:
    """The disk fills up as soon as a file is there; with room again the run goes on."""
    folder, filler = small_disk / "run", small_disk / "filler"
    for path in ("data", "vision/metrics.jsonl", "vision/features.npz", "checkpoints/3"):
        process = start(folder)
        while not (folder / path).exists() and process.poll() is None:
            time.sleep(0.002)
        fill(filler)
        out, errors = process.communicate()
        assert process.returncode == 1, (path, out, errors)
        (sentence,) = said(errors)
        assert "room" in sentence
        filler.unlink()
    assert run(folder)[0] == 0
    assert_same(folder, whole)


def fill(path: Path) -> None:
    """Writes a file until its disk is full."""
    with path.open("wb", buffering=0) as file:
        try:
            while file.write(bytes(4096)):
                pass
        except OSError:
            pass


@pytest.mark.slow
def test_what_is_frozen_is_stored_once(whole: Path) -> None:
    """In a folder of its own; a step holds three arrays for each new one, and counts."""
    frozen = {np.shape(leaf) for leaf in jax.tree.leaves(load_tree(whole / "frozen"))}
    embedding = (tiny_job.DECODER.vocab_size, tiny_job.DECODER.width)
    assert embedding in frozen
    for step in (whole / "checkpoints").iterdir():
        state = load_tree(step / "state")
        leaves = [leaf for leaf in jax.tree.leaves(state) if np.ndim(leaf)]
        assert embedding not in {np.shape(leaf) for leaf in leaves}
        new = sum(np.size(leaf) for leaf in jax.tree.leaves(state["params"]))
        assert sum(map(np.size, leaves)) == pytest.approx(3 * new, rel=0.01)
    assert [path.parent for path in whole.rglob("frozen")] == [whole]


@pytest.mark.slow
def test_a_folder_of_another_config_says_what_differs(whole: Path) -> None:
    loop = dataclasses.replace(tiny_job.CONFIG.loop, steps=9)
    other = dataclasses.replace(tiny_job.CONFIG, loop=loop, seed=4)
    message = r"another config \(loop.steps: 7 there, 9 here; seed: 0 there, 4 here\)"
    with pytest.raises(UserError, match=message):
        job.claim(other, whole)


def test_a_folder_that_cannot_be_written_is_told() -> None:
    with pytest.raises(
        UserError, match=r"--workdir=/proc cannot be written \(.*\): choose another"
    ):
        job.claim(tiny_job.CONFIG, Path("/proc"))


def test_frozen_weights_that_cannot_be_split_are_told_before_anything_is_made() -> None:
    heads = dataclasses.replace(tiny_job.CONFIG.decoder, num_heads=3, num_kv_heads=3)
    config = dataclasses.replace(tiny_job.CONFIG, decoder=heads, mesh=MeshConfig(tensor=2))
    layout = Layout(make_mesh(MeshConfig()), config.mesh, parameter_axes)  # never used to compute
    with pytest.raises(
        UserError, match=r"Parameter .*heads' of 3 cannot be split into the 2 parts"
    ):
        job.check_split(config, layout)


@pytest.mark.slow
def test_a_run_goes_on_with_another_mesh_and_other_workers(whole: Path) -> None:
    config = tiny_job.CONFIG
    other = dataclasses.replace(
        config,
        remat="full",
        mesh=dataclasses.replace(config.mesh, data=2, fsdp=4),
        mixture=dataclasses.replace(config.mixture, workers=2),
        loop=dataclasses.replace(config.loop, save_every=1, stall_minutes=1.0),
    )
    job.claim(other, whole)
    with pytest.raises(UserError, match=r"another config \(loop.steps: 7 there, 9 here\)"):
        job.claim(dataclasses.replace(other, loop=dataclasses.replace(other.loop, steps=9)), whole)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"vision_training": {"batch": 5000}}, r"lower vision_training\.batch"),
        ({"evaluation": {"tokens": 20}}, r"evaluation\.tokens is 20, but a prompt of .* needs \d+"),
        ({"evaluation": {"shots": (0, 16)}}, r"16 shots needs \d+: raise it, or take fewer"),
        ({"decoder": {"num_layers": 4}}, r"where num_layers is 3, not 4"),
        ({"mesh": {"data": 8}}, r"cannot be split into 8 parts over data"),
    ],
)
def test_what_cannot_fit_is_told_before_training(
    whole: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    change: dict[str, dict],
    message: str,
) -> None:
    folder = tmp_path / "run"
    shutil.copytree(whole / "data", folder / "data")
    parts = {
        name: dataclasses.replace(getattr(tiny_job.CONFIG, name), **fields)
        for name, fields in change.items()
    }
    monkeypatch.setattr(job.smollm2, "read_language_model", tiny_job.language_model)
    with pytest.raises(UserError, match=message):
        job.run(dataclasses.replace(tiny_job.CONFIG, **parts), folder)
    assert not (folder / "metrics.jsonl").exists()
    assert not list(folder.rglob("metrics.jsonl"))
