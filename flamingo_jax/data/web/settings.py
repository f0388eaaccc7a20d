"""How pages become documents, from what is written on a command line."""

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from flamingo_jax.data.hashes import read_hashes
from flamingo_jax.data.web.limits import Limits
from flamingo_jax.data.web.texts import BlockList, check_languages
from flamingo_jax.errors import UserError


@dataclasses.dataclass(frozen=True)
class Settings:
    """How pages become documents.

    Attributes:
      limits: of pages and images.
      languages: ISO 639-1 codes of the ones kept; all if empty.
      blocked: what pages must not have.
      excluded: uint64 [N], perceptual hashes of images of evaluation sets.
    """

    limits: Limits = dataclasses.field(default_factory=Limits)
    languages: tuple[str, ...] = ()
    blocked: BlockList | None = None
    excluded: np.ndarray | None = None


@dataclasses.dataclass(frozen=True)
class Recipe:
    """What to extract, and how; a file in configs/data.

    Attributes:
      input: names of archives, folders and pages, with `*`, `**`, `?` and `[...]`.
      package: of Debian, which is downloaded if `folder` is not there; None for none.
      folder: where the package is unpacked.
      languages: ISO 639-1 codes of the ones kept; all if empty.
      limits: those that differ from the usual.
    """

    input: tuple[str, ...] = ()
    package: str | None = None
    folder: str = ""
    languages: tuple[str, ...] = ()
    limits: Mapping[str, float] = dataclasses.field(default_factory=dict)


def read_recipe(values: Mapping[str, Any]) -> Recipe:
    """A recipe of a config's fields.

    Raises:
      UserError: a field is unknown.
    """
    known = [field.name for field in dataclasses.fields(Recipe)]
    for name in values:
        if name not in known:
            raise UserError(f"--config: there is no field {name!r}, only {', '.join(known)}.")
    return Recipe(**values)


def read(
    limits: Sequence[str] = (),
    languages: Sequence[str] = (),
    block_list: str | None = None,
    exclude_images: str | None = None,
    recipe: Recipe | None = None,
) -> Settings:
    """Settings from options, which go before a recipe's.

    Args:
      limits: `NAME=VALUE` for fields of `Limits`.
      languages: codes.
      block_list: path of a block list.
      exclude_images: path of perceptual hashes.
      recipe: what is not asked for.

    Raises:
      UserError: a limit is unknown or no number, a language is not identified, or a file cannot be
        read.
    """
    recipe = recipe or Recipe()
    languages = languages or recipe.languages
    check_languages(languages)
    return Settings(
        _limits([*(f"{name}={value}" for name, value in recipe.limits.items()), *limits]),
        tuple(languages),
        BlockList.read(Path(block_list)) if block_list else None,
        read_hashes(Path(exclude_images)) if exclude_images else None,
    )


def _limits(given: Sequence[str]) -> Limits:
    kinds = {field.name: type(field.default) for field in dataclasses.fields(Limits)}
    values = {}
    for each in given:
        name, _, value = each.partition("=")
        if name not in kinds:
            raise UserError(f"--limits: there is no {name!r}, only {', '.join(kinds)}.")
        try:
            values[name] = kinds[name](value)
        except ValueError as error:
            raise UserError(f"--limits: {name} takes a number, not {value!r}.") from error
        if values[name] < 0:
            raise UserError(f"--limits: {name} is {value}, but cannot be negative.")
    return Limits(**values)
