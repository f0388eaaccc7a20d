"""Predictions that survive a kill, and folders that belong to one evaluation."""

import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest

from flamingo_jax.errors import UserError
from flamingo_jax.evaluation.records import (
    Predictions,
    Seconds,
    checkpoint_hash,
    claim,
    config_hash,
)
from flamingo_jax.evaluation.suite import SuiteConfig

STAGE = ("coco", 4, 0)


def line(query: str, **more: object) -> dict:
    return {"benchmark": "coco", "shots": 4, "seed": 0, "query": query, "raw": "é\n", **more}


def test_lines_are_found_again_and_none_is_written_twice(tmp_path: Path) -> None:
    Predictions(tmp_path).add([line("1"), line("2")])
    again = Predictions(tmp_path)
    again.add([line("2", raw="other"), line("3")])
    found = Predictions(tmp_path).of(STAGE)
    assert list(found) == ["1", "2", "3"]
    assert found["2"]["raw"] == "é\n"
    assert Predictions(tmp_path).of(("coco", 8, 0)) == {}


def test_lines_of_stages_that_are_not_finished_are_kept_last(tmp_path: Path) -> None:
    Predictions(tmp_path).add([line("9", shots=8), line("1"), line("2")])
    scored = [line("1", score=1.0), line("2", score=0.0)]
    Predictions(tmp_path).finish({STAGE: scored})
    lines = map(json.loads, (tmp_path / "predictions.jsonl").read_text().splitlines())
    assert [(found["query"], found.get("score")) for found in lines] == [
        ("1", 1.0),
        ("2", 0.0),
        ("9", None),
    ]


@pytest.mark.parametrize("cut", range(1, 40, 3))
def test_half_a_line_of_a_killed_writer_is_cut_off(tmp_path: Path, cut: int) -> None:
    Predictions(tmp_path).add([line("1"), line("2")])
    path = tmp_path / "predictions.jsonl"
    path.write_bytes(path.read_bytes()[:-cut])
    found = Predictions(tmp_path)
    assert list(found.of(STAGE)) == ["1"]
    found.add([line("2")])
    assert [json.loads(text)["query"] for text in path.read_text().splitlines()] == ["1", "2"]


def test_another_damaged_line_is_told(tmp_path: Path) -> None:
    Predictions(tmp_path).add([line("1"), line("2")])
    path = tmp_path / "predictions.jsonl"
    path.write_text(path.read_text().replace('"1"', '"1'))
    with pytest.raises(UserError, match="damaged at line 1"):
        Predictions(tmp_path)


def test_seconds_add_up_over_runs(tmp_path: Path) -> None:
    Seconds(tmp_path).add(STAGE, 1.5)
    second = Seconds(tmp_path)
    second.add(STAGE, 2.0)
    assert second.of(STAGE) == 3.5
    path = tmp_path / "seconds.jsonl"
    path.write_bytes(b"damaged\n{}\n" + path.read_bytes() + b'{"bench')
    assert Seconds(tmp_path).of(STAGE) == 3.5


def test_a_folder_is_refused_to_another_config_or_checkpoint(tmp_path: Path) -> None:
    config = dataclasses.asdict(SuiteConfig(("coco",)))
    claim(tmp_path / "new" / "out", config, "aa")
    claim(tmp_path / "new" / "out", config, "aa")
    with pytest.raises(UserError, match=r"limit was 0 and is 5\): give another --output") as told:
        claim(tmp_path / "new" / "out", {**config, "limit": 5}, "aa")
    assert "\n" not in str(told.value)
    with pytest.raises(UserError, match="checkpoint_hash was aa and is bb"):
        claim(tmp_path / "new" / "out", config, "bb")
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="cannot be written"):
        claim(tmp_path / "file" / "out", config, "aa")


def test_hashes_tell_configs_and_weights_apart() -> None:
    config = SuiteConfig(("coco",))
    assert config_hash(config) == config_hash(SuiteConfig(("coco",)))
    assert config_hash(config) != config_hash(SuiteConfig(("coco",), beams=2))
    weights = {"a": np.arange(6, dtype=np.float32), "b": np.float32(1)}
    changed = {**weights, "b": np.float32(1.0000001)}
    assert checkpoint_hash(weights) == checkpoint_hash(dict(weights))
    others = [changed, {**weights, "a": weights["a"].reshape(2, 3)}, {"c": weights["a"]}]
    assert len({checkpoint_hash(w) for w in (weights, *others)}) == 4
