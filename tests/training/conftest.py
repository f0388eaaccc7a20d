"""What the tests of training share."""

import chex
import pytest


@pytest.fixture(autouse=True)
def _traces_are_counted_anew() -> None:
    """chex counts by the function's address, which a later test's function may get."""
    chex.clear_trace_counter()
