"""Memory of the process, where the C library lets one ask for it."""

import ctypes
import gc

_ALIGNED = 128
"""Bytes that glibc wants beyond a block that is to lie at a multiple of 64."""


def give_back() -> None:
    """Returns what is free to the system; nothing where the C library is not glibc.

    Compiling a step takes some 600 MB in small pieces, which the C library would keep.
    """
    gc.collect()
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:
        trim(0)


def make_room(size: int) -> None:
    """Gives what is free back to the system if a block of `size` bytes does not fit in there.

    A step on a CPU allocates its intermediate values anew, as one block. If small arrays that stay
    lie where the block before it was, it goes elsewhere, and the room of two would be held from
    then on. Nothing where the C library is not glibc, or gives large blocks back by itself.
    """
    libc = ctypes.CDLL(None)
    if not hasattr(libc, "malloc_trim"):
        return
    for function in (libc.malloc, libc.sbrk):
        function.restype = ctypes.c_void_p
    end = libc.sbrk(0)
    tried = ctypes.c_void_p(libc.malloc(ctypes.c_size_t(size + _ALIGNED)))
    grown = libc.sbrk(0) != end
    libc.free(tried)
    if grown:
        give_back()
