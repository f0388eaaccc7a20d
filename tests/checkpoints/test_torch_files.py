"""Files of torch.save: read as torch reads them, and refused where damaged."""

import io
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from flamingo_jax.checkpoints.tensors import open_tensors
from flamingo_jax.checkpoints.torch_files import WRAPPERS
from flamingo_jax.errors import UserError

torch = pytest.importorskip("torch")

DTYPES = ("float64", "float32", "float16", "bfloat16", "int64", "int32", "int16", "int8", "uint8")


def tensors() -> dict[str, Any]:
    """Each type, and each way to lie in a storage."""
    generator = torch.Generator().manual_seed(0)
    base = torch.randn(4, 6, 5, generator=generator)
    return {
        **{name: (base * 9).abs().to(getattr(torch, name)) for name in DTYPES},
        "bool": base > 0,
        "scalar": torch.tensor(3.5),
        "empty": torch.zeros(0, 3),
        "parameter": torch.nn.Parameter(base[0].clone()),
        "base": base,
        "transposed": base[1].T,
        "permuted": base.permute(2, 0, 1),
        "narrowed": base[1:3, 2:, 1:4],
        "stepped": base[::2, ::3, ::2],
        "column": base.to(torch.bfloat16)[..., 3],
        "broadcast axis of one": torch.arange(4).expand(1, -1),
    }


def assert_equal(folder_or_file: Path, expected: dict[str, Any]) -> None:
    found = open_tensors(folder_or_file)
    assert list(found) == list(expected)
    for name, tensor in expected.items():
        array = found[name].read()
        assert found[name].shape == array.shape == tuple(tensor.shape)
        assert found[name].dtype == array.dtype
        assert array.dtype.name == str(tensor.dtype).removeprefix("torch.")
        assert array.flags.c_contiguous
        np.testing.assert_array_equal(
            array.astype(np.float64), tensor.detach().to(torch.float64).numpy(), err_msg=name
        )


@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
def test_every_tensor_is_as_torch_saved_it(tmp_path: Path, protocol: int) -> None:
    torch.save(tensors(), tmp_path / "model.pt", pickle_protocol=protocol)
    assert_equal(tmp_path / "model.pt", tensors())


def test_the_archive_may_have_any_name(tmp_path: Path) -> None:
    buffer = io.BytesIO()
    torch.save(tensors(), buffer)  # names it archive/, as if for a file of that name
    (tmp_path / "renamed.bin").write_bytes(buffer.getvalue())
    assert_equal(tmp_path / "renamed.bin", tensors())


def test_a_module_s_state_dict(tmp_path: Path) -> None:
    """An OrderedDict with an attribute, and several names for one storage."""
    layer = torch.nn.Linear(3, 2)
    model = torch.nn.Sequential(layer, torch.nn.BatchNorm1d(2), layer)
    torch.save(model.state_dict(), tmp_path / "model.pth")
    assert_equal(tmp_path / "model.pth", model.state_dict())


@pytest.mark.parametrize("key", WRAPPERS)
def test_what_lies_beside_the_state_dict_is_never_read(tmp_path: Path, key: str) -> None:
    model = torch.nn.Linear(3, 2)
    optimizer = torch.optim.AdamW(model.parameters())
    model(torch.ones(1, 3)).sum().backward()
    optimizer.step()
    names = {f"module.{name}": tensor for name, tensor in model.state_dict().items()}
    saved = {"epoch": 3, "loss": 0.5, "rng": torch.get_rng_state(), key: names}
    path = tmp_path / "checkpoint.pt"
    torch.save({**saved, "optimizer_state_dict": optimizer.state_dict()}, path)
    kept = [f"checkpoint/{name}" for name in ("data.pkl", "version", "data/1", "data/2")]
    rewritten(path, lambda name, data: data if name in kept else None)
    assert_equal(path, model.state_dict())


def test_a_wrapper_in_a_wrapper(tmp_path: Path) -> None:
    torch.save({"model": {"state_dict": {"a": torch.ones(2)}, "b": 1}}, tmp_path / "c.pt")
    assert_equal(tmp_path / "c.pt", {"a": torch.ones(2)})


@pytest.mark.parametrize("saved", [torch.ones(2), [torch.ones(2)], {"a": {"b": torch.ones(2)}}, {}])
def test_no_tensors_by_name(tmp_path: Path, saved: Any) -> None:
    torch.save(saved, tmp_path / "c.pt")
    with pytest.raises(UserError, match=r"c\.pt holds"):
        open_tensors(tmp_path / "c.pt")


def test_a_wrapper_that_holds_itself(tmp_path: Path) -> None:
    saved: dict[str, Any] = {}
    saved["model"] = saved
    torch.save(saved, tmp_path / "c.pt")
    with pytest.raises(UserError, match=r"c\.pt holds no tensors by name"):
        open_tensors(tmp_path / "c.pt")


def rewritten(path: Path, change: Callable[[str, bytes], bytes | None], **options: Any) -> None:
    """Replaces the entries of an archive; None leaves one out."""
    with zipfile.ZipFile(path) as archive:
        entries = {name: change(name, archive.read(name)) for name in archive.namelist()}
    with zipfile.ZipFile(path, "w", **options) as archive:
        for name, data in entries.items():
            if data is not None:
                archive.writestr(name, data)


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    path = tmp_path / "model.pt"
    torch.save({"weight": torch.arange(6.0).reshape(2, 3), "bias": torch.ones(3)}, path)
    return path


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda name, data: None if name.endswith("data/1") else data, "'bias' are missing"),
        (lambda name, data: data[:-1] if name.endswith("data/0") else data, "'weight' are cut off"),
        (lambda name, data: None if name.endswith("data.pkl") else data, "not written by"),
        (lambda name, data: data[:20] if name.endswith("data.pkl") else data, "truncated"),
        (lambda name, data: b"big" if name.endswith("byteorder") else data, "big-endian"),
    ],
)
def test_damaged_entries(saved: Path, change: Any, words: str) -> None:
    rewritten(saved, change)
    with pytest.raises(UserError, match=rf"model\.pt .*{words}"):
        open_tensors(saved)


def test_a_compressed_archive(saved: Path) -> None:
    rewritten(saved, lambda _, data: data, compression=zipfile.ZIP_DEFLATED)
    with pytest.raises(UserError, match=r"model\.pt .*compressed"):
        open_tensors(saved)


def test_truncated_anywhere(saved: Path) -> None:
    content = saved.read_bytes()
    for length in range(0, len(content), 7):
        saved.write_bytes(content[:length])
        with pytest.raises(UserError, match=r"model\.pt is"):
            open_tensors(saved)


def test_formats_from_before_1_6(tmp_path: Path) -> None:
    path = tmp_path / "old.pt"
    torch.save({"a": torch.ones(2)}, path, _use_new_zipfile_serialization=False)
    with pytest.raises(UserError, match=r"old\.pt has torch's format from before version 1\.6"):
        open_tensors(path)
    path.write_bytes(bytes(257) + b"ustar" + bytes(300))
    with pytest.raises(UserError, match="from before version 1"):
        open_tensors(path)
