"""Norms, activations and the feed-forward: what all Transformers of the model are made of."""

import math
from collections.abc import Callable
from typing import Any, Literal

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jax.ad_checkpoint import checkpoint_name

from flamingo_jax.models.attention import ATTENDED

Array = jax.Array
Norm = Literal["rms", "layer"]
Activation = Literal["squared_relu", "gelu", "gelu_tanh", "quick_gelu", "relu", "swiglu"]

Remat = Literal["none", "dots", "full"]

_PRODUCT = "product"  # by `widen`, in which a policy does not look


def exact_gelu(x: Array) -> Array:
    """GELU (arXiv:1606.08415), x Φ(x), computed in float32.

    By erf, which takes a CPU less than half of what erfc does; in float32 the difference is below
    1e-6, but in bfloat16 1 + erf would lose what is small.
    """
    wide = x.astype(jnp.float32)
    return (wide * (0.5 + 0.5 * jax.lax.erf(wide * np.float32(0.5**0.5)))).astype(x.dtype)


ELEMENTWISE: dict[str, Callable[[Array], Array]] = {
    "squared_relu": lambda x: jnp.square(nn.relu(x)),  # Primer (arXiv:2109.08668)
    "gelu": exact_gelu,
    "gelu_tanh": nn.gelu,
    "quick_gelu": lambda x: x * nn.sigmoid(1.702 * x),  # arXiv:1606.08415, §2; CLIP
    "relu": nn.relu,
    "swiglu": nn.silu,  # of the gate
}
"""What the names of activations stand for."""


def make_norm(kind: Norm, eps: float, dtype: Any, name: str | None, bias: bool = True) -> Any:
    """RMSNorm (arXiv:1910.07467), or LayerNorm with or without biases, over the last axis."""
    if kind == "rms":
        return nn.RMSNorm(epsilon=eps, dtype=dtype, name=name)
    return nn.LayerNorm(epsilon=eps, dtype=dtype, use_bias=bias, name=name)


def rematerialised(module: Any, remat: Remat, shared: bool = True) -> Any:
    """The class of a layer that keeps for the backward pass what `remat` says.

    Args:
      module: the class.
      remat: compute anew nothing, all but what products with weights and attention give, or all
        (arXiv:1604.06174).
      shared: whether a compiler could share what both passes compute, which must be forbidden.
    """
    if remat == "none":
        return module
    policies = jax.checkpoint_policies
    dots = policies.save_from_both_policies(
        policies.dots_with_no_batch_dims_saveable,
        policies.save_only_these_names(_PRODUCT, ATTENDED),
    )
    policy = dots if remat == "dots" else policies.nothing_saveable
    return nn.remat(module, policy=policy, prevent_cse=shared)


def into_heads(
    heads: int, width: int, dtype: Any, name: str, bias: bool = False
) -> nn.DenseGeneral:
    """The projection of [..., D] to [..., heads, width]."""
    return nn.DenseGeneral(
        (heads, width), use_bias=bias, dtype=dtype, name=name, dot_general=_flat_dot
    )


def out_of_heads(width: int, dtype: Any, bias: bool = False) -> nn.DenseGeneral:
    """The projection `out` of attention, [..., K, C] to [..., width]."""
    return nn.DenseGeneral(
        width, axis=(-2, -1), use_bias=bias, dtype=dtype, name="out", dot_general=_flat_dot
    )


def _flat_dot(x: Array, kernel: Array, dimensions: Any, *_: Any, **__: Any) -> Array:
    """`flat_product` as the `dot_general` of a DenseGeneral layer."""
    (contracted, _), _ = dimensions
    return flat_product(x, kernel, len(contracted))


def flat_product(x: Array, kernel: Array, contracted: int = 1) -> Array:
    """x @ kernel over the last axes of x and the first of the kernel, each made one axis before.

    XLA on a CPU transposes a kernel of three axes for the gradient of x, one of two it does not.
    """
    rows, made = x.shape[:-contracted], kernel.shape[contracted:]
    width = math.prod(x.shape[-contracted:])
    return (x.reshape(*rows, width) @ kernel.reshape(width, -1)).reshape(*rows, *made)


class FeedForward(nn.Module):
    """down(activation(up(x))), or down(silu(gate(x)) * up(x)) (SwiGLU, arXiv:2002.05202, eq. 6).

    Attributes:
      hidden: width between.
      activation: its name.
      bias: whether the projections have biases.
      dtype: of the computation.
      dot_general: of the projections up, see `widen`; None for JAX's.
    """

    hidden: int
    activation: Activation
    bias: bool = False
    dtype: jnp.dtype = jnp.float32
    dot_general: Any = None

    @nn.compact
    def __call__(self, x: Array) -> Array:
        def dense(width: int, name: str, dot_general: Any = None) -> nn.Dense:
            return nn.Dense(
                width, use_bias=self.bias, dtype=self.dtype, dot_general=dot_general, name=name
            )

        up = dense(self.hidden, "up", self.dot_general)(x)
        activation = ELEMENTWISE[self.activation]
        if self.activation == "swiglu":
            y = activation(dense(self.hidden, "gate", self.dot_general)(x)) * up
        else:
            y = activation(up)
        return dense(x.shape[-1], "down")(y)


@jax.custom_vjp
def widen(x: Array, kernel_IxO: Array) -> Array:
    """x @ kernel for O > I, whose weight gradient leaves the wide cotangent as it lies.

    JAX asks for (g^T x)^T, and XLA on a CPU computes an activation's derivative anew while it
    transposes g, which takes longer than the multiply itself; x^T g transposes the narrow x.
    """
    return x @ kernel_IxO


def _widen_backward(kept: tuple[Array, Array], g: Array) -> tuple[Array, Array]:
    x, kernel_IxO = kept
    rows = tuple(range(x.ndim - 1))
    return g @ kernel_IxO.T, jax.lax.dot_general(x, g, ((rows, rows), ((), ())))


widen.defvjp(lambda x, kernel_IxO: (widen(x, kernel_IxO), (x, kernel_IxO)), _widen_backward)


def widen_dot(x: Array, kernel_IxO: Array, *_: Any, **__: Any) -> Array:
    """`widen` as the `dot_general` of a Dense layer."""
    return checkpoint_name(widen(x, kernel_IxO), _PRODUCT)
