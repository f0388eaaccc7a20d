"""An array that lies in a file: where it begins, its shape, its steps; read when asked for."""

import dataclasses
import math
from pathlib import Path

import numpy as np

from flamingo_jax.errors import UserError

MAX_DIMS = 32
"""Most axes that an array may have."""

_MAX_SIZE = 1 << 62


@dataclasses.dataclass(frozen=True)
class Mapped:
    """An array in a region of a file.

    Attributes:
      path: the file.
      name: of the tensor, for messages.
      dtype: NumPy type, little-endian.
      shape: length of each axis.
      strides: elements from one index to the next of each axis; None for row-major.
      start: byte where the region begins.
      size: bytes in the region.
      offset: elements from the region's beginning to the array's first.
    """

    path: Path
    name: str
    dtype: np.dtype
    shape: tuple[int, ...]
    start: int
    size: int
    strides: tuple[int, ...] | None = None
    offset: int = 0

    def __post_init__(self) -> None:
        """Checks that all of it lies in its region.

        Raises:
          UserError: it does not.
        """
        counts = (self.offset, *self.shape, *self._steps())
        if (
            len(self.shape) > MAX_DIMS
            or len(self._steps()) != len(self.shape)
            or not all(type(count) is int and 0 <= count < _MAX_SIZE for count in counts)
            or (self.offset + self._span()) * self.dtype.itemsize > self.size
        ):
            raise UserError(
                f"{self.path} is damaged: tensor {self.name!r} lies outside its part of the file."
            )

    def read(self) -> np.ndarray:
        """The array, row-major; nothing else of the file is read.

        Raises:
          UserError: the file cannot be read, has become shorter, or the array is a small region
            repeated (as `torch.Tensor.expand` makes), which no weight is.
        """
        if math.prod(self.shape) * self.dtype.itemsize > self.size:
            raise UserError(
                f"Tensor {self.name!r} of {self.path} claims more values than the file has for it."
            )
        begin = self.start + self.offset * self.dtype.itemsize
        try:
            if self._steps() == _row_major(self.shape) or not self._span():
                return self._read_run(begin)
            span = np.memmap(self.path, self.dtype, "r", begin, (self._span(),))
        except (OSError, ValueError) as error:
            raise UserError(
                f"Tensor {self.name!r} of {self.path} cannot be read ({error}): "
                "has the file been cut short since it was opened?"
            ) from error
        steps = tuple(step * self.dtype.itemsize for step in self._steps())
        view = np.lib.stride_tricks.as_strided(span, self.shape, steps, writeable=False)
        return np.array(view, order="C")

    def _read_run(self, begin: int) -> np.ndarray:
        count = math.prod(self.shape)
        array = np.fromfile(self.path, self.dtype, count, offset=begin)
        if array.size != count:
            raise ValueError(f"{array.size} of {count} values are there")
        return array.reshape(self.shape)

    def _steps(self) -> tuple[int, ...]:
        return _row_major(self.shape) if self.strides is None else self.strides

    def _span(self) -> int:
        """Elements from the first to the last, both counted; 0 of an empty array."""
        if 0 in self.shape:
            return 0
        return 1 + sum((n - 1) * step for n, step in zip(self.shape, self._steps(), strict=True))


def _row_major(shape: tuple[int, ...]) -> tuple[int, ...]:
    return tuple(math.prod(shape[axis + 1 :]) for axis in range(len(shape)))
