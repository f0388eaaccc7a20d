"""What a suite has written so far: predictions that survive a kill, and whose folder it is."""

import contextlib
import dataclasses
import hashlib
import json
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np

from flamingo_jax.checkpoints.files import replaced, write_json
from flamingo_jax.errors import UserError

Stage = tuple[str, int, int]
"""Benchmark, shots and seed."""


class Predictions:
    """`predictions.jsonl` in a folder: one line a query, added as tiles are answered.

    A line holds `benchmark`, `shots`, `seed`, `query`, `supports`, `prompt`, `raw`, `answer`,
    `log_probs` (of the candidates, None where answers are written) and `score` (None until all is
    done, and where the score is no mean over queries).
    """

    def __init__(self, folder: Path) -> None:
        """Reads what is there; half a line at the end, of a killed writer, is cut off.

        Raises:
          UserError: another line is damaged.
        """
        self.path = folder / "predictions.jsonl"
        self._found: dict[Stage, dict[str, dict[str, Any]]] = {}
        if self.path.exists():
            self._read()

    def of(self, stage: Stage) -> Mapping[str, dict[str, Any]]:
        """Lines by query."""
        return self._found.get(stage, {})

    def add(self, lines: Iterable[dict[str, Any]]) -> None:
        """Appends lines whose queries have none yet; they are on disk when this returns."""
        new = [line for line in lines if line["query"] not in self.of(_stage(line))]
        with self.path.open("a", encoding="utf-8") as file:
            file.write("".join(map(_text, new)))
            file.flush()
            os.fsync(file.fileno())
        self._keep(new)

    def finish(self, scored: Mapping[Stage, Sequence[dict[str, Any]]]) -> None:
        """Writes all lines anew, whole or not at all: those given in their order, then the others.

        The others are of stages that could not be finished; what they have is not asked again.
        """
        others = (found.values() for stage, found in self._found.items() if stage not in scored)
        with replaced(self.path) as part, part.open("w", encoding="utf-8") as file:
            for lines in (*scored.values(), *others):
                file.writelines(map(_text, lines))

    def _keep(self, lines: Iterable[dict[str, Any]]) -> None:
        for line in lines:
            self._found.setdefault(_stage(line), {})[line["query"]] = line

    def _read(self) -> None:
        for number, line in enumerate(_whole_lines(self.path), 1):
            try:
                self._keep([json.loads(line)])
            except (ValueError, KeyError, TypeError) as error:
                raise UserError(
                    f"{self.path} is damaged at line {number}: delete that line, or give another "
                    "--output."
                ) from error


class Seconds:
    """`seconds.jsonl` in a folder: how long each stage took, over all runs of it."""

    def __init__(self, folder: Path) -> None:
        self._path = folder / "seconds.jsonl"
        self._sums: dict[Stage, float] = {}
        if self._path.exists():
            for line in _whole_lines(self._path):
                with contextlib.suppress(ValueError, KeyError, TypeError):  # no figure needs it
                    row = json.loads(line)
                    self._sums[_stage(row)] = self.of(_stage(row)) + row["seconds"]

    def of(self, stage: Stage) -> float:
        """The stage's seconds so far."""
        return self._sums.get(stage, 0.0)

    def add(self, stage: Stage, seconds: float) -> None:
        """Adds to a stage's seconds."""
        self._sums[stage] = self.of(stage) + seconds
        row = {"benchmark": stage[0], "shots": stage[1], "seed": stage[2]}
        with self._path.open("a", encoding="utf-8") as file:
            file.write(json.dumps({**row, "seconds": round(seconds, 3)}) + "\n")


def claim(folder: Path, config: Mapping[str, Any], checkpoint: str) -> None:
    """Makes a folder that of one config and checkpoint, which `suite.json` in it tells.

    Raises:
      UserError: it is that of others already; the message names what differs. Or it cannot be made.
    """
    path = folder / "suite.json"
    mine = json.loads(json.dumps({**config, "checkpoint_hash": checkpoint}))
    if not path.exists():
        try:
            folder.mkdir(parents=True, exist_ok=True)
            write_json(path, mine)
        except OSError as error:
            raise UserError(f"{folder} cannot be written ({error.strerror}).") from error
        return
    try:
        theirs = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise UserError(f"{path} is damaged: give another --output.") from error
    differing = [
        f"{name} was {theirs.get(name)} and is {mine.get(name)}"
        for name in {**theirs, **mine}
        if theirs.get(name) != mine.get(name)
    ]
    if differing:
        raise UserError(
            f"{folder} holds results of another evaluation ({'; '.join(differing)}): give another "
            "--output."
        )


def config_hash(config: Any) -> str:
    """16 hexadecimal digits that tell a config, a dataclass, from others."""
    text = json.dumps(dataclasses.asdict(config), sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def checkpoint_hash(weights: Any) -> str:
    """16 hexadecimal digits that tell a tree of weights from others, by name, shape and value."""
    digest = hashlib.blake2b(digest_size=8)
    for path, leaf in jax.tree_util.tree_leaves_with_path(weights):
        values = np.asarray(leaf)
        digest.update(f"{jax.tree_util.keystr(path)} {values.shape} {values.dtype}".encode())
        digest.update(np.ascontiguousarray(values).view(np.uint8).data)
    return digest.hexdigest()


def _whole_lines(path: Path) -> Iterator[bytes]:
    """A file's lines; half a line at its end, of a killed writer, is cut off after them."""
    whole = 0
    with path.open("rb") as file:
        for line in file:
            if line.endswith(b"\n"):
                whole += len(line)
                yield line
    if whole < path.stat().st_size:
        os.truncate(path, whole)


def _stage(line: Mapping[str, Any]) -> Stage:
    return line["benchmark"], line["shots"], line["seed"]


def _text(line: Mapping[str, Any]) -> str:
    return json.dumps(line, ensure_ascii=False) + "\n"
