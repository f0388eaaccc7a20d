"""Flamingo-style visual language models in JAX.

The public API is what `__all__` names; importing the package imports none of it yet.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from flamingo_jax.errors import UserError
    from flamingo_jax.inference.generate import GenerationConfig
    from flamingo_jax.inference.handle import Flamingo
    from flamingo_jax.runs import load

__all__ = ["Flamingo", "GenerationConfig", "UserError", "load"]

_HOMES = {
    "Flamingo": "flamingo_jax.inference.handle",
    "GenerationConfig": "flamingo_jax.inference.generate",
    "UserError": "flamingo_jax.errors",
    "load": "flamingo_jax.runs",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'flamingo_jax' has no attribute {name!r}")
    return getattr(importlib.import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return __all__
