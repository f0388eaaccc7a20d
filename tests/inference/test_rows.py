"""Products row by row: the same numbers as the layers' own, on CPUs and for few rows only."""

from typing import Any

import chex
import jax
import jax.numpy as jnp
import pytest
from flax import linen as nn

from flamingo_jax.inference.rows import MOST, row_by_row

LAYERS = {
    "dense": (nn.Dense(5), (7,)),
    "without bias": (nn.Dense(5, use_bias=False), (7,)),
    "to heads": (nn.DenseGeneral((2, 3)), (7,)),
    "from heads": (nn.DenseGeneral(5, axis=(-2, -1)), (2, 4)),
    "in bfloat16": (nn.Dense(5, dtype=jnp.bfloat16), (7,)),
}


def setting(name: str, rows: tuple[int, ...]) -> tuple[nn.Module, Any, jax.Array]:
    layer, width = LAYERS[name]
    x = jax.random.normal(jax.random.key(0), (*rows, *width))
    variables = layer.init(jax.random.key(1), x)
    biased = jax.tree.map(lambda leaf: leaf + 0.5, variables)
    return layer, biased, x


def apply(layer: nn.Module, variables: Any, x: jax.Array) -> Any:
    with nn.intercept_methods(row_by_row):
        return layer.apply(variables, x)


def products(layer: nn.Module, variables: Any, x: jax.Array, platform: str) -> int:
    """Products in the program for a platform."""
    traced = jax.jit(lambda variables, x: apply(layer, variables, x)).trace(variables, x)
    return traced.lower(lowering_platforms=(platform,)).as_text().count("stablehlo.dot_general")


@pytest.mark.parametrize("rows", [(1, 1), (2, 1), (1, 3), (3, 2), (7, 1)])
@pytest.mark.parametrize("name", LAYERS)
def test_numbers_are_those_of_the_layer(name: str, rows: tuple[int, ...]) -> None:
    layer, variables, x = setting(name, rows)
    expected, found = layer.apply(variables, x), apply(layer, variables, x)
    chex.assert_trees_all_equal_shapes_and_dtypes(found, expected)
    tolerance = 2e-2 if found.dtype == jnp.bfloat16 else 1e-6
    chex.assert_trees_all_close(found, expected, rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("name", LAYERS)
@pytest.mark.parametrize(("rows", "expected"), [(1, 1), (2, 2), (MOST, MOST), (MOST + 1, 1)])
def test_few_rows_are_multiplied_one_by_one_on_a_cpu(name: str, rows: int, expected: int) -> None:
    layer, variables, x = setting(name, (rows, 1))
    assert products(layer, variables, x, "cpu") == expected
    assert products(layer, variables, x, "tpu") == 1


def test_other_modules_are_left_alone() -> None:
    x = jax.random.normal(jax.random.key(0), (2, 7))
    norm = nn.LayerNorm()
    variables = norm.init(jax.random.key(1), x)
    chex.assert_trees_all_equal(apply(norm, variables, x), norm.apply(variables, x))
