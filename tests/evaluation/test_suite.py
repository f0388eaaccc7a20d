"""The whole suite on a random model: figures do not depend on how they were made."""

import dataclasses
import json
import os
import shutil
import subprocess
import sys
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from flamingo_jax.errors import Interrupted, UserError
from flamingo_jax.evaluation import suite as suites
from flamingo_jax.evaluation.benchmarks import BENCHMARKS
from flamingo_jax.evaluation.suite import Suite, SuiteConfig, limited
from flamingo_jax.inference.handle import Flamingo
from tests.evaluation.tiny import tiny_handle
from tests.evaluation.toy import Chosen, Written, write_data
from tests.tiny_run import ROOT

CONFIG = SuiteConfig(("written", "chosen"), shots=(0, 2), tile=4)
QUERIES = 10


@pytest.fixture(scope="module")
def handle() -> Flamingo:
    return tiny_handle()


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_data(tmp_path_factory.mktemp("data"), queries=QUERIES)


def made(handle: Flamingo, data: Path, folder: Path, config: SuiteConfig = CONFIG, ahead: int = 4):
    """Stages by name, with the lines of their predictions."""
    benchmarks = [b for b in (Written(), Chosen()) if b.name in config.benchmarks]
    suite = Suite(handle, benchmarks, data, config, folder / "cache", "checkpoint")
    return {done.stage: done.lines for done in suite.run(folder, ahead, progress=False)}


@pytest.fixture(scope="module")
def undisturbed(handle: Flamingo, data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("undisturbed")
    found = made(handle, data, folder)
    assert list(found) == [(b, k, 0) for b in ("written", "chosen") for k in (0, 2)]
    assert all(len(lines) == QUERIES for lines in found.values())
    return folder


def text(folder: Path) -> str:
    return (folder / "predictions.jsonl").read_text()


def test_lines_tell_how_an_answer_came_about(undisturbed: Path) -> None:
    lines = [json.loads(line) for line in text(undisturbed).splitlines()]
    of = {(line["benchmark"], line["shots"], line["query"]): line for line in lines}
    zero, two = of["written", 0, "3"], of["written", 2, "3"]
    assert zero["supports"] == two["supports"]
    assert "<image>" in two["prompt"]
    assert (zero["prompt"].count("<image>"), two["prompt"].count("<image>")) == (1, 3)
    assert zero["prompt"].count("<|endofchunk|>") == 2
    chosen = of["chosen", 2, "3"]
    assert len(chosen["log_probs"]) == 5
    assert chosen["answer"] == ("a", "b", "c", "w20 w21", "w22")[np.argmax(chosen["log_probs"])]
    assert of["chosen", 0, "3"]["supports"] == []
    assert of["chosen", 0, "3"]["prompt"].count("<|endofchunk|>") == 0


@pytest.mark.parametrize("ahead", [1, 100])
def test_predictions_are_the_same_whatever_is_read_together(
    handle: Flamingo, data: Path, undisturbed: Path, tmp_path: Path, ahead: int
) -> None:
    made(handle, data, tmp_path, ahead=ahead)
    assert text(tmp_path) == text(undisturbed)


@pytest.mark.slow
def test_predictions_are_the_same_on_two_devices(
    data: Path, undisturbed: Path, tmp_path: Path
) -> None:
    script = f"""
from pathlib import Path
import jax
from tests.evaluation.test_suite import made, tiny_handle
assert jax.local_device_count() == 2
made(tiny_handle(), Path({str(data)!r}), Path({str(tmp_path)!r}), ahead=16)
"""
    two = {"XLA_FLAGS": "--xla_force_host_platform_device_count=2"}
    command = [sys.executable, "-c", script]
    subprocess.run(command, check=True, cwd=ROOT, env={**os.environ, **two})
    assert text(tmp_path) == text(undisturbed)


@pytest.mark.parametrize("tiles", [1, 4])
def test_a_stopped_run_goes_on_to_the_same_predictions(
    handle: Flamingo,
    data: Path,
    undisturbed: Path,
    tmp_path: Path,
    tiles: int,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    asked, lines = 0, suites._lines

    def stopping(*arguments):
        nonlocal asked
        asked += 1
        if asked > tiles:
            raise KeyboardInterrupt
        return lines(*arguments)

    monkeypatch.setattr(suites, "_lines", stopping)
    with pytest.raises(Interrupted, match="the same command goes on"):
        made(handle, data, tmp_path)
    path = tmp_path / "predictions.jsonl"
    path.write_bytes(path.read_bytes()[:-7])  # killed while it wrote
    asked = -100
    made(handle, data, tmp_path)
    assert text(tmp_path) == text(undisturbed)
    assert asked == -100 + 12 - tiles + 1  # the torn tile and those not asked yet


def test_a_finished_run_asks_nothing(
    handle: Flamingo, data: Path, undisturbed: Path, tmp_path: Path, monkeypatch
) -> None:
    folder = shutil.copytree(undisturbed, tmp_path / "copy")
    monkeypatch.setattr(suites, "_lines", None)
    assert len(made(handle, data, folder)) == 4


def test_candidates_are_weighed_in_both_orders_of_two_supports(
    handle: Flamingo, data: Path, undisturbed: Path, tmp_path: Path
) -> None:
    once = dataclasses.replace(CONFIG, benchmarks=("chosen",), shots=(2,), permutations=1)
    benchmarks = [Chosen()]
    suite = Suite(handle, benchmarks, data, once, tmp_path, "checkpoint")
    (stage,) = suite.stages(benchmarks[0])
    query = suite.queries(benchmarks[0])[0]
    supports = [list(stage.question(query).supports)]
    supports.append(supports[0][::-1])
    found = []
    for order in supports:
        prompt = "".join(f"<image>Output: {s.answers[0]}<|endofchunk|>" for s in order)
        media = [medium.path for example in (*order, query) for medium in example.media]
        words = [" a", " b", " c", " w20 w21", " w22"]
        scores = handle.score([prompt + "<image>Output:"], [media], [words])[0]
        found.append([score.log_likelihood for score in scores])
    lines = [json.loads(line) for line in text(undisturbed).splitlines()]
    (line,) = [
        entry
        for entry in lines
        if (entry["benchmark"], entry["shots"], entry["query"]) == ("chosen", 2, query.id)
    ]
    np.testing.assert_allclose(line["log_probs"], np.mean(found, axis=0), rtol=2e-5)


def test_rices_shows_the_query_itself_last_unless_it_is_the_same_file(
    handle: Flamingo, data: Path, tmp_path: Path
) -> None:
    copies = shutil.copytree(data, tmp_path / "copies")
    rows = json.loads((copies / "test.json").read_text())
    for i in (0, 1, 2):
        shutil.copy(copies / f"train{i}.png", copies / f"test{i}.png")
    (copies / "test.json").write_text(json.dumps([rows[0], rows[1], rows[2], ["train5.png", "a"]]))
    config = dataclasses.replace(CONFIG, benchmarks=("written",), shots=(3,), supports="rices")
    found = made(handle, copies, tmp_path / "out", config)
    supports = [line["supports"] for line in found["written", 3, 0]]
    assert [shown[-1] for shown in supports[:3]] == ["0", "1", "2"]
    assert "5" not in supports[3]
    (features,) = (tmp_path / "out" / "cache").glob("features-*.npz")
    with np.load(features) as file:
        assert file["features"].shape[0] == 12


def test_blank_images_are_all_alike(handle: Flamingo, data: Path, tmp_path: Path) -> None:
    spread = {}
    for images in ("blank", "true"):
        config = dataclasses.replace(CONFIG, benchmarks=("chosen",), shots=(0,), images=images)
        lines = made(handle, data, tmp_path / images, config)["chosen", 0, 0]
        spread[images] = np.ptp([line["log_probs"] for line in lines], axis=0).max()
    # Places of a tile differ by roundings.
    assert spread["blank"] < 1e-4 < 1e-3 < spread["true"]


def test_a_stage_of_prompts_that_are_too_long_is_left_out(
    handle: Flamingo, data: Path, tmp_path: Path
) -> None:
    text = dataclasses.replace(handle.text, max_tokens=10)
    config = dataclasses.replace(CONFIG, benchmarks=("chosen",))
    short = dataclasses.replace(handle, text=text)
    suite = Suite(short, [Chosen()], data, config, tmp_path, "checkpoint")
    assert [done.stage[1] for done in suite.run(tmp_path, 4, progress=False)] == [0]
    (told,) = suite.left_out
    assert told.startswith("Chosen, 2 shots: A prompt and its answer have ")


def test_a_missing_file_is_told_before_anything_is_asked(
    handle: Flamingo, data: Path, tmp_path: Path
) -> None:
    config = dataclasses.replace(CONFIG, benchmarks=("written", "coco"))
    suite = Suite(handle, [Written(), BENCHMARKS["coco"]], data, config, tmp_path, "checkpoint")
    with pytest.raises(UserError, match=r"coco needs .*dataset_coco.json, which is not there"):
        next(suite.run(tmp_path / "out", 4, progress=False))
    assert not (tmp_path / "out").exists()


def test_the_files_of_both_splits_are_looked_for_where_they_are_read(
    handle: Flamingo, data: Path, tmp_path: Path
) -> None:
    looked = []

    class Looking(Chosen):
        def check(self, data_dir: Path, split: str) -> None:
            looked.append(split)

    for shots, splits in (((0,), ["test"]), ((0, 2), ["test", "train"])):
        looked.clear()
        config = dataclasses.replace(CONFIG, benchmarks=("chosen",), shots=shots)
        Suite(handle, [Looking()], data, config, tmp_path, "checkpoint")._check()
        assert looked == splits


def test_a_benchmark_without_supports_has_no_figure_at_4_shots(
    handle: Flamingo, data: Path, tmp_path: Path
) -> None:
    class Alone(Chosen):
        support = None

    config = dataclasses.replace(CONFIG, benchmarks=("chosen",), shots=(4,))
    suite = Suite(handle, [Alone()], data, config, tmp_path, "checkpoint")
    assert list(suite.run(tmp_path, 4, progress=False)) == []
    assert suite.left_out == ["Chosen: only 0 shots are published of it."]


@pytest.mark.parametrize("supports", ["random", "rices"])
def test_no_query_is_its_own_support(
    handle: Flamingo, data: Path, tmp_path: Path, supports
) -> None:
    config = SuiteConfig(
        ("written",), shots=(0, 3), split="train", tile=4, supports=supports, beams=1
    )
    suite = Suite(handle, [Written()], data, config, tmp_path, "checkpoint")
    for stage in suite.stages(Written()):
        shown = {}
        for query in suite.queries(Written()):
            shown[query.id] = [support.id for support in stage.question(query).supports]
            assert len(set(shown[query.id]) - {query.id}) == (stage.shots or 2)
        if supports == "random" or not stage.shots:
            usual, most = Counter(map(tuple, shown.values())).most_common(1)[0]
            assert most == len(shown) - len(usual)
    suite.latents.close()


def test_a_limit_draws_the_same_queries_each_time() -> None:
    numbers = list(range(100))
    some = limited(numbers, 10)
    assert some == sorted(set(some))
    assert len(some) == 10
    assert some != numbers[:10]
    assert limited(numbers, 10) == some
    assert limited(numbers, 0) == limited(numbers, 100) == limited(numbers, 101) == numbers


@pytest.mark.parametrize(
    ("fields", "sentence"),
    [
        ({"shots": ()}, "shots must name at least one"),
        ({"seeds": (1, 1)}, "none twice"),
        ({"shots": (-1,)}, "must be 0 or more"),
        ({"beams": 0}, "must be at least 1"),
        ({"images": "blank", "supports": "rices"}, "Blank images are all alike"),
    ],
)
def test_what_cannot_be_asked_is_told(fields: dict, sentence: str) -> None:
    with pytest.raises(UserError, match=sentence):
        SuiteConfig(("coco",), **fields)


def test_another_split_must_be_one_of_the_benchmarks(
    handle: Flamingo, data: Path, tmp_path: Path
) -> None:
    config = dataclasses.replace(CONFIG, split="tset")
    suite = Suite(handle, [Written()], data, config, tmp_path, "checkpoint")
    with pytest.raises(UserError, match="Written has no split 'tset': it has train, test"):
        suite.queries(Written())
