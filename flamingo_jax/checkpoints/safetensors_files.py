"""Reads the header of a `.safetensors` file: 8 bytes of length, JSON, then the arrays back to back.

The format: https://huggingface.co/docs/safetensors. Read here and not by its library, which gives
no bfloat16 to NumPy.
"""

import json
import math
import os
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np

from flamingo_jax.checkpoints.mapped import MAX_DIMS, Mapped
from flamingo_jax.errors import UserError

DTYPES = {
    "F64": np.dtype("<f8"),
    "F32": np.dtype("<f4"),
    "F16": np.dtype("<f2"),
    "BF16": np.dtype(ml_dtypes.bfloat16),
    "I64": np.dtype("<i8"),
    "I32": np.dtype("<i4"),
    "I16": np.dtype("<i2"),
    "I8": np.dtype("i1"),
    "U8": np.dtype("u1"),
    "BOOL": np.dtype("?"),
}
_MAX_HEADER = 100_000_000  # the format's own limit


def read_header(path: Path) -> dict[str, Mapped]:
    """The arrays of a safetensors file, none of them read.

    Raises:
      UserError: the file is truncated or its header says what cannot be.
    """
    size = os.path.getsize(path)
    with path.open("rb") as file:
        length = int.from_bytes(file.read(8), "little")
        if size < 8 or length > min(size - 8, _MAX_HEADER):
            raise UserError(
                f"{path} is truncated, or no safetensors file: "
                f"it claims a header of {length} bytes, of {size} in all."
            )
        header = strict_json(path, file.read(length))
    header.pop("__metadata__", None)
    begin, arrays = 8 + length, {}
    for name, entry in header.items():
        arrays[name] = _placed(path, name, entry, begin)
    _check_back_to_back(path, arrays, begin, size)
    return arrays


def strict_json(path: Path, text: bytes) -> dict[str, Any]:
    """A JSON object in which every name is given once; raises UserError for anything else."""

    def once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        if len(found := dict(pairs)) < len(pairs):
            raise ValueError("a name is given twice")
        return found

    try:
        found = json.loads(text.decode("utf-8"), object_pairs_hook=once)
        if not isinstance(found, dict):
            raise ValueError("it is no object")
    except (ValueError, RecursionError) as error:
        raise UserError(f"{path} is damaged: its JSON cannot be read ({error}).") from error
    return found


def _placed(path: Path, name: str, entry: Any, begin: int) -> Mapped:
    match entry:
        case {"dtype": str(kind), "shape": list(shape), "data_offsets": [first, last]} if len(
            shape
        ) <= MAX_DIMS and all(type(n) is int and n >= 0 for n in (first, last, *shape)):
            pass
        case _:
            raise UserError(
                f"{path} is damaged: the type, shape and place of tensor {name!r} are not given."
            )
    if kind not in DTYPES:
        raise UserError(
            f"Tensor {name!r} of {path} has the type {kind!r}, which is not read: "
            f"{', '.join(DTYPES)} are."
        )
    if last - first != math.prod(shape) * DTYPES[kind].itemsize:
        raise UserError(
            f"{path} is damaged: tensor {name!r} of type {kind} and shape {shape} cannot have "
            f"{last - first} bytes."
        )
    return Mapped(path, name, DTYPES[kind], tuple(shape), begin + first, last - first)


def _check_back_to_back(path: Path, arrays: dict[str, Mapped], begin: int, size: int) -> None:
    end = begin
    for array in sorted(arrays.values(), key=lambda array: (array.start, array.size)):
        if array.start != end:
            raise UserError(
                f"{path} is damaged: tensor {array.name!r} overlaps another, or lies apart from it."
            )
        end += array.size
        if end > size:
            raise UserError(f"{path} is truncated: tensor {array.name!r} is not whole.")
    if end != size:
        raise UserError(f"{path} is damaged: {size - end} bytes at its end belong to no tensor.")
