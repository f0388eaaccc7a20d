"""Which source a path is."""

import glob
from collections.abc import Callable, Sequence
from pathlib import Path

from flamingo_jax.data.bad_records import BadRecord
from flamingo_jax.data.shards import INDEX
from flamingo_jax.data.sources.base import Source
from flamingo_jax.data.sources.pages import Mmc4, Obelics
from flamingo_jax.data.sources.pairs import Table, WebDataset
from flamingo_jax.data.sources.rows import Csv, JsonLines, Parquet, Rows
from flamingo_jax.data.sources.shards import Extracted
from flamingo_jax.data.sources.tfds import Tfds, tfds_folder
from flamingo_jax.errors import UserError

LAYOUTS = (
    "a folder that flamingo_jax.data.extract wrote",
    "a prepared TFDS data set",
    "WebDataset shards (*.tar)",
    "OBELICS or pairs in Parquet (*.parquet)",
    "Multimodal C4, OBELICS or pairs in JSON lines (*.jsonl, *.jsonl.gz, *.jsonl.zip)",
    "pairs in a table (*.csv, *.tsv) beside their images or videos",
)
_LOOKED_AT = 20  # rows, to find one that can be read


def open_source(path: str | Path) -> Source:
    """The documents of a file, of a folder, or of the files that a pattern such as `a/*.tar` names.

    Raises:
      UserError: there is no such path, nothing in it is known, or it holds no record.
    """
    paths = [Path(found) for found in sorted(glob.glob(str(path)))]
    if Path(path).exists():
        paths = [Path(path)]
    if not paths:
        raise UserError(f"There is no file or folder {path}.")
    source = _folder(paths[0]) if len(paths) == 1 and paths[0].is_dir() else _files(paths)
    if source is None:
        raise UserError(f"{path} is no source of documents: one is {'; or '.join(LAYOUTS)}.")
    if not len(source):
        raise UserError(f"{path} holds no record.")
    return source


def _folder(folder: Path) -> Source | None:
    if (folder / INDEX).is_file():
        return Extracted(folder)
    if (prepared := tfds_folder(folder)) is not None:
        return Tfds(prepared)
    # Beside its shards img2dataset puts Parquet files that tell what became of each address.
    for endings in _READERS:
        found = sorted(path for path in folder.iterdir() if path.name.lower().endswith(endings))
        if found:
            return _READERS[endings](found)
    return None


def _files(paths: Sequence[Path]) -> Source | None:
    for endings, read in _READERS.items():
        if all(path.name.lower().endswith(endings) for path in paths):
            return read(paths)
    return None


def _tabular(rows: Rows) -> Source:
    """The source that rows with these fields are."""
    columns = _columns(rows)
    if "text_list" in columns:
        return Mmc4(rows)
    if {"texts", "images"} <= set(columns):
        return Obelics(rows)
    return Table(rows, columns)


def _columns(rows: Rows) -> list[str]:
    """Fields of the first row that can be read.

    Raises:
      UserError: none can be.
    """
    problem = "there is none"
    for i in range(min(_LOOKED_AT, len(rows))):
        try:
            return list(rows[i])
        except BadRecord as error:
            problem = str(error)
    raise UserError(f"{rows.folder}: none of the first rows can be read ({problem}).")


_READERS: dict[tuple[str, ...], Callable[[Sequence[Path]], Source]] = {
    (".tar",): WebDataset,
    (".parquet",): lambda paths: _tabular(Parquet(paths)),
    (".jsonl", ".jsonl.gz", ".jsonl.zip"): lambda paths: _tabular(JsonLines(paths)),
    (".csv", ".tsv"): lambda paths: _tabular(Csv(paths)),
}
