"""What the launch scripts do on a host: one job at a time, from the commit that was sent."""

import os
import shlex
import signal
import subprocess
import time
from pathlib import Path

import pytest

from tests.test_launch import bundle, launch
from tests.tiny_run import ROOT


@pytest.fixture
def host(tmp_path: Path) -> Path:
    """A home folder of a host, with a Python that writes down its arguments and waits for TERM."""
    home = tmp_path / "home"
    (home / "venv" / "bin").mkdir(parents=True)
    python = home / "venv" / "bin" / "python"
    python.write_text(
        "#!/usr/bin/env bash\n"
        "trap 'echo saved; exit 130' TERM\n"
        'printf "[%s]\\n" "$PWD" "$@"\n'
        "while :; do sleep 0.05; done\n"
    )
    python.chmod(0o755)
    return home


def on_vm(home: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return launch("on_vm.sh", *arguments, HOME=str(home))


def test_a_host_runs_one_job_that_outlives_the_connection_and_ends_on_demand(host: Path) -> None:
    assert on_vm(host, "start", "--config=a b", "--multihost").returncode == 0
    pid = int((host / "flamingo.pid").read_text())
    try:
        log = host / "flamingo.log"
        while "multihost" not in log.read_text():
            time.sleep(0.02)
        assert os.getsid(pid) == pid  # no hang-up of a terminal reaches it
        lines = [str(ROOT), "-m", "flamingo_jax.train", "--config=a b", "--multihost"]
        assert on_vm(host, "log").stdout == "".join(f"[{line}]\n" for line in lines)
        again = on_vm(host, "start")
        assert again.returncode == 1
        assert again.stderr == "on_vm.sh: a job is running here already: stop it first.\n"
        assert on_vm(host, "stop").returncode == 0
        assert log.read_text().endswith("]\nsaved\n")
        with pytest.raises(ProcessLookupError):
            os.kill(pid, 0)
        assert on_vm(host, "stop").returncode == 0
    finally:
        if Path(f"/proc/{pid}").exists():
            os.kill(pid, signal.SIGKILL)


def test_the_commit_travels_as_a_bundle(tmp_path: Path) -> None:
    """What is cloned from it is this commit, with its name."""
    made = tmp_path / "flamingo_jax.bundle"
    clone = tmp_path / "flamingo_jax"
    subprocess.run(shlex.split(bundle().replace("/tmp/flamingo_jax.bundle", str(made))), check=True)
    subprocess.run(["git", "clone", "--quiet", made, clone], check=True, capture_output=True)
    heads = [
        subprocess.run(["git", "-C", path, "rev-parse", "HEAD"], capture_output=True, check=True)
        for path in (ROOT, clone)
    ]
    assert heads[0].stdout == heads[1].stdout
    assert os.access(clone / "launch" / "local.sh", os.X_OK)
