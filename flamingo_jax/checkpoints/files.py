"""Small files that are whole or not there, whenever the writer is killed or the disk is full."""

import contextlib
import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from flamingo_jax.errors import UserError


@contextlib.contextmanager
def replaced(path: Path) -> Iterator[Path]:
    """Yields a path beside `path`; the file written there takes its place if all went well."""
    part = path.with_name(f"{path.name}.part")
    try:
        yield part
        part.replace(path)
    except BaseException:
        part.unlink(missing_ok=True)  # on a full disk every byte is needed
        raise


def local_folder(text: str) -> Path:
    """The folder of this machine that a text names.

    Raises:
      UserError: it is the address of a bucket, which files cannot be renamed in one step in.
    """
    if "://" in text:
        raise UserError(
            f"{text} is not a folder of this machine: mount the bucket (gcsfuse for gs://) or a "
            "file share, and give the path there."
        )
    return Path(text)


def config_file(folder: Path, wanted: str) -> Path:
    """The config.json of a run or a model; `wanted` is what to give where there is none.

    Raises:
      UserError: there is none.
    """
    path = folder / "config.json"
    if not path.is_file():
        missing = "has no config.json" if folder.is_dir() else "is not a folder"
        raise UserError(f"{folder} {missing}: give {wanted}.")
    return path


@contextlib.contextmanager
def new_folder(folder: Path) -> Iterator[Path]:
    """Yields a folder beside `folder`, which becomes it if all went well and is removed if not.

    Raises:
      UserError: `folder` exists, or the disk is full.
    """
    if folder.exists():
        raise UserError(f"{folder} exists: choose another --output, or delete it.")
    part = folder.with_name(f"{folder.name}.part")
    shutil.rmtree(part, ignore_errors=True)  # of a killed writer
    try:
        part.mkdir(parents=True)
        yield part
        part.rename(folder)
    except BaseException as error:
        shutil.rmtree(part, ignore_errors=True)
        if isinstance(error, OSError):
            raise UserError(f"{folder} could not be written ({error.strerror}).") from error
        raise


def write_json(path: Path, value: Any) -> None:
    """Writes indented JSON, whole or not at all."""
    with replaced(path) as part:
        part.write_text(json.dumps(value, indent=2) + "\n", encoding="utf-8")
