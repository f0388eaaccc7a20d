"""Mistakes on the command line: one sentence, no traceback, status 1."""

import errno
import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from flamingo_jax import cli
from tests.tiny_run import ROOT, free_port

SMOKE = "--config=configs/openmoji_smoke.py"
WORKDIR = "--workdir={}/run"


def command(module: str, *options: str) -> subprocess.CompletedProcess[str]:
    line = [sys.executable, "-m", f"flamingo_jax.{module}", *options]
    return subprocess.run(line, capture_output=True, text=True, check=False, cwd=ROOT)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        (
            [SMOKE, WORKDIR, "--config.xattn.alfa_init=1"],
            "Unknown config field xattn.alfa_init: did you mean xattn.alpha_init?",
        ),
        (
            [SMOKE, WORKDIR, "--config.mixture.datasets[0].batch=3"],
            "Unknown config field mixture.datasets[0].batch: did you mean "
            "mixture.datasets[0].batch_size?",
        ),
        (
            [SMOKE, WORKDIR, "--config.mixture.datasets[9].batch_size=3"],
            "--config cannot be used (IndexError: tuple index out of range).",
        ),
        (
            [SMOKE, WORKDIR, "--config.loop.steps=many"],
            "flag --config.loop.steps=many: invalid literal for int() with base 10: 'many'",
        ),
        (
            ["--config=configs/openmoji_smok.py", WORKDIR],
            "There is no config file configs/openmoji_smok.py.",
        ),
        (
            ["--config=configs/openmoji_smok.py", "--config.loop.steps=3", WORKDIR],
            "There is no config file configs/openmoji_smok.py.",
        ),
        (
            ["--confg=configs/openmoji_smoke.py", WORKDIR],
            "Unknown command line flag 'confg'. Did you mean: config ?",
        ),
        (
            [SMOKE, WORKDIR, "more"],
            "Unexpected argument 'more': options are written --name=value.",
        ),
        ([SMOKE], "flag --workdir=None: Flag --workdir must have a value other than None."),
        (
            [SMOKE, WORKDIR, "--config.vision.image_size=48"],
            "vision.image_size is 48, but the drawings have 64 pixels: set it to 64.",
        ),
        (
            [SMOKE, WORKDIR, "--config.mesh.data=3", "--config.mixture.datasets[0].batch_size=7"],
            "mixture.datasets[0].batch_size is 7, which cannot be split into 3 parts over data of "
            "the mesh slice=1, data=3, fsdp=1, tensor=1: make it a multiple.",
        ),
        (
            [SMOKE, WORKDIR, "--profile_steps=5"],
            "--profile_steps takes FIRST:LAST, 10:15 for instance, not '5'.",
        ),
        (
            [SMOKE, WORKDIR, "--num_processes=2", "--process_index=1"],
            "--coordinator, --num_processes and --process_index go together: say all.",
        ),
        (
            [SMOKE, WORKDIR, "--coordinator=host", "--num_processes=2", "--process_index=1"],
            "--coordinator takes HOST:PORT, 10.0.0.3:1234, not 'host'.",
        ),
        (
            [SMOKE, WORKDIR, "--coordinator=host:1", "--num_processes=2", "--process_index=2"],
            "--process_index=2 is none of 2: they go from 0 to 1.",
        ),
        (
            ["--config=configs/openmoji_pod.py:many", WORKDIR],
            "configs/openmoji_pod.py:many names no number of chips: write :8.",
        ),
        (
            [SMOKE, "--workdir=README.md"],
            "--workdir=README.md cannot be a folder (File exists): choose another.",
        ),
        (
            [SMOKE, "--workdir=gs://bucket/run"],
            "gs://bucket/run is not a folder of this machine: mount the bucket (gcsfuse for gs://) "
            "or a file share, and give the path there.",
        ),
    ],
)
def test_mistakes_of_a_training_command(tmp_path: Path, options: list[str], sentence: str) -> None:
    done = command("train", *(option.format(tmp_path) for option in options))
    assert done.stderr.strip() == sentence
    assert done.returncode == 1
    assert not done.stdout
    assert not list(tmp_path.iterdir())  # nothing was begun


@pytest.mark.slow
def test_two_processes_find_each_other_before_anything_else(tmp_path: Path) -> None:
    """Both see two devices, one each, where the mesh has four."""
    line = [sys.executable, "-m", "flamingo_jax.train", "--config=configs/openmoji_pod.py:4"]
    line += [
        f"--workdir={tmp_path}/run",
        f"--coordinator=127.0.0.1:{free_port()}",
        "--num_processes=2",
    ]
    environment = dict(os.environ)
    environment.pop("XLA_FLAGS", None)
    options: Any = {"stderr": subprocess.PIPE, "text": True, "cwd": ROOT, "env": environment}
    both = [subprocess.Popen([*line, f"--process_index={index}"], **options) for index in (0, 1)]
    for process in both:
        told = process.communicate(timeout=200)[1]
        assert "has 4 devices but JAX sees 2: lower mesh.data" in told
        assert process.returncode == 1
    assert not list(tmp_path.iterdir())


def test_a_config_with_a_mistake_of_its_own(tmp_path: Path) -> None:
    recipe = tmp_path / "recipe.py"
    recipe.write_text("def get_config():\n    return no_such_name\n")
    done = command("train", f"--config={recipe}", f"--workdir={tmp_path}/run")
    reason = "NameError: name 'no_such_name' is not defined"
    assert done.stderr.strip() == f"--config cannot be used ({reason})."
    assert done.returncode == 1


@pytest.mark.slow
@pytest.mark.parametrize(
    ("module", "options", "part"),
    [
        ("evaluate", ["--model={}"], "has no config.json"),
        ("generate", ["--model={}", "--prompt=a"], "has no config.json"),
        ("generate", ["--model={}", "--prompt=a", "--num_beams=0"], "num_beams must be at least 1"),
        (
            "generate",
            ["--model={}", "--prompt=a", "--num_beams=3", "--temperature=1"],
            "Beam search takes no temperature",
        ),
        ("generate", ["--model={}", "--prompt=a", "--top_k=2"], "set a temperature above 0"),
        ("generate", ["--model={}"], "--prompt must have a value"),
        ("report", ["--model={}/none"], "is not a folder"),
    ],
)
def test_mistakes_of_other_commands(
    tmp_path: Path, module: str, options: list[str], part: str
) -> None:
    done = command(module, *(option.format(tmp_path) for option in options))
    assert part in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1
    assert done.returncode == 1


@pytest.mark.parametrize(
    ("raised", "status", "sentence"),
    [
        ("UserError('Mend it.')", 1, "Mend it."),
        ("Interrupted('Stopped at step 3.')", 130, "Stopped at step 3."),
        (
            "KeyboardInterrupt()",
            130,
            "Stopped: the same command goes on from the last finished stage.",
        ),
        (
            f"OSError({errno.ENOSPC}, '{os.strerror(errno.ENOSPC)}', 'runs/a/metrics.jsonl')",
            1,
            "There is no room for runs/a/metrics.jsonl (No space left on device): "
            "make some and run again.",
        ),
    ],
)
def test_what_ends_a_command(raised: str, status: int, sentence: str) -> None:
    code = (
        "from flamingo_jax import cli\n"
        "from flamingo_jax.errors import Interrupted, UserError\n"
        f"def main():\n    raise {raised}\n"
        "cli.run(main)"
    )
    line = [sys.executable, "-c", code]
    done = subprocess.run(line, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr.strip()) == (status, sentence)


def test_our_warnings_are_shown_and_those_of_libraries_are_not() -> None:
    code = (
        "import logging, absl.logging\n"
        "from flamingo_jax import cli\n"
        "def main():\n"
        "    logging.getLogger('flamingo_jax.data').warning('3 damaged records')\n"
        "    logging.getLogger('orbax').warning('a')\n"
        "    absl.logging.error('b')\n"
        "cli.run(main)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stderr == "3 damaged records\n"


def test_other_errors_keep_their_traceback() -> None:
    code = "from flamingo_jax import cli\ncli.run(lambda: 1 / 0)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "ZeroDivisionError" in done.stderr


def test_the_benchmark_names_a_missing_config() -> None:
    done = command("benchmark", "--config=configs/nope.py")
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.strip() == "There is no config file configs/nope.py."


@pytest.mark.parametrize(("module", "extra"), [("apache_beam", "data"), ("selectolax", "data")])
def test_a_library_of_an_extra_that_is_missing_is_named_with_it(module: str, extra: str) -> None:
    code = (
        "import importlib, sys\n"
        f"sys.modules['{module}'] = None\n"
        "sys.argv = ['command']\n"
        "from flamingo_jax import cli\n"
        f"cli.run(lambda: importlib.import_module('{module}.utils'))"
    )
    line = [sys.executable, "-c", code]
    done = subprocess.run(line, capture_output=True, text=True, check=False, cwd=ROOT)
    assert done.returncode == 1
    named = done.stderr.split(" is missing")[0]
    assert done.stderr == f"{named} is missing: pip install 'flamingo_jax[{extra}]' brings it.\n"
    assert named.startswith(module)


def test_programs_start_anew_with_memory_kept_once(monkeypatch: pytest.MonkeyPatch) -> None:
    started: list[tuple[Any, ...]] = []
    monkeypatch.setattr(os, "execv", lambda *line: started.append(line))
    monkeypatch.setattr(sys, "orig_argv", ["python", "-m", "flamingo_jax.train", "--workdir=a b"])
    monkeypatch.delenv("GLIBC_TUNABLES", raising=False)
    main = sys.modules["__main__"]
    for other in ("pytest.__main__", "flamingo_jax.convert"):  # which holds little at a time
        monkeypatch.setattr(main, "__spec__", SimpleNamespace(name=other))
        cli._tell_the_allocator()
        assert started == []
    monkeypatch.setattr(main, "__spec__", SimpleNamespace(name="flamingo_jax.train"))
    cli._tell_the_allocator()
    cli._tell_the_allocator()
    line = [sys.executable, "-m", "flamingo_jax.train", "--workdir=a b"]
    assert started == [(sys.executable, line)]
    told = dict(each.split("=") for each in os.environ["GLIBC_TUNABLES"].split(":"))
    assert told["glibc.malloc.hugetlb"] == told["glibc.malloc.arena_max"] == "1"
