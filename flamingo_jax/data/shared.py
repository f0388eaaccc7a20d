"""Batches from worker processes, in blocks of shared memory that are used again.

New shared memory is expensive: with a page fault for every 4 KiB an image of 224 pixels takes 0.15
ms, as much as reading it. So a worker keeps its blocks. The first byte of each tells whether its
batch is still looked at; the process that was given it clears that byte when the last array on the
block is gone. Grain carries a new block over, and then unlinks its name.
"""

import dataclasses
import os
import weakref
from collections.abc import Mapping, Sequence
from multiprocessing.shared_memory import SharedMemory

import numpy as np
from grain.multiprocessing import SharedMemoryArray

_ALIGNED = 64  # bytes: a CPU's vectors, and what JAX wants to take an array as it lies


@dataclasses.dataclass(frozen=True)
class Parcel:
    """Where in a block the arrays of a batch lie.

    Attributes:
      block: process and number of the block.
      places: by field, the first byte, the shape and the name of the type.
    """

    block: tuple[int, int]
    places: Mapping[str, tuple[int, tuple[int, ...], str]]


class Sender:
    """A worker process's blocks."""

    def __init__(self) -> None:
        self._blocks: list[SharedMemoryArray] = []

    def stack(
        self, rows: Sequence[Mapping[str, np.ndarray]]
    ) -> tuple[Parcel, SharedMemoryArray | None]:
        """Stacks each field of the rows, all of the same fields, shapes and types.

        Returns:
          where they are, and the block itself if it is new.
        """
        places, end = {}, _ALIGNED
        for field, array in rows[0].items():
            places[field] = (end, (len(rows), *array.shape), array.dtype.str)
            end += -(-len(rows) * array.nbytes // _ALIGNED) * _ALIGNED
        number, new = self._free(end)
        block = self._blocks[number]
        block[0] = 1
        for field, stacked in _arrays(block, places).items():
            np.stack([row[field] for row in rows], out=stacked)
        return Parcel((os.getpid(), number), places), block if new else None

    def _free(self, size: int) -> tuple[int, bool]:
        """The number of the smallest block of `size` bytes that is free, and whether it is new."""
        fitting = [n for n, block in enumerate(self._blocks) if not block[0] and len(block) >= size]
        if fitting:
            return min(fitting, key=lambda n: len(self._blocks[n])), False
        self._blocks.append(SharedMemoryArray((size,), np.uint8))
        return len(self._blocks) - 1, True


class Receiver:
    """The blocks that worker processes have sent to this one."""

    def __init__(self) -> None:
        self._blocks: dict[tuple[int, int], SharedMemory] = {}

    def open(self, parcel: Parcel, new: SharedMemoryArray | None) -> dict[str, np.ndarray]:
        """A batch's arrays by field; once they and all views of them are gone the block is free."""
        if new is not None:
            # Opened again, since grain's own goes at once and its name with it: however this
            # process ends, nothing is left.
            self._blocks[parcel.block] = SharedMemory(new.metadata.name)
        block = self._blocks[parcel.block]
        whole = np.ndarray((block.size,), np.uint8, buffer=block.buf)
        weakref.finalize(whole, _release, block).atexit = False
        return _arrays(whole, parcel.places)


def _release(block: SharedMemory) -> None:
    if block.buf is not None:  # it is closed where the interpreter takes itself apart
        block.buf[0] = 0


def _arrays(
    block: np.ndarray, places: Mapping[str, tuple[int, tuple[int, ...], str]]
) -> dict[str, np.ndarray]:
    return {
        field: np.ndarray(shape, dtype, buffer=block, offset=start)
        for field, (start, shape, dtype) in places.items()
    }
