"""PyTorch's weights laid out as the modules here keep them, none of them read.

A torch Linear keeps [out, in], flax's Dense [in, out]; projections to and from K heads of C
channels have axes of their own here. Layers are stacked as `FlamingoModel` scans over them.

Axes: I inputs, O outputs, D width, K heads, C head width, P side of a patch.
"""

from typing import Any

import jax

from flamingo_jax.checkpoints.tensors import Source, Stacked, Tensor
from flamingo_jax.models.flamingo import FlamingoConfig


def norm(source: Source, name: str, width: int, bias: bool = True) -> dict[str, Tensor]:
    """A LayerNorm, or without `bias` an RMSNorm: `scale` and `bias` [D]."""
    tree = {"scale": source.take(f"{name}.weight", (width,))}
    return {**tree, "bias": source.take(f"{name}.bias", (width,))} if bias else tree


def dense(
    source: Source, name: str, inputs: int, outputs: int, bias: bool = False
) -> dict[str, Tensor]:
    """A Linear: `kernel` [I, O] and `bias` [O]."""
    tree = {"kernel": transposed(source.take(f"{name}.weight", (outputs, inputs)))}
    return {**tree, "bias": source.take(f"{name}.bias", (outputs,))} if bias else tree


def to_heads(
    source: Source, name: str, inputs: int, heads: tuple[int, int], bias: bool = False
) -> dict[str, Tensor]:
    """A Linear to `heads` (K, C): `kernel` [I, K, C] and `bias` [K, C]."""
    tree = dense(source, name, inputs, heads[0] * heads[1], bias)
    return {part: split(tensor, heads) for part, tensor in tree.items()}


def from_heads(
    source: Source, name: str, heads: tuple[int, int], outputs: int, bias: bool = False
) -> dict[str, Tensor]:
    """A Linear from `heads` (K, C): `kernel` [K, C, O] and `bias` [O]."""
    tree = dense(source, name, heads[0] * heads[1], outputs, bias)
    shape = (*heads, outputs)
    return {**tree, "kernel": tree["kernel"].map(lambda kernel: kernel.reshape(shape), shape)}


def transposed(tensor: Tensor) -> Tensor:
    """A matrix with its axes swapped."""
    return tensor.map(lambda matrix: matrix.T, tensor.shape[::-1])


def split(tensor: Tensor, heads: tuple[int, int]) -> Tensor:
    """[..., K * C] as [..., K, C]."""
    shape = (*tensor.shape[:-1], *heads)
    return tensor.map(lambda array: array.reshape(shape), shape)


def patch_kernel(source: Source, name: str, width: int, patch: int) -> dict[str, Tensor]:
    """A convolution over patches, [D, 3, P, P], as the projection of patches [P * P * 3, D]."""
    convolution, shape = source.take(f"{name}.weight", (width, 3, patch, patch)), (-1, width)
    return {
        "kernel": convolution.map(
            lambda kernel: kernel.transpose(2, 3, 1, 0).reshape(shape), (patch * patch * 3, width)
        )
    }


def stacked(layers: list[Any]) -> Any:
    """Trees of one kind as one tree of `Stacked` leaves."""
    return jax.tree.map(lambda *leaves: Stacked(leaves), *layers)


def stacked_language(
    config: FlamingoConfig, vocabulary: dict[str, Any], layers: list[Any]
) -> dict[str, Any]:
    """The language model's variables: its two ends and its layers, in order."""
    below, whole, rest = config.groups()
    every = config.xattn.every
    tree: dict[str, Any] = {"vocabulary": vocabulary}
    if below:
        tree["below"] = {"layers": stacked(layers[:below])}
    if whole:
        firsts = range(below, below + whole * every, every)
        groups = [stacked(layers[first : first + every]) for first in firsts]
        tree["groups"] = {"language": {"layers": stacked(groups)}}
    if rest:
        tree["last_group"] = {"language": {"layers": stacked(layers[-rest:])}}
    return tree


def stacked_bridges(config: FlamingoConfig, bridges: list[Any]) -> dict[str, Any]:
    """The variables of the cross-attention layers, in order."""
    _, whole, rest = config.groups()
    tree = {"groups": {"xattn": stacked(bridges[:whole])}} if whole else {}
    return {**tree, "last_group": {"xattn": bridges[-1]}} if rest else tree
