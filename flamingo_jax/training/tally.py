"""Records that a run skipped: written down, counted by reason, and too many of them stop it."""

import collections
import dataclasses
import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from flamingo_jax.data.bad_records import Problem
from flamingo_jax.data.datasets import MixtureConfig
from flamingo_jax.errors import UserError
from flamingo_jax.parallel.processes import gathered, lead
from flamingo_jax.training.journal import keep_rows_until, read_rows

FILE = "bad_records.jsonl"

_LEAST = 10  # records lost, before their share tells anything

Skipped = Mapping[str, Sequence[Problem]]
"""What was skipped, by data set."""


class Tally:
    """Counts what was skipped, of all processes together; it is all in `bad_records.jsonl`.

    A row there has `step`, `dataset`, `source`, `reason` and `message`, and `medium` where a page
    lost that alone. A run that goes on counts the rows up to the step it goes on from.
    """

    def __init__(self, mixture: MixtureConfig, folder: Path, last: Callable[[], Skipped]) -> None:
        """`last`: what was skipped for the batches that were given last."""
        self._mixture, self._path, self._last = mixture, folder / FILE, last
        self._reasons: collections.Counter[str] = collections.Counter()
        self._lost: collections.Counter[str] = collections.Counter()
        self._whole: collections.Counter[str] = collections.Counter()
        self._sets = [entry.name for entry in mixture.datasets if entry.path is not None]

    def begin(self, step: int) -> None:
        """Goes on from a step: later rows are dropped, earlier ones counted."""
        if not self._sets:
            return
        rows = [row for row in read_rows(self._path) if row["step"] <= step]
        for row in rows:
            self._count(row)
        if lead():
            keep_rows_until(self._path, step)

    def take(self) -> list[dict[str, Any]]:
        """What was skipped for the batches that were given last, as rows without a step."""
        return [
            {"dataset": name, **_row(problem)}
            for name, problems in self._last().items()
            for problem in problems
        ]

    def add(self, step: int, rows: list[dict[str, Any]]) -> None:
        """Counts and writes what was skipped for a step; every process calls it at each step."""
        if not self._sets:
            return
        found = [{"step": step, **row} for each in gathered(rows) for row in each]
        for row in found:
            self._count(row)
        if found and lead():
            with self._path.open("a", encoding="utf-8") as file:
                file.writelines(json.dumps(row) + "\n" for row in found)

    def metrics(self) -> dict[str, Any]:
        """`skipped`: how many so far, by data set and reason; nothing if no data set has a path."""
        counts: dict[str, dict[str, int]] = {name: {} for name in self._sets}
        for key, count in sorted(self._reasons.items()):
            name, reason = key.rsplit("/", 1)
            counts[name][reason] = count
        return {"skipped": counts} if counts else {}

    def check(self, step: int, last: bool) -> None:
        """Looks whether too much was skipped: after a few at least, or at the last step.

        Raises:
          UserError: of a data set's records more than `max_bad_fraction` were.
        """
        most = self._mixture.max_bad_fraction
        for i, dataset in enumerate(self._mixture.datasets):
            lost, whole = self._lost[dataset.name], self._whole[dataset.name]
            read = self._mixture.batches_until(i, step) * dataset.batch_size + whole
            if lost <= most * read or (lost < _LEAST and not last):
                continue
            prefix = f"{dataset.name}/"
            reasons = ", ".join(
                f"{key.removeprefix(prefix)} {count}"
                for key, count in self._reasons.most_common()
                if key.startswith(prefix)
            )
            raise UserError(
                f"Data set {dataset.name}: up to step {step}, {lost / read:.0%} of {read} records "
                f"of {dataset.path} could not be used ({reasons}), more than "
                f"mixture.max_bad_fraction of {most:.0%}: {self._path} lists them. Mend them, or "
                "raise it, and begin anew in another --workdir."
            )

    def _count(self, row: Mapping[str, Any]) -> None:
        name = row["dataset"]
        self._reasons[f"{name}/{row['reason']}"] += 1
        self._lost[name] += row.get("share", 1)
        self._whole[name] += "medium" not in row


def _row(problem: Problem) -> dict[str, Any]:
    """A problem's fields, without those that say nothing."""
    fields = dataclasses.asdict(problem)
    if problem.medium is None:
        del fields["medium"], fields["share"]
    return fields
