"""Safetensors files: read as their own library reads them; a damaged header is told of."""

import json
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import pytest

from flamingo_jax.checkpoints.safetensors_files import DTYPES
from flamingo_jax.checkpoints.tensors import open_tensors
from flamingo_jax.errors import UserError

safetensors = pytest.importorskip("safetensors.numpy")


def arrays() -> dict[str, np.ndarray]:
    values = np.random.default_rng(0).normal(size=(2, 3, 4)) * 9
    typed = {kind: np.abs(values).astype(dtype) for kind, dtype in DTYPES.items()}
    return {**typed, "scalar": np.array(3.5), "empty": np.zeros((0, 3), np.float32)}


def test_every_type_is_as_the_library_wrote_it(tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    safetensors.save_file(arrays(), path, metadata={"format": "pt"})
    found = open_tensors(path)
    assert found.keys() == arrays().keys()
    for name, array in arrays().items():
        assert found[name].shape == array.shape
        assert found[name].dtype == array.dtype
        np.testing.assert_array_equal(found[name].read(), array, strict=True)


def test_bfloat16_of_torch(tmp_path: Path) -> None:
    torch = pytest.importorskip("torch")
    from safetensors.torch import save_file

    tensor = torch.randn(5, 7, generator=torch.Generator().manual_seed(0)).to(torch.bfloat16)
    save_file({"weight": tensor}, tmp_path / "model.safetensors")
    array = open_tensors(tmp_path / "model.safetensors")["weight"].read()
    assert array.dtype == ml_dtypes.bfloat16
    np.testing.assert_array_equal(array.astype(np.float32), tensor.float().numpy())


def test_a_name_without_the_ending_will_do(tmp_path: Path) -> None:
    safetensors.save_file(arrays(), tmp_path / "weights")
    assert open_tensors(tmp_path / "weights").keys() == arrays().keys()


def written(path: Path, header: Any, data: bytes = bytes(24), length: int | None = None) -> Path:
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    length = len(text) if length is None else length
    path.write_bytes(length.to_bytes(8, "little") + text + data)
    return path


def entry(shape: Any = (2, 3), place: Any = (0, 24), dtype: Any = "F32") -> dict[str, Any]:
    return {"dtype": dtype, "shape": shape, "data_offsets": place}


def test_a_header_made_here_can_be_read(tmp_path: Path) -> None:
    """Else the refusals below would prove nothing."""
    path = written(tmp_path / "a.safetensors", {"a": entry(), "__metadata__": {"a": "b"}})
    np.testing.assert_array_equal(open_tensors(path)["a"].read(), np.zeros((2, 3)))


TWICE = b'{"a": %s, "a": %s}' % ((json.dumps(entry()).encode(),) * 2)


@pytest.mark.parametrize(
    ("header", "words"),
    [
        ({"a": entry(place=(0, 28), shape=(7,))}, "truncated: tensor 'a' is not whole"),
        ({"a": entry(place=(8, 32))}, "'a' overlaps another, or lies apart"),
        ({"a": entry(place=(1 << 60, (1 << 60) + 24))}, "'a' overlaps another, or lies apart"),
        ({"a": entry(), "b": entry()}, "'b' overlaps another"),
        ({"a": entry((3,), (0, 12)), "b": entry((3,), (8, 20))}, "'b' overlaps another"),
        ({"a": entry((3,), (0, 12))}, "12 bytes at its end belong to no tensor"),
        ({}, "24 bytes at its end belong to no tensor"),
        ({"a": entry((2, 4))}, r"'a' of type F32 and shape \[2, 4\] cannot have 24 bytes"),
        ({"a": entry((2, 3), (24, 0))}, "'a' of type F32 .* cannot have -24 bytes"),
        ({"a": entry((1 << 62, 1 << 62))}, "'a' of type F32"),
        ({"a": entry(dtype="F16")}, "'a' of type F16"),
        ({"a": entry(dtype="F8_E4M3")}, "has the type 'F8_E4M3', which is not read"),
        ({"a": entry((-2, -3))}, "'a' are not given"),
        ({"a": entry((2.0, 3))}, "'a' are not given"),
        ({"a": entry((True, 6))}, "'a' are not given"),
        ({"a": entry((1,) * 33 + (6,))}, "'a' are not given"),
        ({"a": entry((10,) * 10**5)}, "'a' are not given"),
        ({"a": entry(place=(0,))}, "'a' are not given"),
        ({"a": entry(place="24")}, "'a' are not given"),
        ({"a": entry(dtype=["F32"])}, "'a' are not given"),
        ({"a": {"shape": [6], "data_offsets": [0, 24]}}, "'a' are not given"),
        ({"a": [entry()]}, "'a' are not given"),
        ([], "its JSON cannot be read"),
        (b"{", "its JSON cannot be read"),
        (b'{"\xff": 1}', "its JSON cannot be read"),
        (b'{"a": ' + b"[" * 10**5, "its JSON cannot be read"),
        (b'{"a": ' + b"1" * 10**5 + b"}", "its JSON cannot be read"),
        (TWICE, "its JSON cannot be read"),
    ],
)
def test_headers_that_cannot_be(tmp_path: Path, header: Any, words: str) -> None:
    path = written(tmp_path / "model.safetensors", header)
    with pytest.raises(UserError, match=rf"model\.safetensors.*{words}") as caught:
        open_tensors(path)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("length", [10**4, 10**9, (1 << 64) - 1])
def test_absurd_lengths_of_the_header(tmp_path: Path, length: int) -> None:
    path = written(tmp_path / "model.safetensors", {"a": entry()}, length=length)
    with pytest.raises(UserError, match=rf"claims a header of {length} bytes"):
        open_tensors(path)


def test_a_vast_file_with_a_vast_header_is_refused_unread(tmp_path: Path) -> None:
    path = written(tmp_path / "model.safetensors", b"{", length=2 * 10**8)
    with path.open("r+b") as file:
        file.truncate(10**9)  # takes no room
    with pytest.raises(UserError, match="claims a header of 200000000 bytes"):
        open_tensors(path)


def test_truncated_anywhere(tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    safetensors.save_file(arrays(), path)
    content = path.read_bytes()
    for length in range(0, len(content), 11):
        path.write_bytes(content[:length])
        with pytest.raises(UserError, match=r"model\.safetensors is"):
            open_tensors(path)
