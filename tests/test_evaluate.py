"""The evaluate and report commands on a trained work directory."""

import json
import shutil
import subprocess
from pathlib import Path

import pytest

from configs import evaluation
from flamingo_jax import fields
from flamingo_jax.evaluation.benchmarks import BENCHMARKS
from flamingo_jax.evaluation.suite import SuiteConfig
from flamingo_jax.evaluation.suite_run import Recipe
from tests.evaluation.benchmarks import official
from tests.tiny_run import finished, python


@pytest.fixture(scope="module")
def tiny_run() -> Path:
    return finished()


def command(module: str, folder: Path, *options: str) -> subprocess.CompletedProcess[str]:
    return python(f"flamingo_jax.{module}", f"--model={folder}", *options)


def test_the_recipe_is_the_suites_own_protocol() -> None:
    asked = fields.build(Recipe, evaluation.get_config())
    assert asked == Recipe(benchmarks=("all",))
    assert asked.protocol == SuiteConfig(benchmarks=("all",))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("option", "sentence"),
    [
        ("--shots=0,16", "evaluation.tokens is 64, but a prompt of category_binding with 16 shots"),
        ("--shots=0,many", "--shots takes numbers, such as 0,4,8: "),
        ("--families=names", "evaluation.families ['names'] are not among "),
        ("--queries=0", "evaluation.episodes and evaluation.queries must be at least 1."),
        ("--seed=1,2", "--seed is one number for drawings"),
        ("--split=val", "--split is validation or test for drawings, not 'val'."),
        (
            "--config=configs/evaluation.py --config.beems=2",
            "Unknown config field beems: did you mean beams?",
        ),
        ("--benchmark=coco", "--data_dir is missing: give it a path."),
        (
            "--benchmark=coco --config=configs/evaluation.py --config.data_dir=x",
            "--output is missing: give it a path.",
        ),
        (
            "--config=configs/evaluation.py --config.batch_size=0",
            "batch_size must be at least 1, not 0.",
        ),
        (
            '--config=configs/evaluation.py --config.benchmarks=("koko",) --data_dir=x --output=x',
            "There is no benchmark 'koko': there are ",
        ),
        ("--limit=4", "--limit is for benchmarks: say which with --benchmark."),
        ("--output=x", "--output is for benchmarks: say which with --benchmark."),
        (
            "--benchmark=coco --data_dir=x --output=x --episodes=2",
            "--episodes is for drawings, not for benchmarks.",
        ),
        ("--benchmark=koko --data_dir=x --output=x", "There is no benchmark 'koko': there are "),
        ("--benchmark=coco --data_dir=x --output=x --shots=4,4", "shots must name at least one"),
    ],
)
def test_what_cannot_be_asked_is_told_first(tiny_run: Path, option: str, sentence: str) -> None:
    done = command("evaluate", tiny_run, *option.split())
    assert done.returncode == 1
    assert done.stderr.startswith(sentence)
    assert len(done.stderr.strip().splitlines()) == 1


@pytest.mark.slow
def test_the_validation_split_is_measured_and_reported_beside_the_test(
    tiny_run: Path, tmp_path: Path
) -> None:
    folder = shutil.copytree(tiny_run, tmp_path / "run")
    done = command("evaluate", folder, "--split=validation", "--shots=0,1", "--seed=3")
    assert done.returncode == 0, done.stderr
    assert "category binding" in done.stdout
    rows = json.loads((folder / "results-validation.json").read_text())
    assert {row["shots"] for row in rows} == {0, 1}
    assert {row["seed"] for row in rows} == {3}
    before = (tiny_run / "results.json").read_bytes()
    assert (folder / "results.json").read_bytes() == before
    done = command("report", folder, "--split=validation")
    assert done.stdout == f"Report: {folder / 'report-validation.html'}\n"
    assert (done.returncode, done.stderr) == (0, "")


def test_the_list_needs_no_model() -> None:
    done = python("flamingo_jax.evaluate", "--list")
    assert (done.returncode, done.stderr) == (0, "")
    for benchmark in BENCHMARKS.values():
        assert f"\n{benchmark.name} " in done.stdout
        assert all(file.path in done.stdout for file in benchmark.files)


@pytest.mark.slow
def test_benchmarks_are_asked_of_a_run_and_again_without_asking(
    tiny_run: Path, tmp_path: Path
) -> None:
    official.coco(tmp_path / "data")
    official.vqav2(tmp_path / "data")
    official.okvqa(tmp_path / "data")
    few = ("--shots=0,2", "--seed=0,1", "--limit=2", "--show_prompts=1", "--supports=rices")
    folders = (f"--data_dir={tmp_path}/data", f"--cache_dir={tmp_path}/cache")
    asked = ("--benchmark=coco,okvqa", f"--output={tmp_path}/out", *folders, *few)
    done = command("evaluate", tiny_run, *asked)
    assert done.returncode == 0, done.stderr
    assert "<image>Output:" in done.stdout
    assert "<image>Question: " in done.stdout
    rows = json.loads((tmp_path / "out" / "results.json").read_text())
    assert len(rows) == 8
    assert {row["queries"] for row in rows} == {2}
    overlap = json.loads((tmp_path / "out" / "overlap.json").read_text())
    assert [entry["shared"] for entry in overlap] == [0, 0]
    before = (tmp_path / "out" / "predictions.jsonl").read_bytes()
    again = command("evaluate", tiny_run, *asked)
    assert again.returncode == 0, again.stderr
    assert (tmp_path / "out" / "predictions.jsonl").read_bytes() == before
    assert json.loads((tmp_path / "out" / "results.json").read_text()) == rows
    some = ("--benchmark=coco,rareact", f"--output={tmp_path}/some", "--shots=2", "--seed=0")
    partly = command("evaluate", tiny_run, *asked, *some)
    assert partly.returncode == 0, partly.stderr
    assert "\nCOCO  " in partly.stdout
    assert "\nLeft out: RareAct: only 0 shots are published of it.\n" in partly.stdout
    none = command(
        "evaluate", tiny_run, *asked, *some, "--benchmark=rareact", f"--output={tmp_path}/none"
    )
    assert none.returncode == 1
    assert none.stderr.strip().endswith("RareAct: only 0 shots are published of it.")
    other = command("evaluate", tiny_run, *asked, "--limit=3")
    assert other.returncode == 1
    assert "limit was 2 and is 3): give another --output." in other.stderr
    shutil.rmtree(tmp_path / "data" / "coco" / "val2014")
    gone = command("evaluate", tiny_run, *asked, f"--output={tmp_path}/gone")
    assert gone.returncode == 1
    assert "Expected below the data folder:" in gone.stderr
    assert "Traceback" not in gone.stderr
