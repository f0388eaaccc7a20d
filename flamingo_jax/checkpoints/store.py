"""Checkpoints on disk, through orbax: the frozen collection once, each step's state atomically.

A step's checkpoint holds the new parameters, the optimizer's state and the data iterator's state.
Orbax writes it under a temporary name in the background and renames it when whole, so a killed
writer or a full disk leaves the step before it intact.
"""

import dataclasses
import logging
from pathlib import Path
from typing import Any

import jax
import orbax.checkpoint as ocp

from flamingo_jax.errors import UserError

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


class StepStore:
    """The checkpoints of one training stage, `FOLDER/STEP`; the last `keep` are kept."""

    def __init__(self, folder: Path, keep: int = 3) -> None:
        options = ocp.CheckpointManagerOptions(max_to_keep=keep, create=True)
        self._manager = ocp.CheckpointManager(folder.absolute(), options=options)
        self._folder = folder

    def save(self, step: int, state: Any, data: Any) -> None:
        """Starts writing in the background; waits only for the write before it.

        Raises:
          UserError: the disk is full or the folder cannot be written.
        """
        items = {"state": ocp.args.StandardSave(state), "data": ocp.args.JsonSave(data)}
        self._guarded(lambda: self._manager.save(step, args=ocp.args.Composite(**items)))

    def wait(self) -> None:
        """Returns when the last write has finished.

        Raises:
          UserError: the disk is full or the folder cannot be written.
        """
        self._guarded(self._manager.wait_until_finished)

    def latest_step(self) -> int | None:
        """The newest step on disk, whether or not it can be read."""
        return self._manager.latest_step()

    def restore_latest(self, like: Any) -> Restored | None:
        """The newest checkpoint that can be read; damaged ones are passed over with a message.

        Args:
          like: a tree of arrays or `jax.ShapeDtypeStruct` with the shapes and shardings wanted.
        """
        args = ocp.args.Composite(state=ocp.args.StandardRestore(like), data=ocp.args.JsonRestore())
        for step in sorted(self._manager.all_steps(), reverse=True):
            try:
                found = self._manager.restore(step, args=args)
                return Restored(step, found["state"], found["data"])
            except (ValueError, OSError, KeyError) as error:
                reason = str(error).splitlines()[0][:200]
                _log.warning(
                    "Checkpoint %s cannot be read (%s): going back to the one before.",
                    self._folder / str(step),
                    reason,
                )
                self._manager.delete(step)
        return None

    def close(self) -> None:
        """Waits for the last write and lets go of the folder."""
        self.wait()
        self._manager.close()

    def _guarded(self, write: Any) -> None:
        try:
            write()
        except (OSError, ValueError) as error:
            last = self._manager.latest_step()
            kept = "there is none yet" if last is None else f"the last good one is step {last}"
            raise UserError(
                f"A checkpoint could not be written to {self._folder} "
                f"({str(error).splitlines()[0][:200]}); {kept}: make room and run again."
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
        state = folder.absolute() / str(step) / "state"
        try:
            with ocp.PyTreeCheckpointer() as checkpointer:
                saved = checkpointer.metadata(state).item_metadata.tree["params"]
                like = {"params": jax.tree.map(_abstract, saved)}
                args = ocp.args.PyTreeRestore(
                    like,
                    restore_args=ocp.checkpoint_utils.construct_restore_args(like),
                    partial_restore=True,
                )
                return checkpointer.restore(state, args=args)["params"]
        except (ValueError, OSError, KeyError, AttributeError) as error:
            reason = str(error).splitlines()[0][:200]
            _log.warning("Checkpoint %s cannot be read (%s).", folder / str(step), reason)
    raise UserError(
        f"No readable checkpoint in {folder} ({reason}): run the training job on that work "
        "directory until its first checkpoint."
    )


def _abstract(leaf: Any) -> jax.ShapeDtypeStruct:
    return jax.ShapeDtypeStruct(leaf.shape, leaf.dtype)


def save_tree(folder: Path, tree: Any) -> None:
    """Writes a tree of arrays once, whole or not at all; an existing one is left as it is."""
    if folder.exists():
        return
    with ocp.StandardCheckpointer() as checkpointer:
        checkpointer.save(folder.absolute(), tree)


def load_tree(folder: Path, like: Any | None = None) -> Any:
    """Reads a tree written by `save_tree`.

    Args:
      folder: where it lies.
      like: shapes, types and shardings to restore to; None gives NumPy arrays as saved.

    Raises:
      UserError: nothing is there, or it is damaged.
    """
    try:
        with ocp.StandardCheckpointer() as checkpointer:
            if like is None:
                metadata = checkpointer.metadata(folder.absolute()).item_metadata
                like = jax.tree.map(
                    lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype), metadata.tree
                )
            return checkpointer.restore(folder.absolute(), like)
    except (FileNotFoundError, ValueError, OSError) as error:
        raise UserError(
            f"No readable arrays in {folder} ({str(error).splitlines()[0][:200]}): "
            "delete that folder and run the job again to make it anew."
        ) from error
