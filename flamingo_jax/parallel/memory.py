"""Memory of the process, where the C library lets one ask for it."""

import ctypes
import gc


def give_back() -> None:
    """Returns what is free to the system; nothing where the C library is not glibc.

    Compiling a step takes some 600 MB in small pieces, which the C library would keep.
    """
    gc.collect()
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:
        trim(0)
