"""PyTorch's layers as Flax keeps them, and trees of layers as scanned modules keep them; unread.

PyTorch keeps a linear layer as [outputs, inputs]; Flax as [inputs, outputs], and where either side
is split into heads, with an axis for the heads and one for their channels.
"""

import math
from typing import Any

import jax
import numpy as np

from flamingo_jax.checkpoints.tensors import Source, Stacked, Tensor, common_type
from flamingo_jax.models.flamingo import FlamingoConfig, stack_layers

Tree = dict[str, Any]
Axes = tuple[int, ...]


def linear(weight: Tensor, bias: Tensor | None, inputs: Axes, outputs: Axes) -> Tree:
    """A linear layer, its sides split into axes.

    Args:
      weight: [outputs, inputs].
      bias: [outputs], or None.
      inputs: axes that the inputs are split into.
      outputs: axes that the outputs are split into.

    Returns:
      `kernel`, [*inputs, *outputs], and with a bias `bias`, [*outputs].
    """
    shape = (*inputs, *outputs)
    tree = {"kernel": weight.map(lambda array: array.T.reshape(shape), shape)}
    if bias is not None:
        tree["bias"] = bias.map(lambda array: array.reshape(outputs), outputs)
    return tree


def take_linear(source: Source, name: str, inputs: Axes, outputs: Axes, bias: bool) -> Tree:
    """The linear layer of that name, see `linear`.

    Raises:
      UserError: a tensor is missing or has another shape.
    """
    wide, high = math.prod(inputs), math.prod(outputs)
    weight = source.take(f"{name}.weight", (high, wide))
    return linear(weight, source.take(f"{name}.bias", (high,)) if bias else None, inputs, outputs)


def take_fused(
    source: Source, name: str, inputs: int, parts: int, outputs: Axes, bias: bool
) -> list[Tree]:
    """Linear layers of one input and shape, kept as one: their outputs one after another.

    Args:
      source: the tensors.
      name: what the tensors' names begin with, before `weight` and `bias`.
      inputs: width of the input.
      parts: how many layers.
      outputs: axes that the outputs of each are split into.
      bias: whether they have biases.

    Raises:
      UserError: a tensor is missing or has another shape.
    """
    high = math.prod(outputs)
    weight = source.take(f"{name}weight", (parts * high, inputs))
    biases = source.take(f"{name}bias", (parts * high,)) if bias else None
    return [
        linear(
            rows(weight, i * high, high),
            None if biases is None else rows(biases, i * high, high),
            (inputs,),
            outputs,
        )
        for i in range(parts)
    ]


def rows(tensor: Tensor, start: int, count: int) -> Tensor:
    """`count` rows of a tensor."""
    return tensor.map(lambda array: array[start : start + count], (count, *tensor.shape[1:]))


def take_norm(source: Source, name: str, width: int, bias: bool = True) -> Tree:
    """The norm of that name: `scale`, and with a bias `bias`, [width] each.

    Raises:
      UserError: a tensor is missing or has another shape.
    """
    tree: Tree = {"scale": source.take(f"{name}.weight", (width,))}
    if bias:
        tree["bias"] = source.take(f"{name}.bias", (width,))
    return tree


def stacked(trees: list[Tree]) -> Tree:
    """Trees of one structure as one, each leaf with a new leading axis.

    Leaves of several types, of a checkpoint partly in half precision, become float32.
    """

    def stack(*parts: Tensor | Stacked) -> Stacked:
        dtype = common_type(parts)
        return Stacked(tuple(_cast(part, dtype) for part in parts))

    return jax.tree.map(stack, *trees)


def _cast(part: Tensor | Stacked, dtype: np.dtype) -> Tensor | Stacked:
    if part.dtype == dtype:
        return part
    if isinstance(part, Stacked):
        return Stacked(tuple(_cast(one, dtype) for one in part.parts))
    return part.map(lambda array: array, part.shape, dtype)


def language_variables(
    layers: list[Tree], bridges: list[Tree], config: FlamingoConfig
) -> tuple[Tree, Tree]:
    """Layers as `models.flamingo.LanguageModel` keeps them.

    Args:
      layers: of the language model, in order.
      bridges: the cross-attention layers, in order.
      config: which of the first come after which of the second.

    Returns:
      What `params` holds of the language model, and what `frozen` holds without the vocabulary.
    """
    _, whole, rest = config.groups()
    params: Tree = {}
    if whole:
        params["groups"] = {"xattn": stacked(bridges[:whole])}
    if rest:
        params["last_group"] = {"xattn": bridges[-1]}
    return params, stack_layers(layers, config, stacked)
