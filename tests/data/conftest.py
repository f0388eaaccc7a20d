"""The real drawings, rendered once a test session."""

from pathlib import Path

import pytest

from flamingo_jax.checkpoints import smollm2
from flamingo_jax.data.drawings import Drawing, load_drawings
from flamingo_jax.data.tokenizer import Tokenizer


@pytest.fixture(scope="session")
def drawings(tmp_path_factory: pytest.TempPathFactory) -> list[Drawing]:
    return load_drawings(tmp_path_factory.mktemp("data"))


@pytest.fixture(scope="session")
def tokenizer(tmp_path_factory: pytest.TempPathFactory) -> Tokenizer:
    path: Path = tmp_path_factory.mktemp("tokenizer") / "tokenizer.json"
    smollm2.write_tokenizer(smollm2.find_gguf(), path)
    return Tokenizer.load(path)
