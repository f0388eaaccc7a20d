"""Checkpoints: read back bit for bit, passed over when damaged, safe on a full disk."""

import contextlib
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from flamingo_jax.checkpoints.store import StepStore, load_params, load_tree, save_tree
from flamingo_jax.errors import UserError

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


def test_all_damaged_starts_anew(tmp_path: Path) -> None:
    saved(tmp_path, 1, 2).close()
    for step in ("1", "2"):
        damage(tmp_path / step, "zeroed")
    with pytest.raises(UserError, match="No readable checkpoint"):
        load_params(tmp_path)
    assert StepStore(tmp_path).restore_latest(state(0)) is None


def test_leftovers_of_a_killed_writer_do_no_harm(tmp_path: Path) -> None:
    saved(tmp_path, 1).close()
    for name in ("2.orbax-checkpoint-tmp", "7.orbax-checkpoint-tmp"):
        shutil.copytree(tmp_path / "1", tmp_path / name)
    store = StepStore(tmp_path)
    found = store.restore_latest(state(0))
    assert found is not None
    assert found.step == 1
    store.save(2, state(2), {})
    store.close()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["1", "2"]


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


def fill(store: StepStore) -> None:
    for step in range(1, 6):
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
