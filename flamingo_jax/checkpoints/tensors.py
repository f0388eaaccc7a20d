"""Published checkpoints as tensors that are read one at a time, when asked for.

`open_tensors` finds them in safetensors and torch files and in Hugging Face's folders;
`Source` hands them out by name and says what is missing or left over; `Tensor.map`,
`concatenated` and `Stacked` lay them out anew without reading them. NumPy only.
"""

import dataclasses
import difflib
import re
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from flamingo_jax.checkpoints.mapped import Mapped
from flamingo_jax.checkpoints.safetensors_files import read_header, strict_json
from flamingo_jax.checkpoints.torch_files import read_torch
from flamingo_jax.errors import UserError

FILES = ("model.safetensors", "pytorch_model.bin")
"""Names of a whole model's file in a folder, the first that is there; or that with .index.json."""

_LONG_NAME = 300  # characters; comparing longer ones takes long


@dataclasses.dataclass(frozen=True)
class Tensor:
    """A tensor that has not been read.

    Attributes:
      name: as the checkpoint has it.
      shape: length of each axis.
      dtype: NumPy type; bfloat16 is that of `ml_dtypes`.
      where: the file, for messages.
      read: reads it, and nothing else, as a row-major array; each call reads anew.
    """

    name: str
    shape: tuple[int, ...]
    dtype: np.dtype
    where: Path
    read: Callable[[], np.ndarray]

    def map(
        self,
        function: Callable[[np.ndarray], np.ndarray],
        shape: tuple[int, ...],
        dtype: Any = None,
    ) -> "Tensor":
        """The same tensor laid out anew when it is read.

        Args:
          function: of the array, such as a transpose, a slice or a sum.
          shape: of what it returns.
          dtype: what to cast the result to; None leaves it as it was before.
        """
        dtype = self.dtype if dtype is None else np.dtype(dtype)
        return dataclasses.replace(
            self,
            shape=shape,
            dtype=dtype,
            read=lambda: _laid_out(self.name, function(self.read()), shape, dtype),
        )


def _laid_out(name: str, array: np.ndarray, shape: tuple[int, ...], dtype: np.dtype) -> np.ndarray:
    if array.shape != shape:
        raise ValueError(f"tensor {name!r} is mapped to {array.shape}, not to {shape}")
    return np.asarray(array, dtype, order="C")


def common_type(parts: "Iterable[Tensor | Stacked]") -> np.dtype:
    """The type of some weights, or float32 where a checkpoint has them in several types."""
    found = {part.dtype for part in parts}
    return found.pop() if len(found) == 1 else np.dtype(np.float32)


def concatenated(tensors: Iterable[Tensor], axis: int = 0) -> Tensor:
    """One tensor of several, joined along an axis when it is read."""
    tensors = tuple(tensors)
    name = " + ".join(tensor.name for tensor in tensors)
    first = tensors[0]
    lengths = list(first.shape)
    lengths[axis] = sum(tensor.shape[axis] for tensor in tensors)
    shape, dtype = tuple(lengths), common_type(tensors)
    return dataclasses.replace(
        first,
        name=name,
        shape=shape,
        dtype=dtype,
        read=lambda: _laid_out(
            name, np.concatenate([np.asarray(t.read(), dtype) for t in tensors], axis), shape, dtype
        ),
    )


@dataclasses.dataclass(frozen=True)
class Stacked:
    """Tensors of one shape and type along a new leading axis, as scanned layers are kept.

    Attributes:
      parts: what is stacked; themselves `Stacked` for more leading axes, outermost first.
    """

    parts: tuple["Tensor | Stacked", ...]

    def __post_init__(self) -> None:
        """Raises ValueError when there are none or they differ."""
        if len({(part.shape, part.dtype) for part in self.parts}) != 1:
            raise ValueError("a stack needs parts, all of one shape and type")

    @property
    def shape(self) -> tuple[int, ...]:
        """[number of parts, *shape of each]."""
        return (len(self.parts), *self.parts[0].shape)

    @property
    def dtype(self) -> np.dtype:
        """The parts' NumPy type."""
        return self.parts[0].dtype

    def slices(self) -> Iterator[tuple[tuple[int, ...], Tensor]]:
        """Each tensor with its place on the leading axes, in order."""
        for i, part in enumerate(self.parts):
            if isinstance(part, Stacked):
                yield from (((i, *index), tensor) for index, tensor in part.slices())
            else:
                yield (i,), part


class Source:
    """Tensors by name, for a reader of one family: each is taken, or known to be left."""

    def __init__(self, tensors: dict[str, Tensor], where: Path) -> None:
        """Wraps what `open_tensors` gave.

        Args:
          tensors: by name.
          where: the file or folder, for messages.
        """
        self.where = where
        self._tensors = tensors
        self._left = set(tensors)

    def has(self, name: str) -> bool:
        """Whether there is a tensor of that name."""
        return name in self._tensors

    def names(self) -> tuple[str, ...]:
        """All names, in the checkpoint's order."""
        return tuple(self._tensors)

    def take(self, name: str, shape: tuple[int, ...] | None = None) -> Tensor:
        """A tensor that must be there.

        Args:
          name: the checkpoint's.
          shape: what it must have; None takes any.

        Raises:
          UserError: it is missing or has another shape.
        """
        if name not in self._tensors:
            names = [other for other in self._tensors if len(other) < _LONG_NAME]
            near = difflib.get_close_matches(name, names, 1, 0)
            hint = f"; the nearest name there is {near[0]!r}" if near else ""
            raise UserError(f"{self.where} has no tensor {name!r}{hint}.")
        tensor = self._tensors[name]
        if shape is not None and tensor.shape != tuple(shape):
            raise UserError(
                f"Tensor {name!r} of {tensor.where} has the shape {list(tensor.shape)}, "
                f"but {list(shape)} is what the model needs."
            )
        self._left.discard(name)
        return tensor

    def optional(self, name: str, shape: tuple[int, ...] | None = None) -> Tensor | None:
        """Like `take`, or None where there is no such tensor."""
        return self.take(name, shape) if self.has(name) else None

    def check_all_taken(self, ignored: Iterable[str] = ()) -> None:
        """Makes sure that nothing is left over.

        Args:
          ignored: regular expressions; a name that one of them matches as a whole may be left.

        Raises:
          UserError: naming the first few tensors that no one took.
        """
        patterns = [re.compile(pattern) for pattern in ignored]
        left = [
            name
            for name in self._tensors
            if name in self._left and not any(pattern.fullmatch(name) for pattern in patterns)
        ]
        if left:
            more = f" and {len(left) - 3} more" if len(left) > 3 else ""
            raise UserError(
                f"{self._tensors[left[0]].where} has tensors that the model has no place for: "
                f"{', '.join(map(repr, left[:3]))}{more}; is it of another family or size?"
            )


def open_tensors(path: Path) -> dict[str, Tensor]:
    """Finds the tensors of a checkpoint; none of them is read.

    A torch file may wrap the state dict (`model_state_dict`, `state_dict`, `model`); what lies
    beside it is left alone. `module.` before every name is dropped.

    Args:
      path: a `.safetensors` file, a file of `torch.save`, or a folder as Hugging Face lays it out,
        in one file or in shards.

    Raises:
      UserError: nothing is there, it is damaged or of a kind not known, or could run code.
    """
    arrays = _read_folder(path) if path.is_dir() else _read_file(path)
    prefix = "module." if all(name.startswith("module.") for name in arrays) else ""
    return {
        name.removeprefix(prefix): Tensor(
            name.removeprefix(prefix), array.shape, array.dtype, array.path, array.read
        )
        for name, array in arrays.items()
    }


def _read_folder(folder: Path) -> dict[str, Mapped]:
    for name in FILES:
        if (folder / name).is_file():
            return _read_file(folder / name)
        if (index := folder / f"{name}.index.json").is_file():
            return _read_shards(index)
    raise UserError(f"{folder} holds no checkpoint: none of {', '.join(FILES)} or their indices.")


def _read_shards(index: Path) -> dict[str, Mapped]:
    try:
        places = strict_json(index, index.read_bytes()).get("weight_map")
    except OSError as error:
        raise UserError(f"{index} cannot be read: {error.strerror or error}.") from error
    if not isinstance(places, dict) or not all(
        isinstance(file, str) and Path(file).name == file for file in places.values()
    ):
        raise UserError(f"{index} is damaged: its weight_map does not name files of its folder.")
    shards = {file: _read_file(index.parent / file) for file in sorted(set(places.values()))}
    for name, file in places.items():
        if name not in shards[file]:
            raise UserError(f"{index} says that {file} holds tensor {name!r}, but it does not.")
    for file, tensors in shards.items():
        for name in tensors:
            if places.get(name) != file:
                raise UserError(
                    f"{index.parent / file} holds tensor {name!r}, which is not among those that "
                    f"{index.name} lists for this file."
                )
    return {name: shards[file][name] for name, file in places.items()}


def _read_file(path: Path) -> dict[str, Mapped]:
    try:
        if not path.is_file():
            raise UserError(f"There is no file {path}.")
        with path.open("rb") as file:
            head = file.read(512)
        if path.suffix == ".safetensors":
            return read_header(path)
        if head.startswith(b"PK"):
            return read_torch(path)
        if head[8:9] == b"{":
            return read_header(path)
    except OSError as error:
        raise UserError(f"{path} cannot be read: {error.strerror or error}.") from error
    if head.startswith(b"\x80\x02\x8a\x0al\xfc\x9cF") or head[257:262] == b"ustar":
        raise UserError(
            f"{path} has torch's format from before version 1.6, which is not read: load it with a "
            "newer torch and torch.save it again."
        )
    raise UserError(f"{path} is empty, damaged, or neither a safetensors nor a torch file.")
