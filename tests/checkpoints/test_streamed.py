"""Streamed checkpoints: restored bit for bit, written whole or not at all, in bounded memory."""

import json
import resource
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import chex
import jax
import ml_dtypes
import numpy as np
import pytest

from flamingo_jax.checkpoints import streamed
from flamingo_jax.checkpoints.store import load_tree, save_tree
from flamingo_jax.checkpoints.streamed import save_streamed
from flamingo_jax.checkpoints.tensors import Stacked, Tensor, open_tensors
from flamingo_jax.errors import UserError
from tests.checkpoints.test_store import damage, mounted

# After a failed write, tensorstore calls a loop that orbax has closed.
pytestmark = pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")


def lazy(array: np.ndarray, name: str = "weight") -> Tensor:
    return Tensor(name, array.shape, array.dtype, Path("model.bin"), lambda: array)


def failing(error: BaseException) -> Tensor:
    def read() -> np.ndarray:
        raise error

    return Tensor("bad", (8, 4), np.dtype(np.float32), Path("model.bin"), read)


def arrays() -> dict[str, Any]:
    rng = np.random.default_rng(0)

    def normal(*shape: int, dtype: Any = np.float32) -> np.ndarray:
        return rng.normal(size=shape).astype(dtype)

    return {
        "params": {
            "kernel": normal(7, 5, 3),
            "layers": {"deep": normal(2, 3, 4, 5), "bias": normal(3, 4)},
            "half": normal(6, 2, dtype=np.float16),
            "brain": normal(6, 2, dtype=ml_dtypes.bfloat16),
            "scale": normal(),
            "none": normal(0, 4),
        },
        "ids": np.arange(5, dtype=np.int32),
        "mask": np.array([[True, False, True]]),
        "zeros": np.zeros((4, 4), np.float32),
    }


def unread(tree: dict[str, Any]) -> dict[str, Any]:
    """The same with leaves that are read later."""
    leaves = jax.tree.map(lazy, tree)
    layers = leaves["params"]["layers"]
    deep, bias = tree["params"]["layers"]["deep"], tree["params"]["layers"]["bias"]
    layers["deep"] = Stacked(tuple(Stacked(tuple(map(lazy, group))) for group in deep))
    layers["bias"] = Stacked(tuple(map(lazy, bias)))
    leaves["ids"] = tree["ids"]
    return leaves


def cast(tree: Any, dtype: Any) -> Any:
    return jax.tree.map(lambda x: x if x.dtype in (np.int32, bool) else x.astype(dtype), tree)


@pytest.mark.parametrize("chunk", [8, 40, 1 << 24])
@pytest.mark.parametrize("dtype", [None, ml_dtypes.bfloat16])
def test_restored_bit_for_bit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, chunk: int, dtype: Any
) -> None:
    monkeypatch.setattr(streamed, "CHUNK_BYTES", chunk)
    save_streamed(tmp_path / "model", unread(arrays()), dtype)
    found = load_tree(tmp_path / "model")
    expected = cast(arrays(), dtype or np.float32)
    chex.assert_trees_all_equal(found, expected)
    chex.assert_trees_all_equal_shapes_and_dtypes(found, expected)
    assert [path.name for path in tmp_path.iterdir()] == ["model"]


def test_like_a_tree_that_was_saved_whole(tmp_path: Path) -> None:
    tree = cast(arrays(), np.float32)
    del tree["params"]["none"]  # which orbax itself does not write
    save_tree(tmp_path / "whole", tree)
    save_streamed(tmp_path / "streamed", jax.tree.map(lazy, tree))
    place = jax.sharding.SingleDeviceSharding(jax.devices()[0])

    def on_a_device(shapes: Any) -> Any:
        return jax.tree.map(
            lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=place), shapes
        )

    for wanted in (None, on_a_device):
        whole, found = (load_tree(tmp_path / name, wanted) for name in ("whole", "streamed"))
        assert jax.tree.map(type, whole) == jax.tree.map(type, found)
        chex.assert_trees_all_equal(whole, found)


def test_each_slice_is_on_disk_before_the_next_is_read(tmp_path: Path) -> None:
    seen: list[set[str]] = []

    def tensor(value: int) -> Tensor:
        def read() -> np.ndarray:
            seen.append({path.name for path in tmp_path.rglob("[0-9]*")})
            return np.full(2, value, np.float32)

        return Tensor(str(value), (2,), np.dtype(np.float32), Path("model.bin"), read)

    save_streamed(tmp_path / "model", {"a": Stacked(tuple(map(tensor, range(3))))})
    assert seen == [set(), {"0.0"}, {"0.0", "1.0"}]
    np.testing.assert_array_equal(load_tree(tmp_path / "model")["a"][:, 0], range(3))


def test_chunks_are_small(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(streamed, "CHUNK_BYTES", 64)
    save_streamed(tmp_path / "model", {"a": lazy(np.ones((5, 3, 8), np.float32))})
    chunks = {path.name for path in (tmp_path / "model" / "a").glob("[0-9]*")}
    assert chunks == {f"{i}.{j}.0" for i in range(5) for j in range(2)}  # two rows of 32 bytes


@pytest.mark.parametrize("kind", ["truncated", "deleted", "flipped bit"])
@pytest.mark.parametrize("name", ["[0-9]*", "_METADATA", ".zarray"])
def test_damage_is_told_of(tmp_path: Path, kind: str, name: str) -> None:
    save_streamed(tmp_path / "model", unread(arrays()))
    damage(tmp_path / "model", kind, name)
    with pytest.raises(UserError, match=r"No readable arrays in .*model"):
        load_tree(tmp_path / "model")


def test_an_existing_folder_stays(tmp_path: Path) -> None:
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "mine").write_text("mine")
    with pytest.raises(UserError, match="model exists already"):
        save_streamed(tmp_path / "model", unread(arrays()))
    assert [path.name for path in tmp_path.rglob("*")] == ["model", "mine"]


def test_what_a_killed_writer_left_is_cleared(tmp_path: Path) -> None:
    (tmp_path / "model.part" / "tree").mkdir(parents=True)
    (tmp_path / "model.part" / "tree" / "old").write_text("old")
    save_streamed(tmp_path / "model", {"a": np.ones(2, np.float32)})
    chex.assert_trees_all_equal(load_tree(tmp_path / "model"), {"a": np.ones(2, np.float32)})
    assert [path.name for path in tmp_path.iterdir()] == ["model"]


@pytest.mark.parametrize(
    ("error", "raised", "words"),
    [
        (UserError("model.bin is cut short."), UserError, r"^model\.bin is cut short\.$"),
        (OSError(5, "Input/output error"), UserError, r"model could not be written .*Input/output"),
        (KeyboardInterrupt("stop"), KeyboardInterrupt, "stop"),
    ],
)
@pytest.mark.parametrize("stacked", [False, True])
def test_a_failing_read_leaves_nothing(
    tmp_path: Path, error: BaseException, raised: type, words: str, stacked: bool
) -> None:
    good = lazy(np.ones((8, 4), np.float32))
    tree = {"a": good, "b": Stacked((good, failing(error))) if stacked else failing(error)}
    with pytest.raises(raised, match=words):
        save_streamed(tmp_path / "model", tree)
    assert not list(tmp_path.iterdir())
    save_streamed(tmp_path / "model", {"a": good})  # the same folder can be written then


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    with mounted(tmp_path / "disk", "1m") as folder:
        yield folder


def test_a_full_disk_leaves_nothing(small_disk: Path) -> None:
    noise = np.random.default_rng(0).normal(size=(8, 64, 1024)).astype(np.float32)
    with pytest.raises(UserError, match=r"model could not be written \(No space left on") as caught:
        save_streamed(small_disk / "model", {"a": Stacked(tuple(map(lazy, noise)))})
    assert "\n" not in str(caught.value)
    assert not list(small_disk.iterdir())


def test_a_folder_that_cannot_be_made(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match=r"file/model could not be written"):
        save_streamed(tmp_path / "file" / "model", {"a": np.ones(2)})


def test_progress_is_shown_on_request(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    save_streamed(tmp_path / "new" / "a", unread(arrays()))
    assert capsys.readouterr().err == ""
    save_streamed(tmp_path / "new" / "b", unread(arrays()), progress="Converting")
    assert "Converting: 100%" in capsys.readouterr().err


LARGEST = 64 << 20  # bytes
COUNT = 8


def stream_a_model(folder: Path) -> None:
    """Prints by how many bytes writing a model of 8 tensors raises the peak of its process."""
    entry = {"dtype": "F32", "shape": [4096, LARGEST // 4 // 4096]}
    places = [{"data_offsets": [i * LARGEST, (i + 1) * LARGEST]} for i in range(COUNT)]
    header = json.dumps({f"layer.{i}": {**entry, **place} for i, place in enumerate(places)})
    path = folder / "model.safetensors"
    path.write_bytes(len(header).to_bytes(8, "little") + header.encode())
    with path.open("r+b") as file:
        file.truncate(8 + len(header) + COUNT * LARGEST)  # zeros that take no room
    tensors = [x.map(np.transpose, x.shape[::-1]) for x in open_tensors(path).values()]
    tree = {f"layer {i}": tensor for i, tensor in enumerate(tensors[:4])}
    save_streamed(folder / "first", {"a": np.ones(2)})  # what is loaded once
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    save_streamed(folder / "model", {**tree, "layers": Stacked(tuple(tensors[4:]))})
    print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) * 1024)


@pytest.mark.slow
def test_memory_is_bounded_by_the_largest_tensor(tmp_path: Path) -> None:
    """Each tensor is read and transposed, which takes two of it; chunks are the rest."""
    call = f"test_streamed.stream_a_model(Path({str(tmp_path)!r}))"
    code = f"from pathlib import Path; from tests.checkpoints import test_streamed; {call}"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) < 2 * LARGEST + 3 * streamed.CHUNK_BYTES
