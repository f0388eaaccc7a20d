"""Options of the extraction."""

import runpy
from pathlib import Path

import pytest

from flamingo_jax.data.web import settings
from flamingo_jax.errors import UserError
from tests.tiny_run import ROOT


def test_nothing_asked_is_the_usual() -> None:
    found = settings.read()
    assert (found.limits.min_side, found.limits.max_aspect) == (64, 3.0)
    assert found.languages == ()
    assert found.blocked is None
    assert found.excluded is None


def test_all_that_can_be_asked(tmp_path: Path) -> None:
    (tmp_path / "words").write_text("badword\n")
    (tmp_path / "hashes").write_text("00000000000000ff\n")
    found = settings.read(
        ["min_side=96", "max_aspect=2.5"], ["en"], str(tmp_path / "words"), str(tmp_path / "hashes")
    )
    assert (found.limits.min_side, found.limits.max_aspect, found.limits.min_words) == (96, 2.5, 10)
    assert found.languages == ("en",)
    assert found.blocked is not None
    assert found.blocked.phrases == ("badword",)
    assert found.excluded is not None
    assert found.excluded.tolist() == [255]


@pytest.mark.parametrize(
    ("limit", "message"),
    [
        ("min_sides=3", "there is no 'min_sides', only min_side, max_aspect"),
        ("min_side", "min_side takes a number, not ''"),
        ("min_side=3.5", r"min_side takes a number, not '3\.5'"),
        ("min_side=-1", "min_side is -1, but cannot be negative"),
    ],
)
def test_mistakes(limit: str, message: str) -> None:
    with pytest.raises(UserError, match=message):
        settings.read([limit])


def test_recipes() -> None:
    recipe = settings.read_recipe(
        {"input": ("a",), "languages": ("de",), "limits": {"min_words": 9}}
    )
    assert settings.read(recipe=recipe).limits.min_words == 9
    assert settings.read(recipe=recipe).languages == ("de",)
    found = settings.read(["min_words=7"], ["en"], recipe=recipe)
    assert (found.limits.min_words, found.languages) == (7, ("en",))
    with pytest.raises(UserError, match="there is no field 'inputs', only input, package"):
        settings.read_recipe({"inputs": ("a",)})


def test_the_recipes_of_the_project() -> None:
    paths = sorted((ROOT / "configs" / "data").glob("*.py"))
    assert paths
    for path in paths:
        recipe = settings.read_recipe(dict(runpy.run_path(str(path))["get_config"]()))
        assert recipe.input
        assert settings.read(recipe=recipe).limits
