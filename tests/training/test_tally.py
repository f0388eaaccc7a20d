"""What is skipped is written down and counted, by a resumed run too, and too much stops it."""

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path

import pytest

from flamingo_jax.data.bad_records import Problem
from flamingo_jax.data.datasets import DatasetConfig, MixtureConfig
from flamingo_jax.errors import UserError
from flamingo_jax.training.journal import read_rows
from flamingo_jax.training.tally import FILE, Tally

SETS = tuple(
    DatasetConfig(name, "pairs", 4, 1.0, 8, 1, 8, path=path)
    for name, path in (("a", "a/"), ("drawn", None), ("b", "b/"))
)
LOST = Problem("a/#3", "corrupt_image", "no picture")
PART = Problem("b/#5", "missing_media", "no file", "x.png", 0.25)


class Batches:
    """Stands in for the mixture."""

    def __init__(self) -> None:
        self.skipped: Mapping[str, Sequence[Problem]] = {}


def tally(folder: Path, most: float = 0.1) -> tuple[Tally, Batches]:
    batches = Batches()
    mixture = MixtureConfig(SETS, max_bad_fraction=most)
    made = Tally(mixture, folder, lambda: batches.skipped)
    made.begin(0)
    return made, batches


def step(made: Tally, batches: Batches, number: int, *problems: tuple[str, Problem]) -> None:
    batches.skipped = {name: [p for n, p in problems if n == name] for name in ("a", "drawn", "b")}
    made.add(number, made.take())


def test_rows_and_metrics(tmp_path: Path) -> None:
    made, batches = tally(tmp_path)
    assert made.metrics() == {"skipped": {"a": {}, "b": {}}}
    step(made, batches, 1, ("a", LOST))
    step(made, batches, 2)
    step(made, batches, 3, ("a", LOST), ("b", PART))
    assert made.metrics() == {"skipped": {"a": {"corrupt_image": 2}, "b": {"missing_media": 1}}}
    told = {"source": "a/#3", "reason": "corrupt_image", "message": "no picture"}
    lost = {"dataset": "a", **told}
    part = {"dataset": "b", **dataclasses.asdict(PART)}
    expected = [{"step": 1, **lost}, {"step": 3, **lost}, {"step": 3, **part}]
    assert read_rows(tmp_path / FILE) == expected


def test_a_run_that_goes_on_counts_what_was_before(tmp_path: Path) -> None:
    made, batches = tally(tmp_path)
    for number in range(1, 6):
        step(made, batches, number, ("a", LOST))
    again, batches = tally(tmp_path)[0], Batches()
    assert read_rows(tmp_path / FILE) == []  # it began anew
    for number in range(1, 6):
        again.add(number, [{"dataset": "a", **_fields(LOST)}])
    other = Tally(MixtureConfig(SETS), tmp_path, dict)
    other.begin(3)
    assert [row["step"] for row in read_rows(tmp_path / FILE)] == [1, 2, 3]
    assert other.metrics() == {"skipped": {"a": {"corrupt_image": 3}, "b": {}}}


def _fields(problem: Problem) -> dict[str, object]:
    fields = dataclasses.asdict(problem)
    del fields["medium"], fields["share"]
    return fields


def test_too_much_stops_the_run_and_says_why(tmp_path: Path) -> None:
    made, batches = tally(tmp_path)
    for number in range(1, 10):
        step(made, batches, number, ("a", LOST), ("b", PART))
        made.check(number, last=False)  # few yet
    step(made, batches, 10, ("a", LOST), ("b", PART))
    message = (
        r"Data set a: up to step 10, 20% of 50 records of a/ could not be used \(corrupt_image 10\)"
        r", more than mixture\.max_bad_fraction of 10%: .*bad_records\.jsonl lists them"
    )
    with pytest.raises(UserError, match=message):
        made.check(10, last=False)


def test_at_the_end_a_few_are_enough(tmp_path: Path) -> None:
    made, batches = tally(tmp_path)
    step(made, batches, 1, ("a", LOST))
    made.check(1, last=False)
    with pytest.raises(UserError, match="20% of 5 records of a/"):
        made.check(1, last=True)
    tally_of_all, batches = tally(tmp_path / "other", most=1.0)
    (tmp_path / "other").mkdir()
    step(tally_of_all, batches, 1, ("a", LOST), ("b", PART))
    tally_of_all.check(1, last=True)


def test_of_pages_only_the_share_that_is_lost_counts(tmp_path: Path) -> None:
    made, batches = tally(tmp_path)
    for number in range(1, 11):
        step(made, batches, number, ("b", PART))
    made.check(10, last=True)  # 2.5 of 40


def test_turns(tmp_path: Path) -> None:
    """In turn, a data set's records are those of its own steps."""
    mixture = MixtureConfig(SETS, "round_robin", max_bad_fraction=0.1)
    assert [mixture.batches_until(i, 4) for i in range(3)] == [2, 1, 1]
    made = Tally(mixture, tmp_path, dict)
    made.begin(0)
    made.add(4, [{"dataset": "a", **_fields(LOST)}])
    with pytest.raises(UserError, match="11% of 9 records"):
        made.check(4, last=True)


def test_drawings_alone_write_nothing(tmp_path: Path) -> None:
    made = Tally(MixtureConfig(SETS[1:2]), tmp_path, dict)
    made.begin(0)
    made.add(1, made.take())
    assert made.metrics() == {}
    assert not (tmp_path / FILE).exists()
