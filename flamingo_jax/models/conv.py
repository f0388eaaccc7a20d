"""2-D convolution whose gradient is as fast as its forward pass on every backend.

Axes: B batch, H and W pixels, I and O channels in and out, h and w kernel size.
"""

import functools

import jax
import jax.numpy as jnp

Array = jax.Array

_LAYOUT = ("NHWC", "HWIO", "NHWC")


def conv(x_BxHxWxI: Array, kernel_hxwxIxO: Array, stride: int = 1, groups: int = 1) -> Array:
    """Convolution with "SAME" padding: output sides are ceil(H / stride), ceil(W / stride).

    XLA's own gradient of a convolution runs on CPUs at a fraction of the speed of the convolution;
    there the gradient is written as a convolution (of the input) and a matrix product (of the
    kernel). Other backends, and grouped convolutions, use XLA's.

    Args:
      x_BxHxWxI: images.
      kernel_hxwxIxO: taps; with groups the third axis is I / groups.
      stride: step in both directions.
      groups: independent groups of channels.
    """
    if groups > 1:
        return _convolve(x_BxHxWxI, kernel_hxwxIxO, stride, groups)
    if kernel_hxwxIxO.shape[:2] == (1, 1) and stride == 1:
        return x_BxHxWxI @ kernel_hxwxIxO[0, 0]
    return _conv(x_BxHxWxI, kernel_hxwxIxO, stride)


def _convolve(x: Array, kernel: Array, stride: int, groups: int = 1) -> Array:
    return jax.lax.conv_general_dilated(
        x,
        kernel,
        (stride, stride),
        "SAME",
        dimension_numbers=_LAYOUT,
        feature_group_count=groups,
    )


@functools.partial(jax.custom_vjp, nondiff_argnums=(2,))
def _conv(x: Array, kernel: Array, stride: int) -> Array:
    return _convolve(x, kernel, stride)


def _forward(x: Array, kernel: Array, stride: int) -> tuple[Array, tuple[Array, Array]]:
    return _convolve(x, kernel, stride), (x, kernel)


def _backward(stride: int, saved: tuple[Array, Array], g: Array) -> tuple[Array, Array]:
    def by_products(x: Array, kernel: Array, g: Array) -> tuple[Array, Array]:
        return _input_gradient(x, kernel, g, stride), _kernel_gradient(x, kernel, g, stride)

    def by_xla(x: Array, kernel: Array, g: Array) -> tuple[Array, Array]:
        return jax.vjp(functools.partial(_convolve, stride=stride), x, kernel)[1](g)

    return jax.lax.platform_dependent(*saved, g, cpu=by_products, default=by_xla)


_conv.defvjp(_forward, _backward)


def _padding(x: Array, kernel: Array, stride: int) -> list[tuple[int, int]]:
    """(before, after) of H and W."""
    pads = jax.lax.padtype_to_pads(x.shape[1:3], kernel.shape[:2], (stride, stride), "SAME")
    return [(int(before), int(after)) for before, after in pads]


def _input_gradient(x: Array, kernel: Array, g: Array, stride: int) -> Array:
    """The output's gradient, spread out by the stride, convolved with the turned kernel."""
    pads = _padding(x, kernel, stride)
    edges = [(0, 0, 0)]
    for size, taps, out, (before, _) in zip(
        x.shape[1:3], kernel.shape[:2], g.shape[1:3], pads, strict=True
    ):
        left = taps - 1 - before
        right = size + taps - 1 - left - ((out - 1) * stride + 1)
        edges.append((left, right, stride - 1))
    spread = jax.lax.pad(g, jnp.zeros((), g.dtype), [*edges, (0, 0, 0)])
    turned = jnp.flip(kernel, (0, 1)).swapaxes(2, 3)
    return jax.lax.conv_general_dilated(spread, turned, (1, 1), "VALID", dimension_numbers=_LAYOUT)


def _kernel_gradient(x: Array, kernel: Array, g: Array, stride: int) -> Array:
    """One matrix product: x at every horizontal tap, g at every vertical one.

    dk[i, j] = Σ x[r, stride * q + j] g'[r - i, q], with g' the output's gradient whose rows are
    spread out by the stride. Copying h + w shifts instead of h * w patches is what makes it fast.
    """
    taps_h, taps_w, inputs, outputs = kernel.shape
    _, rows_g, columns, _ = g.shape
    padded = jnp.pad(x, [(0, 0), *_padding(x, kernel, stride), (0, 0)])
    rows = padded.shape[1]
    last = (columns - 1) * stride + 1
    shifted_x = [padded[:, :, j : j + last : stride] for j in range(taps_w)]
    free = rows - ((rows_g - 1) * stride + 1)
    none = (0, 0, 0)
    shifted_g = [
        jax.lax.pad(g, jnp.zeros((), g.dtype), [none, (i, free - i, stride - 1), none, none])
        for i in range(taps_h)
    ]
    left = jnp.concatenate(shifted_x, -1).reshape(-1, taps_w * inputs)
    right = jnp.concatenate(shifted_g, -1).reshape(-1, taps_h * outputs)
    product = (left.T @ right).reshape(taps_w, inputs, taps_h, outputs)
    return product.transpose(2, 0, 1, 3)
