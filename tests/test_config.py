"""Configs: all recipes resolve, survive the disk, and mistakes name the field."""

import dataclasses
import runpy
from pathlib import Path
from typing import Any

import pytest

from flamingo_jax import config as configuration
from flamingo_jax import fields
from flamingo_jax.config import RunConfig
from flamingo_jax.errors import UserError
from flamingo_jax.models.nfnet import VisionConfig
from flamingo_jax.models.vit import ViTConfig

CONFIGS = Path(__file__).parent.parent / "configs"
OTHERS = {CONFIGS / "benchmark_common.py", CONFIGS / "evaluation.py"}  # not of runs
RECIPES = sorted(set(CONFIGS.glob("*.py")) - OTHERS)


@dataclasses.dataclass(frozen=True)
class Either:
    vision: VisionConfig | ViTConfig


def recipe(path: Path = RECIPES[0]) -> dict[str, Any]:
    return runpy.run_path(str(path))["get_config"]().to_dict()


@pytest.fixture(autouse=True)
def _from_the_root(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(RECIPES[0].parent.parent))


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.stem)
def test_recipes_resolve_and_survive_the_disk(path: Path, tmp_path: Path) -> None:
    config = configuration.resolve(recipe(path))
    configuration.save(config, tmp_path / "config.json")
    assert configuration.load(tmp_path / "config.json") == config
    assert config.model.vision == config.vision


def test_a_misspelt_field_names_the_nearest() -> None:
    values = recipe()
    values["xattn"]["alfa_init"] = 0.1
    message = "Unknown config field xattn.alfa_init: did you mean xattn.alpha_init"
    with pytest.raises(UserError, match=message):
        configuration.resolve(values)


def test_a_missing_field_is_named() -> None:
    values = recipe()
    del values["loop"]["steps"]
    with pytest.raises(UserError, match=r"loop\.steps is missing"):
        configuration.resolve(values)


@pytest.mark.parametrize(
    ("section", "field", "value", "message"),
    [
        ("loop", "steps", "many", "loop.steps must be of type int, not 'many'"),
        ("loop", "steps", True, "loop.steps must be of type int, not True"),
        ("optimizer", "b1", None, "optimizer.b1 must be of type float, not None"),
        ("vision", "widths", [1, "x"], r"vision.widths\[1\] must be of type int"),
        ("vision", "widths", 64, r"vision.widths must be of type tuple\[int, ...\], not 64"),
        ("vision", "stem", "24", r"vision.stem must be of type tuple\[int, ...\], not '24'"),
    ],
)
def test_a_wrong_type_is_named(section: str, field: str, value: Any, message: str) -> None:
    values = recipe()
    values[section][field] = value
    with pytest.raises(UserError, match=message):
        configuration.resolve(values)


@pytest.mark.parametrize(
    ("vision", "kind"),
    [
        ({"widths": (8,), "image_size": 32}, VisionConfig),
        ({}, VisionConfig),
        ({"patch_size": 8, "image_size": 32}, ViTConfig),
    ],
)
def test_the_fields_of_a_union_tell_which_is_meant(vision: dict[str, Any], kind: type) -> None:
    assert fields.build(Either, {"vision": vision}) == Either(kind(**vision))


@pytest.mark.parametrize(
    ("name", "nearest"),
    [
        ("vision.patch_sise", "vision.patch_size"),
        ("vision.depth", "vision.depths"),
        ("mixture.datasets[0].lenght", r"mixture.datasets\[0\].length"),
        ("lanugage", "language"),
    ],
)
def test_a_misspelt_flag_names_the_nearest(name: str, nearest: str) -> None:
    with pytest.raises(UserError, match=f"did you mean {nearest}"):
        fields.check_field(name, RunConfig)


@pytest.mark.parametrize("name", ["vision.patch_size", "vision.depths", "xattn.sees", "loop.steps"])
def test_a_right_flag_passes(name: str) -> None:
    fields.check_field(name, RunConfig)


def test_the_model_is_that_of_the_fields() -> None:
    values = {**recipe(), "language": "fine_tuned", "dtype": "bfloat16", "unroll": True}
    values["vision"] = {"patch_size": 8, "image_size": 64}
    config = configuration.resolve(values)
    model = config.model
    assert (model.language, model.dtype, model.unroll) == ("fine_tuned", "bfloat16", True)
    assert model.vision == ViTConfig(64, 8)
    assert (model.decoder, model.resampler, model.xattn) == (
        config.decoder,
        config.resampler,
        config.xattn,
    )


def test_an_unknown_choice_names_those_there_are() -> None:
    values = {**recipe(), "language": "thawed"}
    with pytest.raises(UserError, match="language must be one of 'frozen', 'fine_tuned', 'from"):
        configuration.resolve(values)


def test_a_misspelt_field_of_a_union_names_the_nearest() -> None:
    values = {"vision": {"patch_size": 8, "num_layer": 2}}
    message = r"Unknown config field vision\.num_layer: did you mean vision\.num_layers"
    with pytest.raises(UserError, match=message):
        fields.build(Either, values)


def test_differences_name_fields_and_both_values() -> None:
    before = configuration.resolve(recipe())
    now = dataclasses.replace(before, loop=dataclasses.replace(before.loop, steps=7))
    expected = [f"loop.steps: {before.loop.steps} there, 7 here"]
    assert configuration.differences(before, now) == expected
    assert configuration.differences(before, before) == []


def test_a_foreign_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text("not json")
    with pytest.raises(UserError, match=r"is .* the work directory of a run"):
        configuration.load(tmp_path / "config.json")
