"""Finds the tensors of a file that `torch.save` wrote, without torch and without running anything.

Such a file is a zip archive: `NAME/data.pkl` pickles the saved object, and `NAME/data/KEY` holds
each storage, uncompressed. A pickle is a program for a stack machine that may call any function
it names; the machine here knows the opcodes that build plain values and calls nothing. The names
it accepts stand for tensors and their parts; any other name ends the reading.
"""

import dataclasses
import pickletools
import zipfile
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np

from flamingo_jax.checkpoints.mapped import Mapped
from flamingo_jax.errors import UserError

WRAPPERS = ("model_state_dict", "state_dict", "model")
"""Keys under which training scripts keep the state dict, beside the optimizer and so on."""

_STORAGES = {
    "torch.DoubleStorage": np.dtype("<f8"),
    "torch.FloatStorage": np.dtype("<f4"),
    "torch.HalfStorage": np.dtype("<f2"),
    "torch.BFloat16Storage": np.dtype(ml_dtypes.bfloat16),
    "torch.LongStorage": np.dtype("<i8"),
    "torch.IntStorage": np.dtype("<i4"),
    "torch.ShortStorage": np.dtype("<i2"),
    "torch.CharStorage": np.dtype("i1"),
    "torch.ByteStorage": np.dtype("u1"),
    "torch.BoolStorage": np.dtype("?"),
}
_TENSOR = "torch._utils._rebuild_tensor_v2"
_PARAMETER = "torch._utils._rebuild_parameter"
_KNOWN = {*_STORAGES, _TENSOR, _PARAMETER, "collections.OrderedDict", "torch.Size"}
_LOCAL_HEADER = 30  # bytes of a zip entry's local header before its name and extra field


@dataclasses.dataclass(frozen=True)
class _Global:
    """A name in a pickle; it stays a name."""

    name: str


@dataclasses.dataclass(frozen=True)
class _Storage:
    key: str
    dtype: np.dtype
    numel: int


@dataclasses.dataclass(frozen=True)
class _Array:
    storage: _Storage
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]


def read_torch(path: Path) -> dict[str, Mapped]:
    """The tensors of a saved state dict, or of that in a training script's wrapper; none is read.

    Raises:
      UserError: the file is damaged, names anything but tensors and plain values, or is of a kind
        that is not read.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            entries = _Entries(path, archive)
            saved = _Machine(path).run(entries.content("data.pkl"))
            return {
                name: _mapped(path, entries, name, array)
                for name, array in _state_dict(path, saved).items()
            }
    except UserError:
        raise
    except Exception as error:  # zipfile and pickletools raise many kinds on damaged bytes
        raise UserError(
            f"{path} is truncated, damaged, or not written by torch.save "
            f"({type(error).__name__}: {str(error)[:200]})."
        ) from error


class _Entries:
    """The files within the archive, and where in it their bytes lie."""

    def __init__(self, path: Path, archive: zipfile.ZipFile) -> None:
        self._path = path
        self._archive = archive
        roots = [n.removesuffix("data.pkl") for n in archive.namelist() if n.endswith("/data.pkl")]
        if len(roots) != 1:
            raise ValueError(f"{len(roots)} entries are named data.pkl, not one")
        self._root = roots[0]
        # Written since torch 2.1; what is older is little-endian but for rare machines.
        if self.has("byteorder") and self.content("byteorder") != b"little":
            raise UserError(f"{path} was written on a big-endian machine, which is not read.")

    def has(self, name: str) -> bool:
        return self._root + name in self._archive.NameToInfo

    def content(self, name: str) -> bytes:
        """All of an entry, compared with its checksum."""
        self.place(name)
        return self._archive.read(self._root + name)

    def place(self, name: str) -> tuple[int, int]:
        """First byte in the archive and number of bytes of an entry.

        Raises:
          ValueError: it is not as torch.save writes it, or not whole.
        """
        entry = self._archive.getinfo(self._root + name)
        if entry.compress_type != zipfile.ZIP_STORED or entry.compress_size != entry.file_size:
            raise ValueError(f"its entry {entry.filename!r} is compressed")
        with self._path.open("rb") as file:
            file.seek(entry.header_offset)
            header = file.read(_LOCAL_HEADER)
        if len(header) < _LOCAL_HEADER or header[:4] != b"PK\x03\x04":
            raise ValueError(f"its entry {entry.filename!r} is not where the archive says")
        lengths = (int.from_bytes(header[at : at + 2], "little") for at in (26, 28))
        start = entry.header_offset + _LOCAL_HEADER + sum(lengths)
        if start + entry.file_size > self._path.stat().st_size:
            raise ValueError(f"its entry {entry.filename!r} ends beyond the file")
        return start, entry.file_size


def _state_dict(path: Path, saved: Any) -> dict[str, _Array]:
    for _ in WRAPPERS:  # a wrapper may hold another
        if isinstance(saved, dict):
            inner = [saved[key] for key in WRAPPERS if isinstance(saved.get(key), dict)]
            saved = inner[0] if inner else saved
    if not isinstance(saved, dict):
        raise UserError(f"{path} holds a {type(saved).__name__}, not a dictionary of tensors.")
    found = {k: v for k, v in saved.items() if isinstance(k, str) and isinstance(v, _Array)}
    if not found:
        raise UserError(
            f"{path} holds no tensors by name, nor under {', '.join(map(repr, WRAPPERS))}; "
            f"its first keys are {str(list(saved)[:5])[:200]}."
        )
    return found


def _mapped(path: Path, entries: _Entries, name: str, array: _Array) -> Mapped:
    storage, key = array.storage, f"data/{array.storage.key}"
    if not entries.has(key):
        raise UserError(f"{path} is damaged: the values of tensor {name!r} are missing.")
    start, available = entries.place(key)
    if (size := storage.numel * storage.dtype.itemsize) > available:
        raise UserError(f"{path} is damaged: the values of tensor {name!r} are cut off.")
    return Mapped(path, name, storage.dtype, array.shape, start, size, array.strides, array.offset)


class _Machine:
    """The pickle machine without its power to call: every opcode only builds plain values."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._stack: list[Any] = []
        self._outer: list[list[Any]] = []  # what lies below each mark
        self._memo: dict[int, Any] = {}

    def run(self, program: bytes) -> Any:
        """The value that a pickle builds.

        Raises:
          UserError: it names a global that is not a tensor's.
          ValueError, IndexError, KeyError, TypeError: it is no well-formed pickle.
        """
        for opcode, value, _ in pickletools.genops(program):
            if opcode.name == "STOP":
                break
            self._do(opcode.name, value)
        return self._stack.pop()

    def _do(self, opcode: str, value: Any) -> None:
        stack = self._stack
        match opcode:
            case "PROTO" | "FRAME":
                pass
            case "MARK":
                self._outer.append(stack)
                self._stack = []
            case "POP":
                stack.pop()
            case "POP_MARK":
                self._pop_mark()
            case "DUP":
                stack.append(stack[-1])
            case "PUT" | "BINPUT" | "LONG_BINPUT":
                self._memo[value] = stack[-1]
            case "MEMOIZE":
                self._memo[len(self._memo)] = stack[-1]
            case "GET" | "BINGET" | "LONG_BINGET":
                stack.append(self._memo[value])
            case "GLOBAL":
                stack.append(self._named(*value.split(" ", 1)))
            case "INST":
                self._named(*value.split(" ", 1))
                raise ValueError("it makes an object by INST, as no tensor is made")
            case "STACK_GLOBAL":
                name, module = stack.pop(), stack.pop()
                stack.append(self._named(module, name))
            case "REDUCE":
                arguments, function = stack.pop(), stack.pop()
                stack.append(_rebuilt(function, arguments))
            case "BUILD":
                stack.pop()  # attributes of an object, such as a state dict's _metadata
            case "BINPERSID":
                stack.append(_storage(stack.pop()))
            case _:
                self._do_plain(opcode, value)

    def _do_plain(self, opcode: str, value: Any) -> None:
        """Numbers, strings, and what is made of them."""
        stack = self._stack
        match opcode:
            case "NONE":
                stack.append(None)
            case "NEWTRUE" | "NEWFALSE":
                stack.append(opcode == "NEWTRUE")
            case "EMPTY_TUPLE":
                stack.append(())
            case "TUPLE1" | "TUPLE2" | "TUPLE3":
                count = int(opcode[-1])
                if len(stack) < count:
                    raise IndexError("its pickle's stack is empty")
                stack[-count:] = [tuple(stack[-count:])]
            case "TUPLE":
                items = self._pop_mark()
                self._stack.append(tuple(items))
            case "EMPTY_LIST" | "EMPTY_DICT":
                stack.append([] if opcode == "EMPTY_LIST" else {})
            case "LIST" | "DICT":
                items = self._pop_mark()
                self._stack.append(items if opcode == "LIST" else _extended({}, items))
            case "APPEND" | "SETITEM":
                items = [stack.pop() for _ in range(1 if opcode == "APPEND" else 2)][::-1]
                _extended(stack[-1], items)
            case "APPENDS" | "SETITEMS":
                items = self._pop_mark()
                _extended(self._stack[-1], items)
            case _ if isinstance(value, bool | int | float | str | bytes):
                stack.append(value)
            case _:
                raise ValueError(f"its pickle's opcode {opcode} is none that tensors need")

    def _pop_mark(self) -> list[Any]:
        items, self._stack = self._stack, self._outer.pop()
        return items

    def _named(self, module: Any, function: Any) -> _Global:
        if not isinstance(module, str) or not isinstance(function, str):
            raise ValueError("it names something by what is no text")
        name = f"{module}.{function}"
        if name not in _KNOWN:
            raise UserError(
                f"{self._path} is not read: it names {name[:100]!r}, which is no tensor's part and "
                "could run code; save the state dict alone (model.state_dict()) with torch.save."
            )
        return _Global(name)


def _extended(container: Any, items: list[Any]) -> Any:
    if isinstance(container, list):
        container.extend(items)
        return container
    keys, values = items[::2], items[1::2]
    if not isinstance(container, dict) or not all(
        isinstance(key, str | int | float | None) for key in keys
    ):
        raise ValueError("its pickle fills what is no list and no dictionary of plain keys")
    container.update(zip(keys, values, strict=True))
    return container


def _rebuilt(function: Any, arguments: Any) -> Any:
    """What a call in the pickle stands for."""
    match function, arguments:
        case _Global("collections.OrderedDict"), ():
            return {}
        case _Global("torch.Size"), (tuple() as shape,):
            return shape
        case _Global(name), (_Array() as array, *_) if name == _PARAMETER:
            return array
        case (
            _Global(name),
            (_Storage() as storage, int(offset), tuple() as shape, tuple() as strides, *rest),
        ) if name == _TENSOR and not any(rest[2:]):
            return _Array(storage, offset, shape, strides)
    raise ValueError("its pickle makes a tensor of what is none's part")


def _storage(identifier: Any) -> _Storage:
    match identifier:
        case ("storage", _Global(name), str(key), _, int(numel)) if name in _STORAGES:
            return _Storage(key, _STORAGES[name], numel)
    raise ValueError("its pickle refers to something other than a storage")
