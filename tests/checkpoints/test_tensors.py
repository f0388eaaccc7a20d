"""Tensors are found in files and folders, taken by name, laid out anew; read only when asked."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flamingo_jax.checkpoints.tensors import Source, Stacked, Tensor, concatenated, open_tensors
from flamingo_jax.errors import UserError

torch = pytest.importorskip("torch")
safetensors = pytest.importorskip("safetensors.numpy")

ARRAYS = {
    "a.weight": np.arange(6, dtype=np.float32).reshape(2, 3),
    "a.bias": np.arange(3, dtype=np.float16),
    "b": np.arange(4, dtype=np.int64),
}


def save_torch(path: Path, arrays: dict[str, np.ndarray]) -> None:
    torch.save({name: torch.from_numpy(array) for name, array in arrays.items()}, path)


def save_safetensors(path: Path, arrays: dict[str, np.ndarray]) -> None:
    safetensors.save_file(arrays, path)


FORMATS = {"model.safetensors": save_safetensors, "pytorch_model.bin": save_torch}


def sharded(folder: Path, name: str) -> Path:
    """Two shards and their index."""
    stem, ending = name.split(".")
    shards = [f"{stem}-0000{i}-of-00002.{ending}" for i in (1, 2)]
    places = {"a.weight": shards[1], "a.bias": shards[0], "b": shards[0]}
    for shard in shards:
        arrays = {n: ARRAYS[n] for n, place in places.items() if place == shard}
        FORMATS[name](folder / shard, arrays)
    index = folder / f"{name}.index.json"
    index.write_text(json.dumps({"metadata": {"total_size": 56}, "weight_map": places}))
    return index


def assert_all_read(found: dict[str, Tensor]) -> None:
    assert found.keys() == ARRAYS.keys()
    for name, array in ARRAYS.items():
        assert (found[name].name, found[name].shape) == (name, array.shape)
        np.testing.assert_array_equal(found[name].read(), array, strict=True)


@pytest.mark.parametrize("name", FORMATS)
@pytest.mark.parametrize("prefix", ["", "module."])
def test_one_file(tmp_path: Path, name: str, prefix: str) -> None:
    FORMATS[name](tmp_path / name, {prefix + n: array for n, array in ARRAYS.items()})
    (tmp_path / "config.json").write_text("{}")
    assert_all_read(open_tensors(tmp_path))
    assert_all_read(open_tensors(tmp_path / name))


@pytest.mark.parametrize("name", FORMATS)
def test_shards(tmp_path: Path, name: str) -> None:
    sharded(tmp_path, name)
    found = open_tensors(tmp_path)
    assert_all_read(found)
    assert found["a.weight"].where.name.split(".")[0].endswith("-00002-of-00002")


def test_safetensors_are_read_where_a_folder_has_both(tmp_path: Path) -> None:
    (tmp_path / "pytorch_model.bin").write_text("not read")
    sharded(tmp_path, "model.safetensors")
    assert_all_read(open_tensors(tmp_path))


def test_a_prefix_of_some_names_is_theirs(tmp_path: Path) -> None:
    save_torch(tmp_path / "a.pt", {"module.a": np.ones(2), "b": np.ones(2)})
    assert list(open_tensors(tmp_path / "a.pt")) == ["module.a", "b"]


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"c": "pytorch_model-00001-of-00002.bin"}, "holds tensor 'c', but it does not"),
        ({"c": "pytorch_model-00003-of-00002.bin"}, r"no file .*-00003-of-00002\.bin"),
        ({"c": "../secret.bin"}, "does not name files of its folder"),
        ({"c": "/etc/passwd"}, "does not name files of its folder"),
        ({"c": ".."}, "There is no file"),
        ({"c": ""}, "There is no file"),
        ({"c": "a\0b"}, "There is no file"),
        ({"c": "x" * 5000}, "cannot be read: File name too long"),
        ({"c": None}, "does not name files of its folder"),
    ],
)
def test_what_is_wrong_with_shards(tmp_path: Path, change: dict[str, Any], words: str) -> None:
    index = sharded(tmp_path, "pytorch_model.bin")
    content = json.loads(index.read_text())
    content["weight_map"].update(change)
    index.write_text(json.dumps(content))
    with pytest.raises(UserError, match=words):
        open_tensors(tmp_path)


@pytest.mark.parametrize("name", FORMATS)
def test_tensors_that_the_index_does_not_list(tmp_path: Path, name: str) -> None:
    index = sharded(tmp_path, name)
    content = json.loads(index.read_text())
    places = content["weight_map"]
    del places["b"]
    index.write_text(json.dumps(content))
    with pytest.raises(UserError, match=rf"00001-of-00002\.\w+ holds tensor 'b', .* {index.name}"):
        open_tensors(tmp_path)
    places["b"] = places["a.bias"]
    index.write_text(json.dumps(content))
    FORMATS[name](tmp_path / places["a.weight"], ARRAYS)  # whose other tensors are elsewhere
    with pytest.raises(UserError, match=rf"00002-of-00002\.\w+ holds tensor .* {index.name}"):
        open_tensors(tmp_path)


@pytest.mark.parametrize(
    "text",
    ["", "{}", "[]", '{"weight_map": []}', '{"weight_map": {"a": "b", "a": "b"}}', "[" * 9999],
)
def test_an_index_that_is_none(tmp_path: Path, text: str) -> None:
    (tmp_path / "model.safetensors.index.json").write_text(text)
    with pytest.raises(UserError, match=r"model\.safetensors\.index\.json is damaged"):
        open_tensors(tmp_path)


@pytest.mark.parametrize("content", [b"", b"hello", b"GGUF" + bytes(600), bytes(600)])
def test_no_known_format(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "model.bin").write_bytes(content)
    with pytest.raises(UserError, match=r"model\.bin is empty, damaged, or neither"):
        open_tensors(tmp_path / "model.bin")


def test_nothing_there(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"There is no file .*missing\.bin"):
        open_tensors(tmp_path / "missing.bin")
    with pytest.raises(UserError, match=r"holds no checkpoint: none of model\.safetensors"):
        open_tensors(tmp_path)


def counted(array: np.ndarray, name: str = "x") -> tuple[Tensor, list[str]]:
    """A tensor, and a list that grows with every read."""
    reads: list[str] = []

    def read() -> np.ndarray:
        reads.append(name)
        return array

    return Tensor(name, array.shape, array.dtype, Path("file"), read), reads


def test_maps_are_applied_when_read() -> None:
    array = np.arange(6, dtype=ml_dtypes.bfloat16).reshape(2, 3)
    tensor, reads = counted(array)
    turned = tensor.map(np.transpose, (3, 2)).map(lambda x: x[1:] + 1, (2, 2), np.float32)
    assert (turned.name, turned.shape, turned.dtype) == ("x", (2, 2), np.float32)
    assert not reads
    np.testing.assert_array_equal(turned.read(), (array.T[1:] + 1).astype(np.float32), strict=True)
    assert turned.read().flags.c_contiguous
    assert reads == ["x", "x"]


def test_a_map_to_another_shape_than_was_said() -> None:
    tensor, _ = counted(np.zeros((2, 3)))
    with pytest.raises(ValueError, match=r"'x' is mapped to \(3, 2\), not to \(2, 3\)"):
        tensor.map(np.transpose, (2, 3)).read()


@pytest.mark.parametrize("axis", [0, 1, -1])
def test_concatenation(axis: int) -> None:
    first, second = np.zeros((2, 2), np.float16), np.ones((2, 2), np.float16)
    joined = concatenated([counted(first, "p")[0], counted(second, "q")[0]], axis)
    expected = np.concatenate([first, second], axis)
    assert (joined.name, joined.shape, joined.dtype) == ("p + q", expected.shape, np.float16)
    np.testing.assert_array_equal(joined.read(), expected, strict=True)


def test_stacks_give_their_slices_in_order() -> None:
    arrays = np.arange(24, dtype=np.float32).reshape(2, 3, 4)
    stack = Stacked(tuple(Stacked(tuple(counted(x)[0] for x in group)) for group in arrays))
    assert (stack.shape, stack.dtype) == ((2, 3, 4), np.float32)
    found = list(stack.slices())
    assert [index for index, _ in found] == [(i, j) for i in range(2) for j in range(3)]
    for index, tensor in found:
        np.testing.assert_array_equal(tensor.read(), arrays[index])


@pytest.mark.parametrize(
    "parts", [(), (np.zeros(2), np.zeros(3)), (np.zeros(2), np.zeros(2, np.float32))]
)
def test_stacks_of_unlike_parts(parts: tuple[np.ndarray, ...]) -> None:
    with pytest.raises(ValueError, match="all of one shape and type"):
        Stacked(tuple(counted(part)[0] for part in parts))


def source(*names: str) -> Source:
    return Source({name: counted(np.zeros((2, 3)), name)[0] for name in names}, Path("folder"))


def test_a_source_gives_what_it_has() -> None:
    tensors = source("layer.0.weight", "layer.0.bias", "extra")
    assert tensors.has("extra")
    assert not tensors.has("other")
    assert tensors.names() == ("layer.0.weight", "layer.0.bias", "extra")
    assert tensors.take("layer.0.weight", (2, 3)).name == "layer.0.weight"
    assert tensors.optional("other", (2, 3)) is None
    extra = tensors.optional("extra")
    assert extra is not None
    assert extra.name == "extra"


def test_a_missing_tensor_names_the_nearest() -> None:
    with pytest.raises(
        UserError, match=r"folder has no tensor 'layer\.0\.weights'; the nearest .*'layer.0.weight'"
    ):
        source("layer.0.weight", "head", "x" * 10**6).take("layer.0.weights")
    with pytest.raises(UserError, match=r"folder has no tensor 'a'\.$"):
        source().take("a")


def test_another_shape() -> None:
    with pytest.raises(UserError, match=r"'a' of file has the shape \[2, 3\], but \[3, 2\] is"):
        source("a").take("a", (3, 2))


def test_what_no_one_took() -> None:
    tensors = source("a", "b", "c.position_ids", "d", "e", "f")
    tensors.take("b")
    with pytest.raises(UserError, match=r"file .* no place for: 'a', 'd', 'e' and 1 more;"):
        tensors.check_all_taken([r"c\..*"])
    with pytest.raises(UserError, match=r"'c\.position_ids'"):
        tensors.check_all_taken(["[adef]", "position_ids"])  # as a whole, not in part
    tensors.check_all_taken(["[adef]", r".*\.position_ids"])


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("damaged")


def contents(folder: Path, save: Callable[[Path, dict[str, np.ndarray]], None]) -> bytes:
    save(folder / "good", ARRAYS)
    return (folder / "good").read_bytes()


edits = st.lists(
    st.tuples(st.floats(0, 1, exclude_max=True), st.binary(max_size=9), st.integers(0, 9)),
    min_size=1,
    max_size=6,
)


def edited(content: bytes, changes: list[tuple[float, bytes, int]]) -> bytes:
    """Puts bytes in the place of others, wherever."""
    for place, new, dropped in changes:
        at = int(place * len(content))
        content = content[:at] + new + content[at + dropped :]
    return content


def refusal(path: Path) -> str:
    """What is said against a file; nothing if everything is read, within what the file has."""
    try:
        for tensor in open_tensors(path).values():
            array = tensor.read()
            assert array.shape == tensor.shape
            assert array.nbytes < 10**4
    except UserError as error:
        return str(error)
    return ""


@pytest.mark.parametrize("name", FORMATS)
@settings(max_examples=300, deadline=None)
@given(changes=edits)
def test_damaged_files_are_read_or_refused(folder: Path, name: str, changes: Any) -> None:
    path = folder / name
    path.write_bytes(edited(contents(folder, FORMATS[name]), changes))
    message = refusal(path)
    assert not message or name in message
    assert "\n" not in message


@settings(max_examples=100, deadline=None)
@given(content=st.binary(max_size=60), head=st.sampled_from([b"", b"PK\3\4", b"\x0a" + bytes(7)]))
def test_junk_is_refused(folder: Path, content: bytes, head: bytes) -> None:
    for name in ("junk.bin", "junk.safetensors"):
        (folder / name).write_bytes(head + content)
        with pytest.raises(UserError, match=name):
            open_tensors(folder / name)


@settings(max_examples=100, deadline=None)
@given(changes=edits)
def test_damaged_indices_are_read_or_refused(folder: Path, changes: Any) -> None:
    index = sharded(folder, "pytorch_model.bin")
    index.write_bytes(edited(index.read_bytes(), changes))
    (folder / "pytorch_model.bin").unlink(missing_ok=True)
    assert "\n" not in refusal(folder)
