"""Products of a few rows with a matrix on a CPU, one row after another.

XLA multiplies one row by a matrix as fast as memory delivers the matrix. From two rows on it calls
a general product, which first copies the matrix into blocks: worth its while from some seven rows
on. Between, rows one by one are faster, since a layer's matrix stays in the processor's cache from
one row to the next. Decoding a few prompts or beams does little else.
"""

import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn
from flax.linen.dtypes import promote_dtype

Array = jax.Array

MOST = 6
"""Rows up to which one by one is faster."""


def row_by_row(
    call: Callable[..., Any], args: Any, kwargs: Any, context: nn.module.InterceptorContext
) -> Any:
    """Computes dense layers of 2 to MOST rows one by one: an interceptor of `nn.intercept_methods`.

    Only on CPUs; elsewhere, and for all other modules, nothing changes.
    """
    layer = context.module
    if not isinstance(layer, nn.Dense | nn.DenseGeneral) or context.method_name != "__call__":
        return call(*args, **kwargs)
    kernel, bias = layer.get_variable("params", "kernel"), layer.get_variable("params", "bias")
    made = (layer.features,) if isinstance(layer.features, int) else tuple(layer.features)
    rows = args[0].shape[: args[0].ndim - (kernel.ndim - len(made))]
    if not 1 < math.prod(rows) <= MOST:
        return call(*args, **kwargs)
    x, kernel, bias = promote_dtype(args[0], kernel, bias, dtype=layer.dtype)
    out = jax.lax.platform_dependent(
        x.reshape(math.prod(rows), -1),
        kernel.reshape(-1, math.prod(made)),
        cpu=_one_by_one,
        default=jnp.matmul,
    ).reshape(*rows, *made)
    return out if bias is None else out + bias


def _one_by_one(x_RxI: Array, kernel_IxO: Array) -> Array:
    return jnp.concatenate([row_1xI @ kernel_IxO for row_1xI in jnp.split(x_RxI, len(x_RxI))])
