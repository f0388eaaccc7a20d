"""The `config.json` of a Hugging Face folder, read with its published defaults and checked."""

from collections.abc import Collection
from pathlib import Path
from typing import Any

from flamingo_jax.checkpoints.safetensors_files import strict_json
from flamingo_jax.errors import UserError


class Settings:
    """The values of a JSON file, or of an object within it, by name.

    Every getter takes the default that stands for a key that is missing; None makes it required.
    A value of another kind raises UserError with the file, the key and what it must be.
    """

    def __init__(self, where: Path, values: dict[str, Any], within: str = "") -> None:
        """Wraps what is read already.

        Args:
          where: the file, for messages.
          values: by name.
          within: what messages put before a key, such as `vision_config.`.
        """
        self.where = where
        self._values = values
        self._within = within

    @classmethod
    def read(cls, path: Path) -> "Settings":
        """Reads a file; raises UserError if it is missing or damaged."""
        try:
            return cls(path, strict_json(path, path.read_bytes()))
        except OSError as error:
            raise UserError(f"{path} cannot be read: {error.strerror or error}.") from error

    def part(self, key: str) -> "Settings":
        """The object under a key; empty if it is missing or null."""
        values = self._values.get(key)
        if values is not None and not isinstance(values, dict):
            raise self.wrong(key, "an object")
        return Settings(self.where, values or {}, f"{self._within}{key}.")

    def has(self, key: str) -> bool:
        """Whether the key is there and not null."""
        return self._values.get(key) is not None

    def integer(self, key: str, default: int | None = None, least: int = 1) -> int:
        """An integer of at least `least`."""
        value = self._get(key, default)
        if type(value) is not int or value < least:
            raise self.wrong(key, f"an integer of at least {least}")
        return value

    def number(self, key: str, default: float | None = None) -> float:
        """A positive number."""
        value = self._get(key, default)
        if isinstance(value, bool) or not isinstance(value, int | float) or not value > 0:
            raise self.wrong(key, "a positive number")
        return float(value)

    def numbers(self, key: str, default: tuple[float, ...]) -> tuple[float, ...]:
        """As many positive numbers as the default has."""
        value = self._get(key, default)
        match value:
            case [*found] if len(found) == len(default) and all(
                type(number) in (int, float) and number > 0 for number in found
            ):
                return tuple(map(float, found))
        raise self.wrong(key, f"{len(default)} positive numbers")

    def flag(self, key: str, default: bool | None = None) -> bool:
        """True or false."""
        value = self._get(key, default)
        if not isinstance(value, bool):
            raise self.wrong(key, "true or false")
        return value

    def text(self, key: str, default: str | None = None) -> str:
        """A string."""
        value = self._get(key, default)
        if not isinstance(value, str):
            raise self.wrong(key, "a string")
        return value

    def choice(self, key: str, allowed: Collection[str], default: str | None = None) -> str:
        """One of some words; any other is an option that is not supported."""
        value = self._get(key, default)
        if not isinstance(value, str) or value not in allowed:
            raise self.wrong(key, " or ".join(map(repr, allowed)))
        return value

    def wrong(self, key: str, needed: str) -> UserError:
        """The error for a value that cannot be used."""
        value = repr(self._values.get(key))[:100]
        return UserError(
            f"{self.where} has {self._within}{key} = {value}: only {needed} can be read."
        )

    def _get(self, key: str, default: Any) -> Any:
        value = self._values.get(key)
        if value is not None:
            return value
        if default is None:
            raise UserError(f"{self.where} has no {self._within}{key!r}, which is needed.")
        return default
