"""Packages are downloaded by apt and unpacked; nothing of them is run."""

import os
from pathlib import Path

import pytest

from flamingo_jax.data.web.debian import unpack
from flamingo_jax.errors import UserError


def program(folder: Path, name: str, script: str) -> None:
    folder.mkdir(exist_ok=True)
    (folder / name).write_text(f"#!/bin/sh\n{script}\n")
    (folder / name).chmod(0o755)


@pytest.fixture
def tools(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Stand-ins of apt-get and dpkg-deb that write down what they are asked."""
    folder = tmp_path / "bin"
    program(folder, "apt-get", f'echo "$@" >> {tmp_path}/asked; touch "$3_1.0_all.deb"')
    program(folder, "dpkg-deb", f'echo "$@" >> {tmp_path}/asked; echo page > "$3/page.html"')
    monkeypatch.setenv("PATH", f"{folder}{os.pathsep}{os.environ['PATH']}")
    return folder


def test_a_package_is_unpacked_once(tools: Path, tmp_path: Path) -> None:
    folder = tmp_path / "new" / "manual"
    for _ in range(2):
        unpack("a-manual", folder)
    assert [path.name for path in folder.iterdir()] == ["page.html"]
    asked = (tmp_path / "asked").read_text().splitlines()
    assert len(asked) == 2
    assert asked[0] == "download -q a-manual"
    assert asked[1].startswith("--extract ")
    assert [path.name for path in folder.parent.iterdir()] == ["manual"]


def test_failures_leave_nothing(tools: Path, tmp_path: Path) -> None:
    folder = tmp_path / "manual"
    program(tools, "dpkg-deb", "echo broken >&2; exit 2")
    with pytest.raises(UserError, match=r"dpkg-deb --extract .* failed: broken"):
        unpack("a-manual", folder)
    program(tools, "apt-get", "echo 'E: Unable to locate package' >&2; exit 100")
    with pytest.raises(UserError, match="apt-get download -q failed: E: Unable to locate package"):
        unpack("a-manual", folder)
    assert not folder.exists()
    with pytest.raises(UserError, match="no name of a Debian package"):
        unpack("--option", folder)


def test_other_systems(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(UserError, match="apt-get cannot be run"):
        unpack("a-manual", tmp_path / "manual")
