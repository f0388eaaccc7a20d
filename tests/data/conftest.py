"""The real drawings, rendered once a test session."""

import pytest

from flamingo_jax.data.drawings import Drawing, load_drawings


@pytest.fixture(scope="session")
def drawings(tmp_path_factory: pytest.TempPathFactory) -> list[Drawing]:
    return load_drawings(tmp_path_factory.mktemp("data"))
