"""Bytes that a program moves through memory at the least, counted in its jaxpr.

Matrix products and convolutions read what they multiply and write what comes out; all else is
taken to be fused with them. Weights lie whole on every chip of a batch's shard while they are
used, so that their share of a chip's traffic does not shrink as batches are split.
"""

import dataclasses
import math
from collections.abc import Sequence
from typing import Any

from jax.extend import core

_PRODUCTS = ("dot_general", "conv_general_dilated")


@dataclasses.dataclass(frozen=True)
class Traffic:
    """Bytes by what is moved.

    Attributes:
      weights: read as factors, or written as their gradients.
      activations: all else.
    """

    weights: int = 0
    activations: int = 0

    def __add__(self, other: "Traffic") -> "Traffic":
        return Traffic(self.weights + other.weights, self.activations + other.activations)

    def __mul__(self, times: int) -> "Traffic":
        return Traffic(self.weights * times, self.activations * times)


def count_traffic(program: core.ClosedJaxpr, weights: Sequence[bool]) -> Traffic:
    """The traffic of a program's products, as often as its loops do them.

    Args:
      program: from `jax.make_jaxpr`.
      weights: of its arguments in order, which are weights.
    """
    return _run(program.jaxpr, weights)[0]


def _run(jaxpr: core.Jaxpr, weights: Sequence[bool]) -> tuple[Traffic, list[bool]]:
    """The traffic of a jaxpr whose arguments are weights or not, and which results are.

    What is made of weights alone is one, too.
    """
    known = dict(zip(jaxpr.invars, weights, strict=True))
    known.update(dict.fromkeys(jaxpr.constvars, False))
    total = Traffic()
    for equation in jaxpr.eqns:
        given = [_is_weight(v, known) for v in equation.invars]
        moved, made = _equation(equation, given)
        total += moved
        known.update(zip(equation.outvars, made, strict=True))
    return total, [_is_weight(v, known) for v in jaxpr.outvars]


def _is_weight(variable: Any, known: dict[Any, bool]) -> bool:
    return not isinstance(variable, core.Literal) and known[variable]


def _equation(equation: core.JaxprEqn, given: list[bool]) -> tuple[Traffic, list[bool]]:
    name, parameters = equation.primitive.name, equation.params
    if name in _PRODUCTS:
        return _product(equation, given)
    inner = list(core.jaxprs_in_params(parameters))
    if not inner:
        # A constant, which is none, makes of weights nothing else.
        constant = [isinstance(variable, core.Literal) for variable in equation.invars]
        alone = all(a or b for a, b in zip(given, constant, strict=True))
        return Traffic(), [alone and any(given)] * len(equation.outvars)
    if name == "scan":
        moved, made = _run(inner[0], _carried(equation, inner[0], given))
        return moved * parameters["length"], made
    found = [_run(jaxpr, _arguments(jaxpr, given)) for jaxpr in inner]
    dearest = max(found, key=lambda pair: pair[0].weights + pair[0].activations)
    made = dearest[1] if len(dearest[1]) == len(equation.outvars) else None
    return dearest[0], made or [False] * len(equation.outvars)


def _carried(equation: core.JaxprEqn, jaxpr: core.Jaxpr, given: list[bool]) -> list[bool]:
    """A loop's arguments; what it carries is a weight only if every turn leaves it one."""
    consts, carry = equation.params["num_consts"], equation.params["num_carry"]
    given = list(given)
    _, made = _run(jaxpr, given)
    for i in range(carry):
        given[consts + i] = given[consts + i] and made[i]
    return given


def _arguments(jaxpr: core.Jaxpr, given: list[bool]) -> list[bool]:
    """Of a call's arguments, the last are the called program's (a branch's index is first)."""
    return given[len(given) - len(jaxpr.invars) :]


def _product(equation: core.JaxprEqn, given: list[bool]) -> tuple[Traffic, list[bool]]:
    weights = activations = 0
    for variable, is_weight in zip(equation.invars, given, strict=True):
        if is_weight:
            weights += _bytes(variable)
        else:
            activations += _bytes(variable)
    result = sum(map(_bytes, equation.outvars))
    if all(given):
        return Traffic(weights + result, activations), [True]
    return Traffic(weights, activations + result), [False]


def _bytes(variable: Any) -> int:
    return math.prod(variable.aval.shape) * variable.aval.dtype.itemsize
