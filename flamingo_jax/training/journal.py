"""What a training run writes about itself: metrics, timings and TensorBoard's events.

`metrics.jsonl` holds only what is the same in every run of a config, so that an interrupted and
resumed run can be compared with an uninterrupted one; times go to `timing.jsonl`.
"""

import contextlib
import json
import math
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, TextIO

from tqdm import tqdm

from flamingo_jax.checkpoints.files import replaced
from flamingo_jax.parallel.processes import lead


class Journal:
    """Appends rows to the logs in a folder; rows after the step resumed from are dropped.

    Every row is a JSON object with `step`, written and flushed at once. Of several processes only
    the first one writes.
    """

    def __init__(self, folder: Path, start: int) -> None:
        self._files: dict[str, TextIO] = {}
        self._board = None
        if not lead():
            return
        folder.mkdir(parents=True, exist_ok=True)
        for name in ("metrics", "timing"):
            path = folder / f"{name}.jsonl"
            keep_rows_until(path, start)
            self._files[name] = path.open("a", encoding="utf-8")
        self._board = _Board(folder / "tensorboard", start + 1)

    def metrics(self, step: int, row: Mapping[str, Any]) -> None:
        """Adds a row of values that depend on the config alone."""
        self._write("metrics", step, row)

    def timing(self, step: int, row: Mapping[str, Any]) -> None:
        """Adds a row of seconds and rates."""
        self._write("timing", step, row)

    def close(self) -> None:
        """Closes all files, whatever happens to one of them."""
        with contextlib.ExitStack() as stack:
            for file in (self._board, *self._files.values()):
                if file is not None:
                    stack.callback(file.close)

    def _write(self, name: str, step: int, row: Mapping[str, Any]) -> None:
        if self._board is None:
            return
        file = self._files[name]
        file.write(json.dumps({"step": step, **row}) + "\n")
        file.flush()
        self._board.write(step, row)


class _Board:
    """TensorBoard's events, written at once.

    tensorboardX's own writer hands them to a thread; when that dies of a full disk, the training
    waits for it for ever. It is imported only here: it imports PyTorch, where that is installed.
    """

    def __init__(self, folder: Path, purge_step: int) -> None:
        from tensorboardX import event_file_writer, summary
        from tensorboardX.proto import event_pb2

        events: Any = event_pb2  # its classes are made at run time
        folder.mkdir(exist_ok=True)
        self._file = event_file_writer.EventsWriter(str(folder / "events"))
        self._event, self._scalar = events.Event, summary.scalar
        # As SummaryWriter does: events of these steps in files before this one are not shown.
        self._file.write_event(self._event(step=purge_step, file_version="brain.Event:2"))
        restart = events.SessionLog(status=events.SessionLog.START)
        self._file.write_event(self._event(step=purge_step, session_log=restart))

    def write(self, step: int, row: Mapping[str, Any]) -> None:
        for tag, value in _scalars(row):
            value_of_tag = self._scalar(tag, value)
            event = self._event(wall_time=time.time(), step=step, summary=value_of_tag)
            self._file.write_event(event)
        self._file.flush()

    def close(self) -> None:
        self._file.close()


def progress(title: str, steps: int, start: int) -> Any:
    """A progress bar, of the first process only."""
    return tqdm(total=steps, initial=start, desc=title, unit="step", disable=not lead())


def read_rows(path: Path) -> list[dict[str, Any]]:
    """Rows of a .jsonl file; [] if there is none. A half-written last line is left out."""
    if not path.exists():
        return []
    lines = path.read_text(encoding="utf-8").splitlines(keepends=True)
    return [json.loads(line) for line in lines if line.endswith("\n")]


def keep_rows_until(path: Path, step: int) -> None:
    """Drops rows of later steps, and a half-written last line, from a .jsonl file."""
    rows = [row for row in read_rows(path) if row["step"] <= step]
    if path.exists():
        with replaced(path) as part:
            part.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")


def _scalars(row: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, float]]:
    for key, value in row.items():
        if isinstance(value, Mapping):
            yield from _scalars(value, f"{prefix}{key}/")
        elif isinstance(value, list):
            yield from _scalars({str(i): v for i, v in enumerate(value)}, f"{prefix}{key}/")
        elif isinstance(value, int | float) and math.isfinite(value):
            yield f"{prefix}{key}", value
