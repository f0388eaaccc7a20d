"""Memory that is free goes back to the system."""

import ctypes
import os
import resource
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from flamingo_jax import cli
from flamingo_jax.parallel import memory
from tests.tiny_run import ROOT


def resident() -> int:
    """Bytes of this process in memory."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * resource.getpagesize()


needs_glibc = pytest.mark.skipif(
    sys.platform != "linux" or not hasattr(ctypes.CDLL(None), "malloc_trim"), reason="needs glibc"
)


@needs_glibc
def test_free_pieces_below_one_in_use_are_given_back() -> None:
    """The C library by itself cuts off what is free at the end of its heap, nothing before that."""
    library = ctypes.CDLL(None)
    library.malloc.restype, library.malloc.argtypes = ctypes.c_void_p, [ctypes.c_size_t]
    library.free.argtypes = [ctypes.c_void_p]
    pieces = [library.malloc(50_000) for _ in range(4000)]
    for piece in pieces:
        ctypes.memset(piece, 1, 50_000)
    for piece in pieces[:-1]:
        library.free(piece)
    before = resident()
    memory.give_back()
    assert before - resident() > 100e6
    library.free(pieces[-1])


@needs_glibc
@pytest.mark.parametrize(("megabytes", "kept"), [(60, True), (100, False)])
def test_what_is_free_is_kept_for_a_block_that_fits_in_there(megabytes: int, kept: bool) -> None:
    """In a process whose C library keeps large blocks, as those that run models do."""
    code = f"""
import ctypes
from flamingo_jax.parallel.memory import make_room
from tests.parallel.test_memory import resident
library = ctypes.CDLL(None)
library.malloc.restype, library.malloc.argtypes = ctypes.c_void_p, [ctypes.c_size_t]
library.free.argtypes = [ctypes.c_void_p]
block, behind = library.malloc(64 << 20), library.malloc(64 << 20)
ctypes.memset(block, 1, 64 << 20)
library.free(block)
before = resident()
make_room({megabytes} << 20)
print(before - resident() < 32 << 20)
"""
    environment = os.environ | {"GLIBC_TUNABLES": cli.TUNABLES}
    line = [sys.executable, "-c", code]
    done = subprocess.run(line, env=environment, capture_output=True, text=True, cwd=ROOT)
    assert done.stdout.strip() == str(kept), done.stderr


@pytest.mark.parametrize("ask", [memory.give_back, lambda: memory.make_room(1)])
def test_nothing_happens_where_there_is_no_such_call(
    ask: Callable[[], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[str | None] = []
    monkeypatch.setattr(memory.ctypes, "CDLL", asked.append)  # what it returns has no such call
    ask()
    assert asked == [None]
