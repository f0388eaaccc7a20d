"""Writes a tree of unread tensors as an orbax checkpoint, one tensor in memory at a time.

Orbax writes the tree's structure; the arrays are written here through tensorstore, as zarr files
in chunks of a bounded size, each on disk before the next is begun. (Orbax's own handlers begin all
arrays at once, and its OCDBT layout would write its index anew at every chunk.)
"""

import itertools
import math
import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import orbax.checkpoint as ocp
import tensorstore as ts
from tqdm import tqdm

from flamingo_jax.checkpoints.store import seal
from flamingo_jax.checkpoints.tensors import Stacked, Tensor
from flamingo_jax.errors import UserError, no_room

CHUNK_BYTES = 1 << 24
"""Most bytes in one chunk of an array: what is copied and compressed at a time."""

Leaf = Tensor | Stacked | np.ndarray


def save_streamed(folder: Path, tree: Any, dtype: Any = None, progress: str | None = None) -> None:
    """Writes a tree of tensors for `store.load_tree`, whole and with checksums, or not at all.

    The peak of memory is that of the largest single tensor's `read()`, and some chunks.

    Args:
      folder: to be made; must not exist.
      tree: nested dictionaries with leaves `Tensor`, `Stacked` (written slice by slice) or NumPy
        arrays.
      dtype: of all floating-point arrays in the checkpoint; None is float32. Others stay as they
        are.
      progress: what a progress bar is called; None shows none.

    Raises:
      UserError: the folder exists or cannot be written, the disk is full, or a tensor cannot be
        read; nothing is left on disk.
    """
    if folder.exists():
        raise UserError(f"{folder} exists already: delete it or name another folder.")
    part = folder.absolute().with_name(f"{folder.name}.part")
    shutil.rmtree(part, ignore_errors=True)  # of a killed writer
    total = sum(_nbytes(leaf, dtype) for leaf in jax.tree.leaves(tree))
    try:
        with tqdm(
            total=total, desc=progress, disable=progress is None, unit="B", unit_scale=True
        ) as bar:
            _write_tree(part / "tree", tree, _Writer(dtype, bar))
        seal(part / "tree")
        (part / "tree").rename(folder)
    except UserError:
        raise
    except Exception as error:  # orbax and tensorstore raise what they like
        reason = no_room(error) or (str(error).splitlines() or [type(error).__name__])[0][:200]
        raise UserError(
            f"{folder} could not be written ({reason}): make room and run again."
        ) from error
    finally:
        shutil.rmtree(part, ignore_errors=True)


def _write_tree(folder: Path, tree: Any, writer: "_Writer") -> None:
    kinds = [(kind, writer) for kind in (Tensor, Stacked, np.ndarray)]
    registry = ocp.type_handlers.create_type_handler_registry(*kinds)
    handler = ocp.PyTreeCheckpointHandler(use_ocdbt=False, type_handler_registry=registry)
    with ocp.Checkpointer(handler) as checkpointer:
        checkpointer.save(folder, args=ocp.args.PyTreeSave(tree))


class _Writer(ocp.type_handlers.NumpyHandler):
    """Writes leaves one after another; they are read back as NumPy arrays are."""

    def __init__(self, dtype: Any, bar: tqdm) -> None:
        super().__init__()
        self._dtype = dtype
        self._bar = bar

    async def serialize(
        self, values: Sequence[Any], infos: Sequence[Any], args: Sequence[Any] | None = None
    ) -> Sequence[Any]:
        """Writes every leaf before it returns, so that there is nothing to wait for."""
        for leaf, info in zip(values, infos, strict=True):
            await info.await_path_creation()
            await self._write(leaf, info.path)
        return []

    async def _write(self, leaf: Leaf, path: Path) -> None:
        dtype = _written(leaf.dtype, self._dtype)
        leading = leaf.shape[: len(next(_slices(leaf))[0])]
        chunk = _chunk(leaf.shape[len(leading) :], dtype.itemsize)
        store = await _created(path, leaf.shape, (1,) * len(leading) + chunk, dtype)
        for index, part in _slices(leaf):
            array = part.read() if isinstance(part, Tensor) else part
            for place in _places(array.shape, chunk):
                block = np.asarray(array[place], dtype, order="C")
                await store[(*index, *place)].write(
                    block, can_reference_source_data_indefinitely=True
                )
                self._bar.update(block.nbytes)


async def _created(
    path: Path, shape: tuple[int, ...], chunk: tuple[int, ...], dtype: np.dtype
) -> ts.TensorStore:
    spec = {
        "driver": "zarr",
        "kvstore": {"driver": "file", "path": f"{path}/"},
        "metadata": {"chunks": chunk, "compressor": {"id": "zstd", "level": 1}},
        "store_data_equal_to_fill_value": True,
    }
    return await ts.open(spec, create=True, shape=shape, dtype=ts.dtype(dtype))


def _slices(leaf: Leaf) -> Iterator[tuple[tuple[int, ...], Tensor | np.ndarray]]:
    """What is written at once, each with its place on the leading axes."""
    return leaf.slices() if isinstance(leaf, Stacked) else iter([((), leaf)])


def _chunk(shape: tuple[int, ...], itemsize: int) -> tuple[int, ...]:
    """The largest block of whole rows, or of parts of one, within `CHUNK_BYTES`."""
    chunk = [max(1, n) for n in shape]
    for axis, n in enumerate(chunk):
        row = math.prod(chunk[axis + 1 :]) * itemsize
        chunk[axis] = min(n, max(1, CHUNK_BYTES // row))
    return tuple(chunk)


def _places(shape: tuple[int, ...], chunk: tuple[int, ...]) -> Iterator[tuple[slice, ...]]:
    """The chunks' places in an array."""
    axes = [
        [slice(i, min(i + step, n)) for i in range(0, n, step)]
        for n, step in zip(shape, chunk, strict=True)
    ]
    return itertools.product(*axes)


def _written(dtype: np.dtype, floating: Any) -> np.dtype:
    """The type that an array of `dtype` has in the checkpoint."""
    if not jnp.issubdtype(dtype, jnp.floating):
        return np.dtype(dtype)
    return np.dtype(np.float32 if floating is None else floating)


def _nbytes(leaf: Leaf, floating: Any) -> int:
    return math.prod(leaf.shape) * _written(leaf.dtype, floating).itemsize
