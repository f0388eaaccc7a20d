"""The flag --config: a recipe, of which the command line can set every field."""

import pkgutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import ml_collections
from absl import flags
from ml_collections import config_flags
from ml_collections.config_flags.config_flags import ConfigFileFlagParser

from flamingo_jax import fields
from flamingo_jax.errors import UserError


def define(kind: str, help_string: str, default: str | None = None) -> flags.FlagHolder:
    """Defines `--config=FILE[:NAME]` and `--config.FIELD=VALUE` for all fields of a dataclass.

    Args:
      kind: `MODULE:NAME` of the dataclass, or of a function that gives it from the recipe's fields;
        imported when a recipe is read.
      help_string: of the flag.
      default: the file if the command line names none; `with_default` puts it there.
    """
    holder = config_flags.DEFINE_config_file("config", help_string=help_string)
    flags.FLAGS["config"].parser = Parser(kind, default)
    return holder


class Parser(ConfigFileFlagParser):
    """Reads a recipe, and adds the fields that it leaves at their defaults.

    Attributes:
      kind: of the recipe that was read last, or of one with no fields.
      default: the file that is meant if none is named.
    """

    def __init__(self, kind: str, default: str | None) -> None:
        super().__init__("config")
        self._name, self.default = kind, default
        self._fields: Any = {}

    @property
    def kind(self) -> type:
        found = pkgutil.resolve_name(self._name)
        return found if isinstance(found, type) else found(self._fields)

    def parse(self, path: str) -> Any:
        file = path.split(":", 1)[0]  # what follows is for the file itself
        if not Path(file).is_file():
            raise UserError(f"There is no config file {file}.")
        found = super().parse(path)
        if isinstance(found, ml_collections.ConfigDict):
            self._fields = found
            fields.complete(self.kind, found)
        return found


def with_default(line: Sequence[str]) -> list[str]:
    """A command line with the recipe in it that is meant where it names none."""
    named = any(each.lstrip("-").split("=")[0] == "config" for each in line[1:])
    parser = flags.FLAGS["config"].parser if "config" in flags.FLAGS else None
    if named or not isinstance(parser, Parser) or parser.default is None:
        return list(line)
    return [line[0], f"--config={parser.default}", *line[1:]]


def mistake(line: Sequence[str], error: Exception) -> str:
    """What to say of an error that a recipe raised, or ml_collections about a field."""
    parser: Any = flags.FLAGS["config"].parser
    for name, *_ in (each.lstrip("-").split("=") for each in line[1:]):
        if name.startswith("config."):
            try:
                fields.check_field(name.removeprefix("config."), parser.kind)
            except UserError as told:
                return str(told)
    reason = (str(error).splitlines() or [""])[0]
    return f"--config cannot be used ({type(error).__name__}: {reason})."
