"""Logical axes: what the axes of parameters and activations mean, whatever devices they lie on.

A rules table (`flamingo_jax.parallel.mesh.MeshConfig`) maps these names to the axes of a mesh.
Names of axes that are never split, such as a head's channels, are there for the reader only.
"""

from typing import Any

import jax
from flax.linen import spmd

Array = jax.Array
LogicalAxes = tuple[str | None, ...]

PARAMETERS: dict[str, LogicalAxes] = {
    # Attention of the language model, the bridge, the resampler and the ViT.
    "query/kernel": ("embed", "heads", "head"),
    "key/kernel": ("embed", "kv_heads", "head"),
    "value/kernel": ("embed", "kv_heads", "head"),
    "out/kernel": ("heads", "head", "embed"),
    "attention/position/kernel": ("embed", "heads", "head"),
    "content_bias": ("heads", "head"),
    "position_bias": ("heads", "head"),
    # Feed-forwards, the text encoder's among them.
    "up/kernel": ("embed", "mlp"),
    "gate/kernel": ("embed", "mlp"),
    "down/kernel": ("mlp", "embed"),
    # Both ends of the language model.
    "vocabulary/embedding": ("vocab", "embed"),
    "vocabulary/head": ("vocab", "embed"),
    "vocabulary/position": ("positions", "embed"),
    "project_in/kernel": ("narrow", "embed"),
    "project_out/kernel": ("embed", "narrow"),
    # From vision to language.
    "media/kernel": ("media", "embed"),
    "resampler/project/kernel": ("features", "embed"),
    "resampler/latents": ("latents", "embed"),
    "resampler/time_embedding": ("frames", "embed"),
    # Vision. A stem's few channels are not worth splitting.
    "patch/kernel": ("pixels", "embed"),
    "position_LxD": ("patches", "embed"),
    "stem/kernel": ("height", "width", "colours", "stem"),
    "conv/kernel": ("height", "width", "channels_in", "channels"),
    "shortcut/kernel": ("height", "width", "channels_in", "channels"),
    "final/kernel": ("height", "width", "channels_in", "channels"),
    "squeeze_excite/down/kernel": ("channels_in", "channels"),
    "squeeze_excite/up/kernel": ("channels_in", "channels"),
}
"""Axes by the end of a parameter's path, numbers of layers left out; the longest end counts.

What is not here, biases and norms for instance, is small, and whole on every device.
"""

ACTIVATIONS = ("batch", "images", "length", "hidden")
"""Axes of what flows: sequences, images of the vision encoder, tokens, the residual stream."""

LAYERS = "layers"
"""The leading axis, or axes, of scanned layers' parameters."""

NAMES = frozenset(name for axes in PARAMETERS.values() for name in axes if name) | {
    *ACTIVATIONS,
    LAYERS,
}
"""All logical axes."""


def path_names(path: tuple[Any, ...]) -> list[str]:
    """The keys of a tree path, as JAX gives it, as text."""
    return [
        str(getattr(key, "key", getattr(key, "name", getattr(key, "idx", key)))) for key in path
    ]


def parameter_axes(path: tuple[Any, ...], ndim: int) -> LogicalAxes:
    """The logical axes of a parameter, or of what an optimizer keeps for it.

    Args:
      path: in any tree that ends in the parameters' own names.
      ndim: axes that it has; those before its own are `layers`.
    """
    names = [name.rstrip("0123456789_") or name for name in path_names(path)]
    for size in (3, 2, 1):
        axes = PARAMETERS.get("/".join(names[-size:]))
        if axes is not None and len(axes) <= ndim:
            return (LAYERS,) * (ndim - len(axes)) + axes
    return (None,) * ndim


def constrain(x: Array, *axes: str | None) -> Array:
    """Lays an activation's first axes out as the rules say; nothing where there are no rules."""
    return spmd.with_logical_constraint(x, axes + (None,) * (x.ndim - len(axes)))
