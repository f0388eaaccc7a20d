"""What a Hugging Face `config.json` says, read so that no option is passed over in silence."""

import json
from pathlib import Path
from typing import Any

from flamingo_jax.checkpoints.safetensors_files import strict_json
from flamingo_jax.errors import UserError


class Options:
    """The options of one model; every complaint names the file and the option."""

    def __init__(self, values: dict[str, Any], where: Path, prefix: str = "") -> None:
        """Wraps what is read already.

        Args:
          values: by name.
          where: the file, for messages.
          prefix: of the names, for messages.
        """
        self.values = values
        self.where = where
        self.prefix = prefix

    @classmethod
    def read(cls, path: Path) -> "Options":
        """Reads a file of JSON.

        Raises:
          UserError: it is missing or damaged.
        """
        try:
            return cls(strict_json(path, path.read_bytes()), path)
        except OSError as error:
            raise UserError(f"{path} cannot be read: {error.strerror or error}.") from error

    def part(self, name: str) -> "Options":
        """The options nested under a name; none where it is absent or null."""
        values = self.values.get(name)
        if values is not None and not isinstance(values, dict):
            raise self.wrong(name, values, "an object")
        return Options(values or {}, self.where, f"{self.prefix}{name}.")

    def number(self, name: str, default: float | None = None) -> float:
        """A number above zero; with no default it must be there."""
        value = self._get(name, default)
        if isinstance(value, bool) or not isinstance(value, int | float) or not value > 0:
            raise self.wrong(name, value, "a number above 0")
        return value

    def count(self, name: str, default: int | None = None) -> int:
        """A whole number above zero; with no default it must be there."""
        value = self._get(name, default)
        if type(value) is not int or value < 1:
            raise self.wrong(name, value, "a whole number above 0")
        return value

    def flag(self, name: str, default: bool) -> bool:
        """True or false."""
        value = self._get(name, default)
        if not isinstance(value, bool):
            raise self.wrong(name, value, "true or false")
        return value

    def token(self, name: str, default: int | None = None) -> int | None:
        """The id of a token; None where null is written."""
        value = self.values.get(name, default)
        if value is not None and (type(value) is not int or value < 0):
            raise self.wrong(name, value, "the id of a token")
        return value

    def only(self, name: str, *supported: Any, default: Any = None) -> Any:
        """A value that must be one of those that are supported.

        Raises:
          UserError: it is another one.
        """
        value = self.values.get(name, default)
        if value not in supported:
            choice = " or ".join(map(json.dumps, supported))
            raise self.wrong(name, value, choice)
        return value

    def wrong(self, name: str, value: Any, supported: str) -> UserError:
        """The error of an option that cannot be used."""
        return UserError(
            f"{self.where}: {self.prefix}{name} is {json.dumps(value)}, but only {supported} is "
            "supported."
        )

    def _get(self, name: str, default: Any) -> Any:
        value = self.values.get(name)
        value = default if value is None else value
        if value is None:
            raise UserError(f"{self.where} does not say {self.prefix}{name}: is it whole?")
        return value
