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

from flamingo_jax.checkpoints.mapped import Mapped
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
        header = _parsed(path, file.read(length))
    header.pop("__metadata__", None)
    begin, arrays = 8 + length, {}
    for name, entry in header.items():
        arrays[name] = _placed(path, name, entry, begin)
    _check_back_to_back(path, arrays, begin, size)
    return arrays


def _parsed(path: Path, text: bytes) -> dict[str, Any]:
    def once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        if len(found := dict(pairs)) < len(pairs):
            raise ValueError("a name is given twice")
        return found

    try:
        header = json.loads(text.decode("utf-8"), object_pairs_hook=once)
    except (ValueError, RecursionError) as error:
        raise UserError(f"{path} is damaged: its header is no JSON ({error}).") from error
    if not isinstance(header, dict):
        raise UserError(f"{path} is damaged: its header is no JSON object.")
    return header


def _placed(path: Path, name: str, entry: Any, begin: int) -> Mapped:
    try:
        kind, shape, (first, last) = entry["dtype"], tuple(entry["shape"]), entry["data_offsets"]
        if not all(type(n) is int and n >= 0 for n in (first, *shape)):
            raise ValueError
        if last - first != math.prod(shape) * DTYPES[kind].itemsize:
            raise ValueError
    except (KeyError, TypeError, ValueError) as error:
        raise UserError(
            f"{path} is damaged or of a kind not known: the shape, type and place of tensor "
            f"{name!r} do not fit together ({str(entry)[:200]})."
        ) from error
    return Mapped(path, name, DTYPES[kind], shape, begin + first, last - first)


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
