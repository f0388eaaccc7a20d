"""The README's commands exist, with the options that it gives them."""

import os
import re
import shlex
import subprocess
import sys

import pytest

from tests.tiny_run import ROOT

README = (ROOT / "README.md").read_text(encoding="utf-8")
JOINED = re.sub(r"\\\n\s*", "", README)  # lines that end with a backslash go on
COMMANDS = sorted(set(re.findall(r"python -m flamingo_jax\.[^`\n#]*", JOINED)))
SCRIPTS = sorted(set(re.findall(r"\./([\w./]+\.sh)", README)))


def test_there_are_some() -> None:
    assert {"launch/local.sh", "tests/run.sh"} <= set(SCRIPTS)
    assert COMMANDS


@pytest.mark.parametrize("command", COMMANDS)
def test_options_are_understood(command: str) -> None:
    line = [sys.executable, *shlex.split(command)[1:], "--only_check_args"]
    done = subprocess.run(line, capture_output=True, text=True, check=False, cwd=ROOT)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("script", SCRIPTS)
def test_scripts_can_be_run(script: str) -> None:
    assert os.access(ROOT / script, os.X_OK)
    subprocess.run(["bash", "-n", ROOT / script], check=True)


@pytest.mark.parametrize("path", sorted(set(re.findall(r"configs/\w+\.py", README))))
def test_configs_are_there(path: str) -> None:
    assert (ROOT / path).is_file()
