"""Checkpoints: read back bit for bit, passed over when damaged, safe on a full disk."""

import contextlib
import json
import resource
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax.experimental import multihost_utils

from flamingo_jax.checkpoints.store import StepStore, load_params, load_tree, save_tree
from flamingo_jax.errors import UserError
from flamingo_jax.training.state import TrainState
from tests.tiny_run import ROOT

# After a failed write or read, tensorstore calls a loop that orbax has closed.
pytestmark = pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")


def state(step: int, size: int = 40) -> dict[str, Any]:
    rng = np.random.default_rng(step)
    params = {"kernel": rng.normal(size=(size, size)).astype(np.float32), "bias": np.zeros(3)}
    return jax.tree.map(jnp.asarray, {"params": params, "step": np.int32(step)})


def saved(folder: Path, *steps: int) -> StepStore:
    store = StepStore(folder)
    for step in steps:
        store.save(step, state(step), {"place": step})
    store.wait()
    return store


def damage(folder: Path, kind: str, name: str = "*/d/*") -> None:
    """Spoils the largest file of a folder that the pattern matches."""
    files = [path for path in folder.rglob(name) if path.is_file()]
    path = max(files, key=lambda path: path.stat().st_size)
    content = path.read_bytes()
    middle = len(content) // 2
    if kind == "deleted":
        path.unlink()
    elif kind == "flipped bit":
        path.write_bytes(content[:middle] + bytes([content[middle] ^ 1]) + content[middle + 1 :])
    else:
        path.write_bytes({"truncated": content[:middle], "zeroed": bytes(len(content))}[kind])


def test_saving_asks_nobody_whether_to_stop(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """JAX agrees on one number among those asked: orbax's, of steps, are not those of the loops."""
    asked: list[int] = []
    monkeypatch.setattr(multihost_utils, "reached_preemption_sync_point", asked.append)
    saved(tmp_path, 7).close()
    assert asked == []


def test_the_newest_is_restored_and_old_ones_go(tmp_path: Path) -> None:
    saved(tmp_path, 1, 2, 3, 4).close()
    store = StepStore(tmp_path)
    found = store.restore_latest(state(0))
    assert found is not None
    assert (found.step, found.data) == (4, {"place": 4})
    chex.assert_trees_all_equal(found.state, state(4))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["2", "3", "4"]


def test_nothing_to_restore(tmp_path: Path) -> None:
    assert StepStore(tmp_path / "new").restore_latest(state(0)) is None


@pytest.mark.parametrize("kind", ["truncated", "zeroed", "deleted", "flipped bit"])
@pytest.mark.parametrize("name", ["*/d/*", "_METADATA", "metadata", "manifest.ocdbt"])
def test_a_damaged_checkpoint_falls_back_to_the_one_before(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, kind: str, name: str
) -> None:
    saved(tmp_path, 1, 2).close()
    damage(tmp_path / "2", kind, name)
    chex.assert_trees_all_equal(load_params(tmp_path), state(1)["params"])
    store = StepStore(tmp_path)
    found = store.restore_latest(state(0))
    assert found is not None
    assert (found.step, found.data) == (1, {"place": 1})
    chex.assert_trees_all_equal(found.state, state(1))
    assert "2 cannot be read" in caplog.text
    assert "going back to the one before" in caplog.text
    store.save(2, state(2), {"place": 2})  # the step can be written again
    store.close()
    again = StepStore(tmp_path).restore_latest(state(0))
    assert again is not None
    chex.assert_trees_all_equal(again.state, state(2))
    assert (tmp_path / "2.damaged").is_dir()


def test_what_has_no_checksums_yet_is_told_by_orbax(tmp_path: Path) -> None:
    """A kill can come between a checkpoint and its checksums."""
    saved(tmp_path, 1, 2).close()
    (tmp_path / "2" / "sums.0.json").unlink()
    damage(tmp_path / "2", "truncated")
    found = StepStore(tmp_path).restore_latest(state(0))
    assert found is not None
    assert found.step == 1


def test_checksums_are_there_as_soon_as_a_step_is(tmp_path: Path) -> None:
    """Not at the next save, hours of steps later."""
    store = StepStore(tmp_path)
    store.save(1, state(1), {})
    deadline = time.monotonic() + 30
    while not (tmp_path / "1" / "sums.0.json").exists():
        assert time.monotonic() < deadline
        time.sleep(0.01)
    damage(tmp_path / "1", "flipped bit")
    assert StepStore(tmp_path).restore_latest(state(0)) is None
    store.close()


def test_files_whose_process_was_killed_before_their_checksums_are_taken(tmp_path: Path) -> None:
    """Of two processes one wrote the checksums of its share."""
    saved(tmp_path, 1).close()
    sums = tmp_path / "1" / "sums.0.json"
    whole = json.loads(sums.read_text())
    half = dict(list(whole.items())[::2])
    sums.write_text(json.dumps(half))
    found = StepStore(tmp_path).restore_latest(state(0))
    assert found is not None
    chex.assert_trees_all_equal(found.state, state(1))
    assert len(half) < len(whole)


def test_all_damaged_starts_anew(tmp_path: Path) -> None:
    saved(tmp_path, 1, 2).close()
    for step in ("1", "2"):
        damage(tmp_path / step, "zeroed")
    with pytest.raises(UserError, match="No readable checkpoint"):
        load_params(tmp_path)
    assert StepStore(tmp_path).restore_latest(state(0)) is None


def test_leftovers_of_a_killed_writer_are_told_and_do_no_harm(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    saved(tmp_path, 1).close()
    for name in ("2.orbax-checkpoint-tmp", "7.orbax-checkpoint-tmp"):
        shutil.copytree(tmp_path / "1", tmp_path / name)
    assert not caplog.messages
    store = StepStore(tmp_path)
    assert caplog.messages == [
        f"Checkpoint {tmp_path / step} was not finished when its writer stopped, and is removed: "
        "going back to step 1."
        for step in ("2", "7")
    ]
    found = store.restore_latest(state(0))
    assert found is not None
    assert found.step == 1
    store.save(2, state(2), {})
    store.close()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["1", "2"]


KILLED = """
import sys
from pathlib import Path
from tests.checkpoints.test_store import large, StepStore
store = StepStore(Path(sys.argv[1]))
store.save(1, large(1), {"place": 1})
store.wait()
print("saved", flush=True)
for step in range(2, 100):
    store.save(step, large(step), {"place": step})
"""


def large(step: int) -> dict[str, Any]:
    """16 MB in 16 arrays, which take a while to be written."""
    return {str(i): state(100 * step + i, 512) for i in range(16)}


@pytest.mark.slow
def test_a_writer_killed_at_any_moment_leaves_whole_checkpoints_alone(tmp_path: Path) -> None:
    """The kill comes while arrays are written by threads of C++, which no Python hook sees."""
    midway = 0
    for number, delay in enumerate((0.0, 0.03, 0.15)):
        folder = tmp_path / str(number)
        command = [sys.executable, "-c", KILLED, str(folder)]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=ROOT) as writer:
            assert writer.stdout is not None
            assert writer.stdout.readline() == "saved\n"
            while not any(folder.glob("*tmp*")):
                time.sleep(0.001)
            time.sleep(delay)
            writer.kill()
        midway += any(folder.glob("*tmp*"))
        store = StepStore(folder)
        found = store.restore_latest(large(0))
        assert found is not None
        assert found.data == {"place": found.step}
        chex.assert_trees_all_equal(found.state, large(found.step))
        assert not any(folder.glob("*tmp*"))
        store.save(found.step + 1, large(0), {})
        store.close()
    assert midway


def test_a_step_takes_three_times_the_new_parameters(tmp_path: Path) -> None:
    """Parameters and Adam's two averages of them; nothing that is frozen."""
    params = {"a": {"kernel": jnp.zeros((512, 512))}, "b": jnp.zeros((300, 700))}
    optimizer = optax.adam(1e-3)
    grow = jax.jit(lambda key, x: jax.random.normal(key, x.shape))  # zeros would be compressed
    trained = jax.tree.map(
        lambda x: grow(jax.random.key(x.size), x) if x.ndim else x,
        TrainState.create(params, optimizer),
    )
    store = StepStore(tmp_path)
    store.save(1, trained, {})
    store.close()
    taken = sum(path.stat().st_size for path in (tmp_path / "1").rglob("*") if path.is_file())
    new = sum(leaf.nbytes for leaf in jax.tree.leaves(params))
    assert taken / new == pytest.approx(3, abs=0.3)


def test_trees_are_written_once(tmp_path: Path) -> None:
    save_tree(tmp_path / "frozen", state(1))
    save_tree(tmp_path / "frozen", state(2))
    chex.assert_trees_all_equal(load_tree(tmp_path / "frozen"), state(1))


@pytest.mark.parametrize("kind", ["truncated", "zeroed", "deleted", "flipped bit"])
def test_a_damaged_tree_says_what_to_do(tmp_path: Path, kind: str) -> None:
    save_tree(tmp_path / "frozen", state(1))
    damage(tmp_path / "frozen", kind)
    with pytest.raises(UserError, match="delete that folder and run the job again") as caught:
        load_tree(tmp_path / "frozen")
    assert "\n" not in str(caught.value)


def test_what_a_device_or_a_rule_says_is_no_damage(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    saved(tmp_path, 1).close()
    save_tree(tmp_path / "frozen", state(1))

    def rule(_: Any) -> Any:
        raise UserError("Parameter kernel cannot be split.")

    with pytest.raises(UserError, match=r"^Parameter kernel cannot be split\.$"):
        load_tree(tmp_path / "frozen", rule)

    def full(_: Path) -> None:
        raise jax.errors.JaxRuntimeError("RESOURCE_EXHAUSTED: out of memory")

    monkeypatch.setattr("flamingo_jax.checkpoints.store.check_seal", full)
    for read in (
        lambda: StepStore(tmp_path).restore_latest(state(0)),
        lambda: load_tree(tmp_path / "frozen"),
    ):
        with pytest.raises(jax.errors.JaxRuntimeError, match="out of memory"):
            read()
    assert (tmp_path / "1").is_dir()


def fill(store: StepStore, first: int = 1) -> None:
    for step in range(first, 6):
        store.save(step, state(step, 512), {})


@contextlib.contextmanager
def mounted(folder: Path, size: str) -> Iterator[Path]:
    """A file system of a size, such as 3m; skips the test where none can be mounted."""
    folder.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(folder)]
    try:
        subprocess.run(command, check=True, capture_output=True)
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("mounting a file system is not permitted here")
    try:
        yield folder
    finally:
        subprocess.run(["umount", "--lazy", str(folder)], check=True)


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of three checkpoints."""
    with mounted(tmp_path / "disk", "3m") as folder:
        yield folder


def test_a_write_that_the_system_refuses_leaves_the_last_good_checkpoint(tmp_path: Path) -> None:
    """As on a full disk, where none can be mounted: no file may grow beyond 100 kB."""
    store = saved(tmp_path / "checkpoints", 1)
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, before[1]))
    try:
        with pytest.raises(UserError, match="the last good one is step 1: make room") as caught:
            fill(store, 2)
        with pytest.raises(UserError, match=r"tree could not be written \(File too large\)"):
            save_tree(tmp_path / "tree", state(0, 1024))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert "File too large" in str(caught.value)
    assert "\n" not in str(caught.value)
    store.close()
    store = StepStore(tmp_path / "checkpoints")
    found = store.restore_latest(state(0))
    assert found is not None
    assert found.step == 1
    chex.assert_trees_all_equal(found.state, state(1))
    store.save(2, state(2), {})
    store.close()
    assert not (tmp_path / "tree").exists()


def test_a_full_disk_leaves_the_last_good_checkpoint(small_disk: Path) -> None:
    """Each checkpoint takes about 1 MB; the error of the background write comes with the next."""
    store = StepStore(small_disk / "checkpoints")
    with pytest.raises(UserError, match="make room and run again") as caught:
        fill(store)
    assert "No space left on device" in str(caught.value)
    assert "\n" not in str(caught.value)
    with pytest.raises(UserError, match="could not be written"):
        save_tree(small_disk / "tree", state(0, 1024))
    store.close()
    shutil.rmtree(small_disk / "tree.orbax-checkpoint-tmp", ignore_errors=True)
    last = max(int(path.name) for path in small_disk.glob("*/*") if path.name.isdigit())
    assert f"the last good one is step {last}" in str(caught.value)
    (oldest, *_) = sorted(p for p in small_disk.glob("*/*") if p.name.isdigit())
    shutil.rmtree(oldest)
    store = StepStore(small_disk / "checkpoints")
    found = store.restore_latest(state(0, 512))
    assert found is not None
    assert found.step == last
    chex.assert_trees_all_equal(found.state, state(last, 512))
    store.save(last + 1, state(last + 1, 512), {})
    store.close()
