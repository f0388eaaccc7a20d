"""From the patterns that a user gives to the units of work."""

import glob
import itertools
from collections.abc import Iterator, Sequence
from pathlib import Path

from flamingo_jax.data.web.extraction import Unit
from flamingo_jax.data.web.folders import SUFFIXES
from flamingo_jax.errors import UserError

ARCHIVES = (".warc", ".warc.gz")
_PAGES_A_UNIT = 200


def units(patterns: Sequence[str]) -> list[Unit]:
    """Archives, and folders' pages in portions, in the order of their names.

    A folder's images are looked for in the whole of it. Of a page that a pattern names by itself,
    the folder is what comes before the pattern's first wildcard.

    Args:
      patterns: names of archives, folders and pages, with `*`, `**`, `?` and `[...]`.

    Raises:
      UserError: nothing has such a name, or it is something else.
    """
    archives: set[Path] = set()
    folders: dict[Path, set[Path]] = {}
    for pattern in patterns:
        for path in _matches(pattern):
            if path.is_dir():
                folders.setdefault(path, set()).update(_pages(path))
            elif path.name.lower().endswith(ARCHIVES):
                archives.add(path)
            elif path.suffix.lower() in SUFFIXES:
                folders.setdefault(_root(pattern, path), set()).add(path)
            else:
                raise UserError(
                    f"--input: {path} is no archive (.warc, .warc.gz), page (.html) or folder."
                )
    found: list[tuple[Path, tuple[Path, ...] | None]] = [(path, None) for path in archives]
    for folder, pages in folders.items():
        ordered = tuple(sorted(pages))
        for start in range(0, len(ordered), _PAGES_A_UNIT):
            found.append((folder, ordered[start : start + _PAGES_A_UNIT]))
    if not found:
        raise UserError(f"--input={','.join(patterns)} names no archive and no page.")
    found.sort(key=lambda unit: (str(unit[0]), unit[1] or ()))
    return [Unit(number, path, pages) for number, (path, pages) in enumerate(found)]


def files(patterns: Sequence[str]) -> list[Path]:
    """Files by their names, in order, each once.

    Raises:
      UserError: nothing has such a name.
    """
    found = {path for pattern in patterns for path in _named(pattern) if path.is_file()}
    if not found:
        raise UserError(f"--input={','.join(patterns)} names no file.")
    return sorted(found)


def _named(pattern: str) -> list[Path]:
    found = [Path(name) for name in glob.glob(pattern, recursive=True)]
    if not found:
        raise UserError(f"--input: there is nothing by the name {pattern}.")
    return found


def _matches(pattern: str) -> list[Path]:
    found = _named(pattern)
    folders = {path for path in found if path.is_dir()}
    files = [path for path in found if path not in folders]
    wanted = {path for path in files if path.name.lower().endswith((*ARCHIVES, *SUFFIXES))}
    # A pattern for files may name folders on the way too: `site/**` does.
    wanted |= folders - {folder for path in wanted for folder in path.parents}
    return sorted(wanted if "*" in pattern and wanted else found)


def _pages(folder: Path) -> Iterator[Path]:
    for path in folder.rglob("*"):
        if path.suffix.lower() in SUFFIXES and path.is_file():
            yield path


def _root(pattern: str, path: Path) -> Path:
    if not glob.has_magic(pattern):
        return path.parent
    return Path(*itertools.takewhile(lambda part: not glob.has_magic(part), Path(pattern).parts))
