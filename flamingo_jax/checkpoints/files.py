"""Small files that are whole or not there, whenever the writer is killed or the disk is full."""

import contextlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any


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


def write_json(path: Path, value: Any) -> None:
    """Writes indented JSON, whole or not at all."""
    with replaced(path) as part:
        part.write_text(json.dumps(value, indent=2) + "\n", encoding="utf-8")
