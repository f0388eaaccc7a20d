"""Imports go one way: entry points, then the rooms that act, then models, data, parallel."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import flamingo_jax

PACKAGE = Path(flamingo_jax.__file__).parent
LOWER = ("models", "data", "parallel")
UPPER = ("training", "inference", "evaluation", "checkpoints")


def imported(path: Path) -> set[str]:
    """Names of all modules that a file imports."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            found.update({node.module, *(f"{node.module}.{alias.name}" for alias in node.names)})
    return found


def rooms_of(path: Path) -> set[str]:
    """First parts of the modules of this package that a file imports."""
    ours = (name.split(".")[1:] for name in imported(path) if name.startswith("flamingo_jax."))
    return {parts[0] for parts in ours}


def is_entry_point(path: Path) -> bool:
    """Whether a file is run as a program: it may ask for anything, and nothing asks for it."""
    return '\nif __name__ == "__main__":\n' in path.read_text()


def test_nothing_imports_an_entry_point() -> None:
    programs = {path.stem for path in (PACKAGE / "data").rglob("*.py") if is_entry_point(path)}
    assert programs
    for path in PACKAGE.rglob("*.py"):
        asked = {name.removeprefix("flamingo_jax.data.") for name in imported(path)}
        assert not asked & programs, path


@pytest.mark.parametrize("room", LOWER)
def test_lower_rooms_import_no_other_room(room: str) -> None:
    for path in (PACKAGE / room).rglob("*.py"):
        if not is_entry_point(path):
            assert rooms_of(path) <= {room, "errors"}, path


@pytest.mark.parametrize("room", UPPER)
def test_rooms_import_no_entry_point(room: str) -> None:
    for path in (PACKAGE / room).rglob("*.py"):
        assert rooms_of(path) <= {*LOWER, *UPPER, "errors"}, path


def test_data_is_numpy_only() -> None:
    for path in (PACKAGE / "data").rglob("*.py"):
        assert not {name.split(".")[0] for name in imported(path)} & {"jax", "jaxlib"}, path


ALL = """
import importlib, sys
from jax._src import xla_bridge
for name in sys.argv[1:]:
    importlib.import_module(name)
    assert not xla_bridge._backends, name
"""


@pytest.mark.slow
def test_no_import_asks_for_devices() -> None:
    """Several processes find each other before that, and with recipes read already."""
    paths = [path.relative_to(PACKAGE.parent) for path in PACKAGE.rglob("*.py")]
    programs = [path for path in paths if is_entry_point(PACKAGE.parent / path)]
    names = [".".join(path.with_suffix("").parts) for path in paths if path not in programs]
    line = [sys.executable, "-c", ALL, *(name.removesuffix(".__init__") for name in names)]
    done = subprocess.run(line, capture_output=True, text=True, check=False, cwd=PACKAGE.parent)
    assert done.returncode == 0, done.stderr


def test_files_are_short() -> None:
    for path in PACKAGE.rglob("*.py"):
        assert len(path.read_text().splitlines()) < 400, path
