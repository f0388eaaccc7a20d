"""The flag --config: every field of a recipe can be set, those it leaves out too."""

import dataclasses
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import ml_collections
import pytest
from absl import flags
from ml_collections import config_flags

from flamingo_jax import config_flag, fields
from flamingo_jax.config import resolve
from flamingo_jax.speed.workload import BenchmarkConfig, kind
from tests.tiny_run import ROOT


def parsed(*line: str) -> ml_collections.ConfigDict:
    """What --config is, of a command line with it and overrides."""
    values, argv = flags.FlagValues(), ["program", *line]
    config_flags.DEFINE_config_file("config", flag_values=values, sys_argv=argv)
    values["config"].parser = config_flag.Parser("flamingo_jax.speed.workload:kind", None)
    values(argv)
    return values.config


def leaves(value: Any, where: str = "") -> dict[str, Any]:
    """All plain fields at every depth, as flags name them."""
    if isinstance(value, Mapping):
        named = {f"{where}.{name}": entry for name, entry in value.items()}
    elif isinstance(value, tuple) and value and isinstance(value[0], Mapping):
        named = {f"{where}[{i}]": entry for i, entry in enumerate(value)}
    else:
        return {where: value}
    parts = [leaves(entry, name) for name, entry in named.items()]
    return {name: leaf for part in parts for name, leaf in part.items()}


@pytest.fixture(autouse=True)
def _from_the_root(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    monkeypatch.syspath_prepend(str(ROOT))


@pytest.mark.parametrize(
    "name",
    ["openmoji.py", "flamingo_3b.py", "own_data.py", "openmoji_pod.py:4", "benchmark_common.py"],
)
def test_every_field_can_be_set(name: str) -> None:
    def made(*line: str) -> Any:
        values = parsed(f"--config=configs/{name}", *line)
        return fields.build(kind(values), values)

    plain = made()
    found = leaves(dataclasses.asdict(plain))
    line = [
        f"--config{where}={value if not isinstance(value, tuple) else repr(value)}"
        for where, value in found.items()
        if value is not None and value != () and "families" not in where
    ]
    assert len(line) > 60
    assert made(*line) == plain


@pytest.mark.parametrize(
    ("flag", "value"),
    [
        ("mixture.workers=2", 2),
        ("mixture.max_bad_fraction=0.5", 0.5),
        ("mixture.schedule=round_robin", "round_robin"),
        ("mixture.datasets[1].flip=True", True),
        ("remat=full", "full"),
        ("features=in_step", "in_step"),
        ("language=fine_tuned", "fine_tuned"),
        ("loop.stall_minutes=2.5", 2.5),
        ("loop.max_bad_steps=3", 3),
        ("xattn.sees=all", "all"),
        ("vision.group_width=8", 8),
        ("mesh.rules.heads=('tensor', 'fsdp')", ("tensor", "fsdp")),
        ("unroll=False", False),
    ],
)
def test_fields_that_a_recipe_leaves_out_are_set(flag: str, value: Any) -> None:
    config = resolve(parsed("--config=configs/openmoji.py", f"--config.{flag}"))
    assert leaves(dataclasses.asdict(config))[f".{flag.split('=')[0]}"] == value


def test_other_fields_stay_as_they_were() -> None:
    from configs import openmoji

    assert resolve(parsed("--config=configs/openmoji.py")) == resolve(openmoji.get_config())


def test_a_number_that_refers_to_another_still_does() -> None:
    values = ml_collections.ConfigDict({"work": {"batch": 3, "tokens": 5}})
    values.work.tokens = values.work.get_ref("batch") * 10
    fields.complete(BenchmarkConfig, values)
    values.work.batch = 4
    assert values.work.tokens == 40
    assert values.work.repeats == 5


def benchmark(*line: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "flamingo_jax.benchmark", *line]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("line", "told"),
    [
        (["--config.work.tokns=3"], "Unknown config field work.tokns: did you mean work.tokens?"),
        (
            ["--config=configs/openmoji.py", "--config.loop.stps=3"],
            "Unknown config field loop.stps: did you mean loop.steps?",
        ),
        (["--config.work.repeats=0"], "work.repeats is 0: there must be 1 at least."),
    ],
)
def test_a_default_recipe_s_fields_are_told_as_others(line: list[str], told: str) -> None:
    done = benchmark(*line)
    assert (done.returncode, done.stdout, done.stderr) == (1, "", f"{told}\n")


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    done = benchmark(f"--config={tmp_path}/no.py")
    assert done.stderr == f"There is no config file {tmp_path}/no.py.\n"
