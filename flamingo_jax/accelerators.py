"""Whether JAX could find anything but the CPU, asked before JAX is imported."""

import importlib.metadata
import importlib.util
import os
from pathlib import Path

_GOOGLE = "0x1ae0"  # the vendor by which JAX itself looks for TPUs
_ASKED_FOR = ("TPU_LIBRARY_PATH", "JAX_FORCE_TPU_INIT")


def only_a_cpu() -> bool:
    """Whether no library for accelerators is here but that for TPUs, and no TPU.

    Planning brings that library. JAX would load it to look for devices: 90 MB, and lines of its
    warnings.
    """
    if any(map(os.environ.get, _ASKED_FOR)) or importlib.util.find_spec("jax_plugins"):
        return False
    vendors = Path("/sys/bus/pci/devices").glob("*/vendor")
    if any(vendor.read_text().strip() == _GOOGLE for vendor in vendors):
        return False
    return not importlib.metadata.entry_points(group="jax_plugins")  # last: it reads many files
