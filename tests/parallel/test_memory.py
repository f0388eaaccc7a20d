"""Memory that is free goes back to the system."""

import ctypes
import resource
import sys
from pathlib import Path

import pytest

from flamingo_jax.parallel import memory


def resident() -> int:
    """Bytes of this process in memory."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * resource.getpagesize()


@pytest.mark.skipif(
    sys.platform != "linux" or not hasattr(ctypes.CDLL(None), "malloc_trim"), reason="needs glibc"
)
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


def test_nothing_happens_where_there_is_no_such_call(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str | None] = []
    monkeypatch.setattr(memory.ctypes, "CDLL", asked.append)  # what it returns has no such call
    memory.give_back()
    assert asked == [None]
