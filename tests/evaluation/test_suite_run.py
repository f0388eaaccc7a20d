"""The files that an evaluation leaves, and what it prints on the way."""

import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest

from flamingo_jax.errors import UserError
from flamingo_jax.evaluation import suite as suites
from flamingo_jax.evaluation.benchmark import Example, Media, Score
from flamingo_jax.evaluation.footage import read_frames
from flamingo_jax.evaluation.overlap import medium_hash
from flamingo_jax.evaluation.suite import SuiteConfig
from flamingo_jax.evaluation.suite_run import LeftOut, Options, choose, evaluate_suite
from tests.evaluation.tiny import SIZE, tiny_handle
from tests.evaluation.toy import Written, write_data

CONFIG = SuiteConfig(("written",), shots=(2,), seeds=(0, 1), tile=4)


def options(folder: Path, training: tuple[int, ...] = ()) -> Options:
    return Options(8, 2, np.array(training, np.uint64), folder / "cache", progress=False)


def test_everything_is_written_and_prompts_are_shown(
    tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    data, out = write_data(tmp_path / "data"), tmp_path / "out"
    seen = medium_hash(read_frames(Media(data / "test3.png"), SIZE, "pad", 1))
    found = evaluate_suite(
        tiny_handle(), [Written()], data, out, CONFIG, options(tmp_path, (seen ^ 0b101,))
    )
    rows = json.loads((out / "results.json").read_text())
    assert rows == json.loads(json.dumps([figure.to_json() for figure in found]))
    assert [(row["seed"], row["queries"]) for row in rows] == [(0, 10), (1, 10)]
    lines = [json.loads(line) for line in (out / "predictions.jsonl").read_text().splitlines()]
    assert np.mean([line["score"] for line in lines[:10]]) == rows[0]["score"]
    (overlap,) = json.loads((out / "overlap.json").read_text())
    assert (overlap["shared"], overlap["examples"]) == (1, ["3"])
    assert f"{seen:016x} test3.png\n" in (out / "hashes.txt").read_text()
    page = (out / "report.html").read_text()
    assert page.count('src="data:image/png') == 2 * 2 * 3
    printed = capsys.readouterr().out
    assert printed.count("query 0:") == 2
    assert printed.count(lines[0]["prompt"]) == 2  # of both queries: the text is the same
    assert sorted(path.name for path in out.iterdir()) == [
        "hashes.txt",
        "overlap.json",
        "predictions.jsonl",
        "report.html",
        "results.json",
        "seconds.jsonl",
        "suite.json",
    ]


def test_what_has_no_score_is_told_after_all_else_is_written(tmp_path: Path) -> None:
    class Unscored(Written):
        def score(self, examples, answers) -> Score:
            raise UserError("Nothing is published.")

    data, out = write_data(tmp_path / "data"), tmp_path / "out"
    once = dataclasses.replace(CONFIG, seeds=(0,))
    sentence = "All else is written, but 1 without a score: Written, 2 shots: Nothing is published"
    with pytest.raises(UserError, match=sentence):
        evaluate_suite(tiny_handle(), [Unscored()], data, out, once, options(tmp_path))
    assert len((out / "predictions.jsonl").read_text().splitlines()) == 10
    assert (out / "report.html").exists()


@pytest.mark.slow
def test_the_other_figures_and_finished_lines_outlive_a_stage_that_is_left_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Long(Written):
        def prompt(self, example: Example) -> str:
            return "Output: a a a a" if example.media[0].path.name == "test9.png" else "Output:"

    data, out = write_data(tmp_path / "data"), tmp_path / "out"
    config = SuiteConfig(("written",), shots=(0, 2), tile=4, beams=1)
    handle = tiny_handle()
    short = dataclasses.replace(handle, text=dataclasses.replace(handle.text, max_tokens=21))
    sentence = "All else is written, but 1 without a score: Written, 2 shots: A prompt and its "
    with pytest.raises(LeftOut, match=sentence) as caught:
        evaluate_suite(short, [Long()], data, out, config, options(tmp_path))
    assert [figure.shots for figure in caught.value.figures] == [0]
    assert len(caught.value.reasons) == 1
    before = (out / "predictions.jsonl").read_text()
    lines = [json.loads(line) for line in before.splitlines()]
    assert [line["shots"] for line in lines] == [0] * 10 + [2] * 8
    asked, answer = [], suites._lines
    monkeypatch.setattr(suites, "_lines", lambda *given: asked.append(given) or answer(*given))
    with pytest.raises(LeftOut):
        evaluate_suite(short, [Long()], data, out, config, options(tmp_path))
    assert len(asked) == 1  # the tile that is too long
    assert (out / "predictions.jsonl").read_text() == before


@pytest.mark.slow
def test_blank_images_tell_nothing_of_overlap(tmp_path: Path) -> None:
    data, out = write_data(tmp_path / "data"), tmp_path / "out"
    blank = dataclasses.replace(CONFIG, seeds=(0,), images="blank", beams=1)
    evaluate_suite(tiny_handle(), [Written()], data, out, blank, options(tmp_path, (1,)))
    assert not (out / "overlap.json").exists()
    assert not (out / "hashes.txt").exists()


def test_benchmarks_are_chosen_by_name() -> None:
    assert [b.name for b in choose(["vqav2", "coco"])] == ["vqav2", "coco"]
    everything = [b.name for b in choose(["all"])]
    assert len(everything) == 19
    assert "digits" not in everything
    assert [b.name for b in choose(["digits"])] == ["digits"]
    with pytest.raises(UserError, match="There is no benchmark 'cocoa': there are okvqa, "):
        choose(["cocoa"])
