"""Floating-point operations of a program, counted in its jaxpr before it is compiled or run."""

import math
from typing import Any

from jax.extend import core


def count_flops(program: core.ClosedJaxpr) -> int:
    """FLOPs of all matrix products and convolutions, a multiply and an add as two.

    Elementwise operations, a share of a percent in a large model, are left out. What a loop does is
    counted as often as it is done; of branches the dearest one is.

    Args:
      program: from `jax.make_jaxpr`, whose arguments may be `jax.ShapeDtypeStruct`.

    Raises:
      ValueError: a `while` loop, whose number of turns nobody can tell, holds such operations.
    """
    return _count(program.jaxpr)


def _count(jaxpr: core.Jaxpr) -> int:
    return sum(_of_equation(equation) for equation in jaxpr.eqns)


def _of_equation(equation: core.JaxprEqn) -> int:
    name, parameters = equation.primitive.name, equation.params
    if name == "dot_general":
        (contracted, _), _ = parameters["dimension_numbers"]
        left = _shape(equation.invars[0])
        return 2 * _size(equation) * math.prod(left[axis] for axis in contracted)
    if name == "conv_general_dilated":
        kernel = _shape(equation.invars[1])  # its channels are those of one group already
        features = parameters["dimension_numbers"].rhs_spec[0]
        window = math.prod(kernel) // kernel[features]
        # The gradient of a strided convolution is one over an input spread out with zeros.
        return 2 * _size(equation) * window // math.prod(parameters["lhs_dilation"])
    inner = [_count(jaxpr) for jaxpr in core.jaxprs_in_params(parameters)]
    if name == "while" and any(inner):
        raise ValueError("The FLOPs of a while loop cannot be counted: nobody can tell its turns.")
    if name == "cond":
        return max(inner)
    return sum(inner) * (parameters["length"] if name == "scan" else 1)


def _size(equation: core.JaxprEqn) -> int:
    return math.prod(_shape(equation.outvars[0]))


def _shape(variable: Any) -> tuple[int, ...]:
    return variable.aval.shape
