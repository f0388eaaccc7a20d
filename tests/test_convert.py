"""The commands of docs/checkpoints.md on small models of each family, and what is refused."""

import html
import json
import os
import shutil
from pathlib import Path

import chex
import numpy as np
import pytest
import tokenizers
from PIL import Image

import flamingo_jax
from flamingo_jax import runs
from flamingo_jax.errors import UserError
from flamingo_jax.evaluation.suite import SuiteConfig
from flamingo_jax.evaluation.suite_run import Options, choose, evaluate_suite
from tests import tiny_job
from tests.checkpoints import (
    test_flamingo_mini,
    test_idefics,
    test_openflamingo,
    test_openflamingo_text,
)
from tests.checkpoints.originals import OpenClipTower
from tests.evaluation.benchmarks import official
from tests.test_docs import ROOT, lines
from tests.tiny_run import finished, python

PAGE = ROOT / "docs" / "checkpoints.md"
COMMANDS = [words for words in lines(PAGE) if words[0] == "python"]


@pytest.fixture(scope="module")
def reader(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with what a reader of the page has: published models, images, a run."""
    folder = tmp_path_factory.mktemp("reader")
    published = folder / "published"
    published.mkdir()
    case = test_openflamingo.CASES["mpt"]
    source = test_openflamingo.saved(case, tmp_path_factory.mktemp("openflamingo")).folder
    test_openflamingo_text.words().save(str(source / "language" / "tokenizer.json"))
    (published / "mpt-1b-redpajama-200b").symlink_to(source / "language")
    (published / "clip-vit-large-patch14").symlink_to(source / "vision")
    (published / "checkpoint.pt").symlink_to(source / "checkpoint.pt")
    idefics = published / "idefics-9b"
    test_idefics.original(next(iter(test_idefics.CONFIGS))).save_pretrained(idefics)
    test_idefics.write_tokenizer(idefics, "<image>", "<fake_token_around_image>")
    mini = published / "flamingo-mini"
    mini.mkdir()
    test_flamingo_mini.save("pre-norm", mini)
    words = {"<s>": 0, "<pad>": 1, "</s>": 2, "<": 3, "image": 4, ">": 5}
    tokenizer = tokenizers.Tokenizer(tokenizers.models.WordLevel(words, "<s>"))
    tokenizer.pre_tokenizer = tokenizers.pre_tokenizers.Punctuation()
    tokenizer.save(str(mini / "tokenizer.json"))
    (folder / "runs").mkdir()
    (folder / "runs" / "openmoji").symlink_to(finished())
    draw = np.random.default_rng(0)
    for name in ("a.png", "b.png"):
        Image.fromarray(draw.integers(0, 256, (40, 60, 3), np.uint8)).save(folder / name)
    return folder


def told(*arguments: str) -> str:
    """The one line that a refused command prints."""
    done = python("flamingo_jax.convert", *arguments)
    assert done.returncode == 1
    [line] = done.stderr.splitlines()
    return line


@pytest.fixture(scope="module")
def converted(reader: Path) -> Path:
    """`reader` after all commands of the page."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", str(ROOT))
        for words in COMMANDS:
            done = python(words[2], *words[3:], folder=reader)
            assert done.returncode == 0, done.stderr
            assert done.stdout.endswith("\n")
    return reader


@pytest.mark.slow
@pytest.mark.parametrize("family", ["openflamingo", "idefics", "flamingo_mini"])
def test_converted_models_go_through_the_evaluation(
    converted: Path, family: str, tmp_path: Path
) -> None:
    official.coco(tmp_path / "data")
    official.hatefulmemes(tmp_path / "data")
    names = ("coco", "hatefulmemes")
    config = SuiteConfig(names, shots=(0, 1), limit=2, tile=2, permutations=2)
    options = Options(8, 1, np.zeros(0, np.uint64), tmp_path / "cache", progress=False)
    handle, chosen = flamingo_jax.load(converted / "models" / family), choose(names)
    found = evaluate_suite(handle, chosen, tmp_path / "data", tmp_path / "out", config, options)
    assert [(f.benchmark, f.shots, f.queries) for f in found] == [
        (name, shots, 2) for name in names for shots in (0, 1)
    ]
    page = (tmp_path / "out" / "report.html").read_text()
    assert page.count('src="data:image/png') == 1 + 2 + 1 + 2
    if family != "idefics":  # whose small tokenizer here does not single </s> out of a text
        ended = handle.require_tokenizer().show([handle.text.eoc_id])
        assert ended in html.unescape(page)


@pytest.mark.slow
def test_the_pages_commands_run_in_their_order(
    converted: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    reader = converted
    models = sorted(path.name for path in (reader / "models").iterdir())
    assert models == ["exported", "flamingo_mini", "idefics", "openflamingo"]
    with pytest.raises(UserError, match="and its language model is not that of"):
        flamingo_jax.load(reader / "models/exported")  # whose small one is not the package's
    monkeypatch.setattr(runs.smollm2, "read_language_model", tiny_job.language_model)
    run, exported = flamingo_jax.load(finished()), flamingo_jax.load(reader / "models/exported")
    chex.assert_trees_all_equal(exported.weights, run.weights, strict=True)
    tokens, size = np.array([[run.text.image_id, 5, 6]]), run.config.vision.image_size
    pixels = np.random.default_rng(0).normal(size=(1, 1, 1, size, size, 3)).astype(np.float32)
    np.testing.assert_array_equal(exported.logits(tokens, pixels), run.logits(tokens, pixels))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ((), "None is given: say first which of openflamingo, idefics, flamingo_mini, export."),
        (("idefix",), "'idefix' is not one: say first which of openflamingo"),
        (("idefics", "--output={0}/out"), "--source is missing: give it a path."),
        (("idefics", "--source={0}/none", "--output={0}/out"), "{0}/none"),
        (("export", "--source={0}", "--output={0}/out"), "has no config.json"),
    ],
)
def test_mistakes_of_the_command(tmp_path: Path, arguments: tuple, sentence: str) -> None:
    given = [argument.format(tmp_path) for argument in arguments] or []
    given += [] if any("--output" in word for word in given) else [f"--output={tmp_path}/out"]
    assert sentence.format(tmp_path) in told(*given)
    assert not (tmp_path / "out").exists()


def test_what_was_assumed_and_what_stays_behind_is_told(tmp_path: Path) -> None:
    import torch

    mini, clip, out = tmp_path / "mini", tmp_path / "open_clip.pt", tmp_path / "out"
    mini.mkdir()
    test_flamingo_mini.save(
        "post-norm", mini, test_flamingo_mini.without("flamingo.vision_encoder.")
    )
    (mini / "tokenizer.model").write_bytes(b"sentencepiece")
    torch.save(OpenClipTower(12, 4, 64, 1, torch.nn.GELU()).state_dict(), clip)
    words = ("flamingo_mini", f"--source={mini}", f"--vision={clip}", f"--output={out}")
    done = python("flamingo_jax.convert", *words, "--vision_activation=gelu")
    assert done.returncode == 0, done.stderr
    activation, tokenizer, written = done.stdout.splitlines()
    assert activation.startswith(str(clip))
    assert "gelu is taken (--vision_activation)" in activation
    assert tokenizer.startswith(f"{mini} holds its tokenizer as tokenizer.model only")
    assert "no tokenizer travels" in tokenizer
    assert written.startswith(f"Written: {out}.")
    config = json.loads((out / "config.json").read_text())
    assert config["model"]["vision"]["activation"] == "gelu"


def test_a_shard_that_is_cut_off_leaves_nothing(tmp_path: Path) -> None:
    source = tmp_path / "idefics"
    test_idefics.original(next(iter(test_idefics.CONFIGS))).save_pretrained(source)
    [file] = source.glob("*.safetensors")
    file.write_bytes(file.read_bytes()[:-100])
    line = told("idefics", f"--source={source}", f"--output={tmp_path}/out")
    assert str(file) in line
    assert sorted(path.name for path in tmp_path.iterdir()) == ["idefics"]


def test_a_pickle_that_runs_code_runs_nothing(tmp_path: Path) -> None:
    import torch

    class Hostile:
        def __reduce__(self) -> tuple:
            return os.system, (f"touch {tmp_path}/ran",)

    mini = tmp_path / "mini"
    mini.mkdir()
    test_flamingo_mini.save("pre-norm", mini)
    torch.save({"flamingo.resampler.latents": Hostile()}, mini / "pytorch_model.bin")
    line = told("flamingo_mini", f"--source={mini}", f"--output={tmp_path}/out")
    assert "pytorch_model.bin" in line
    assert "system" in line
    assert sorted(path.name for path in tmp_path.iterdir()) == ["mini"]


def test_what_is_there_is_kept(tmp_path: Path) -> None:
    source = tmp_path / "idefics"
    test_idefics.original(next(iter(test_idefics.CONFIGS))).save_pretrained(source)
    (tmp_path / "out").mkdir()
    assert "exists" in told("idefics", f"--source={source}", f"--output={tmp_path}/out")
    config = json.loads((source / "config.json").read_text())
    assert config["model_type"] == "idefics"
    shutil.rmtree(tmp_path / "out")
