"""Checkpoints on disk, through orbax: the frozen collection once, each step's state atomically.

A step's checkpoint holds the new parameters, the optimizer's state and the data iterator's state.
Orbax writes it under a temporary name in the background and renames it when whole, so a killed
writer or a full disk leaves the step before it intact. Once written, its files' checksums are put
beside them, since nothing else tells of a flipped bit in an array. Of several processes each writes
and reads what its devices hold, and checks its share of the files; the folder is common to all.
"""

import concurrent.futures
import contextlib
import dataclasses
import json
import logging
import shutil
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import numpy as np
import orbax.checkpoint as ocp
from etils import epath

from flamingo_jax.checkpoints.files import write_json
from flamingo_jax.errors import UserError, no_room
from flamingo_jax.parallel.processes import all_agree, ended_by_a_loss, lead, wait_for_all

SUMS = "sums.{}.json"
"""CRC-32 by name of a process's share of the files in a written folder."""

_log = logging.getLogger(__name__)


@dataclasses.dataclass(frozen=True)
class Restored:
    """A checkpoint read back.

    Attributes:
      step: number of finished steps.
      state: tree of arrays like the one given to `restore_latest`.
      data: the data iterator's state, plain JSON.
    """

    step: int
    state: Any
    data: Any


class _Manager(ocp.CheckpointManager):
    """Orbax's, which does not ask JAX whether a preemption was agreed upon.

    JAX agrees on one of the numbers that it is asked with: the loops', which count their questions
    (`training/stopping.py`). Asked here with the number of a step, it could choose one that no loop
    comes to.
    """

    def reached_preemption(self, step: int) -> bool:
        """Whether to save for that reason; the loops save by themselves."""
        return False


class StepStore:
    """The checkpoints of one training stage, `FOLDER/STEP`; the last `keep` are kept."""

    def __init__(self, folder: Path, keep: int = 3) -> None:
        options = ocp.CheckpointManagerOptions(
            max_to_keep=keep, create=True, cleanup_tmp_directories=True
        )
        self._folder = folder
        self._tell_unfinished()
        self._manager = self._guarded(lambda: _Manager(folder.absolute(), options=options))
        self._executor = concurrent.futures.ThreadPoolExecutor(1)
        self._writing: concurrent.futures.Future[None] | None = None

    def save(self, step: int, state: Any, data: Any) -> None:
        """Starts writing in the background; waits only for the write before it.

        Raises:
          UserError: the disk is full or the folder cannot be written.
        """
        self.wait()
        items = {"state": ocp.args.StandardSave(state), "data": ocp.args.JsonSave(data)}
        self._guarded(lambda: self._manager.save(step, args=ocp.args.Composite(**items)))
        self._writing = self._executor.submit(self._finish, step)

    def wait(self) -> None:
        """Returns when the last write has finished.

        Raises:
          UserError: the disk is full or the folder cannot be written.
        """
        writing, self._writing = self._writing, None
        if writing is not None:
            self._guarded(writing.result)

    def latest_step(self) -> int | None:
        """The newest step on disk, whether or not it can be read."""
        return self._manager.latest_step()

    def restore_latest(self, like: Any) -> Restored | None:
        """The newest checkpoint that can be read.

        A damaged one is passed over with a message and kept as `STEP.damaged`. Where another
        process is lost meanwhile, this one ends as `ended_by_a_loss` says.

        Args:
          like: a tree of arrays or `jax.ShapeDtypeStruct` with the shapes and shardings wanted.
        """
        args = ocp.args.Composite(state=ocp.args.StandardRestore(like), data=ocp.args.JsonRestore())
        for step in sorted(self._manager.all_steps(), reverse=True):
            try:
                with ended_by_a_loss():
                    check_seal(self._folder / str(step))
                    found = self._manager.restore(step, args=args)
                return Restored(step, found["state"], found["data"])
            except jax.errors.JaxRuntimeError:  # no room on a device, say: not the files' fault
                raise
            except Exception as error:  # orbax raises bare ones
                self._set_aside(step, _reason(error))
        return None

    def close(self) -> None:
        """Waits for the last write and lets go of the folder."""
        try:
            self.wait()
        finally:
            self._executor.shutdown()
            with contextlib.suppress(Exception):  # a failed write, told of before, again
                self._manager.close()

    def _finish(self, step: int) -> None:
        """Seals a step as soon as it is written."""
        self._manager.wait_until_finished()
        seal(self._folder / str(step))

    def _tell_unfinished(self) -> None:
        """A line on what a killed writer left behind, which orbax removes."""
        if not lead():
            return
        for path in sorted(self._folder.glob("*.orbax-checkpoint-tmp*")):
            last = self._last_whole()
            goes_on = f"going back to step {last}" if last else "there is none before it"
            _log.warning(
                "Checkpoint %s was not finished when its writer stopped, and is removed: %s.",
                *(self._folder / path.name.split(".")[0], goes_on),
            )

    def _last_whole(self) -> int:
        """The newest step that orbax has renamed; 0 if there is none."""
        return max((int(p.name) for p in self._folder.glob("*") if p.name.isdigit()), default=0)

    def _set_aside(self, step: int, reason: str) -> None:
        path = self._folder / str(step)
        aside = path.with_name(f"{step}.damaged")
        if lead():
            shutil.rmtree(aside, ignore_errors=True)
            path.rename(aside)
        wait_for_all(f"set aside {path}")
        self._manager.reload()
        _log.warning(
            "Checkpoint %s cannot be read (%s): going back to the one before. It is kept as %s.",
            *(path, reason, aside.name),
        )

    def _guarded(self, write: Callable[[], Any]) -> Any:
        try:
            return write()
        except Exception as error:  # orbax and tensorstore raise what they like
            last = self._last_whole()
            kept = f"the last good one is step {last}" if last else "there is none yet"
            raise UserError(
                f"A checkpoint could not be written to {self._folder} "
                f"({_reason(error)}); {kept}: make room and run again."
            ) from error


def load_params(folder: Path) -> Any:
    """The `params` of the newest training checkpoint that can be read; nothing else is read.

    Args:
      folder: of a `StepStore` whose states have `params`.

    Raises:
      UserError: there is no checkpoint, or none can be read.
    """
    steps = sorted((int(p.name) for p in folder.glob("*") if p.name.isdigit()), reverse=True)
    reason = "there is none"
    for step in steps:
        whole = folder.absolute() / str(step)
        try:
            check_seal(whole)
            return _read_arrays(whole / "state", "params")["params"]
        except Exception as error:  # orbax raises bare ones
            reason = _reason(error)
            _log.warning("Checkpoint %s cannot be read (%s).", folder / str(step), reason)
    raise UserError(
        f"No readable checkpoint in {folder} ({reason}): run the training job on that work "
        "directory until its first checkpoint."
    )


def _read_arrays(folder: Path, part: str | None = None) -> Any:
    """A stored tree, or one entry of it, as NumPy arrays; the devices that wrote it may be gone."""
    path = epath.Path(folder.absolute())
    with contextlib.closing(ocp.PyTreeCheckpointHandler()) as handler:
        tree = handler.metadata(path).tree
        like = jax.tree.map(_abstract, {part: tree[part]} if part else tree)
        numpy = jax.tree.map(lambda _: ocp.RestoreArgs(restore_type=np.ndarray), like)
        args = ocp.args.PyTreeRestore(like, restore_args=numpy, partial_restore=bool(part))
        return handler.restore(path, args=args)


def _abstract(leaf: Any) -> jax.ShapeDtypeStruct:
    return jax.ShapeDtypeStruct(leaf.shape, leaf.dtype)


def save_tree(folder: Path, tree: Any) -> None:
    """Writes a tree of arrays once, whole or not at all; an existing one is left as it is.

    Raises:
      UserError: the disk is full or the folder cannot be written.
    """
    if folder.exists():
        return
    try:
        with ocp.StandardCheckpointer() as checkpointer:
            checkpointer.save(folder.absolute(), tree)
        seal(folder)
    except Exception as error:  # orbax and tensorstore raise what they like
        raise UserError(
            f"{folder} could not be written ({_reason(error)}): make room and run again."
        ) from error


def load_tree(folder: Path, wanted: Callable[[Any], Any] | None = None) -> Any:
    """Reads a tree written by `save_tree`.

    Args:
      folder: where it lies.
      wanted: from the tree's shapes to those with the types and shardings to restore to; None
        gives NumPy arrays as saved.

    Raises:
      UserError: nothing is there, or it is damaged.
    """
    try:
        with ended_by_a_loss():
            check_seal(folder)
            if wanted is None:
                return _read_arrays(folder)
            with ocp.StandardCheckpointer() as checkpointer:
                metadata = checkpointer.metadata(folder.absolute()).item_metadata
                shapes = jax.tree.map(_abstract, metadata.tree)
                return checkpointer.restore(folder.absolute(), wanted(shapes))
    except (UserError, jax.errors.JaxRuntimeError):  # of `wanted`, or the devices
        raise
    except Exception as error:  # orbax raises bare ones
        raise UserError(
            f"No readable arrays in {folder} ({_reason(error)}): "
            "delete that folder and run the job again to make it anew."
        ) from error


def seal(folder: Path) -> None:
    """Writes the checksums of this process's share of a folder's files into it."""
    write_json(folder / SUMS.format(jax.process_index()), _sums(folder, _share(_files(folder))))


def check_seal(folder: Path) -> None:
    """Compares a folder's files with its checksums; one that was not sealed passes.

    Every process does so with a share of the files, and all of them come to the same end.

    Raises:
      ValueError: a file has changed, or is missing.
    """
    expected: dict[str, int] = {}
    for path in folder.glob(SUMS.format("*")):
        expected.update(json.loads(path.read_text(encoding="utf-8")))
    names = _share(sorted(expected))  # of a process that was killed before it wrote some, none
    found = _sums(folder, names)
    wrong = [name for name in names if expected[name] != found.get(name)]
    if not all_agree(not wrong):
        name = wrong[0] if wrong else "what another process checked"
        raise ValueError(f"{name} is {'missing' if wrong and name not in found else 'damaged'}")


def _files(folder: Path) -> list[str]:
    """Names of all files in a folder but the checksums."""
    paths = (path for path in sorted(folder.rglob("*")) if path.is_file())
    return [str(path.relative_to(folder)) for path in paths if not path.name.startswith("sums.")]


def _share(names: list[str]) -> list[str]:
    return names[jax.process_index() :: jax.process_count()]


def _sums(folder: Path, names: list[str]) -> dict[str, int]:
    """CRC-32 of those files that are there."""
    return {name: _sum(folder / name) for name in names if (folder / name).is_file()}


def _sum(path: Path) -> int:
    total = 0
    with path.open("rb") as file:
        while part := file.read(1 << 24):
            total = zlib.crc32(part, total)
    return total


def _reason(error: Exception) -> str:
    """What an error says, short enough for one line."""
    if words := no_room(error):
        return words
    lines = str(error).splitlines() or [type(error).__name__]
    return lines[0][:200]
