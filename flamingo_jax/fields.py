"""Dataclasses from plain nested data such as a ConfigDict, with mistakes told by field."""

import dataclasses
import difflib
import types
import typing
from collections.abc import Mapping
from typing import Any

import ml_collections
from ml_collections import config_dict

from flamingo_jax.errors import UserError


def build(kind: Any, values: Any, where: str = "") -> Any:
    """Plain nested data to the dataclass `kind`; `where` goes before the names in messages.

    Raises:
      UserError: a field is unknown (the nearest one is named), missing, or of another type.
    """
    if isinstance(values, ml_collections.ConfigDict):
        values = values.to_dict()
    if not isinstance(values, Mapping):
        raise UserError(f"Config field {where.rstrip('.')!r} holds fields, not {values!r}.")
    fields = {field.name: field for field in dataclasses.fields(kind)}
    hints = typing.get_type_hints(kind)
    for name in values:
        _known(str(name), list(fields), where)
    for name, field in fields.items():
        required = (
            field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING
        )
        if required and name not in values:
            raise UserError(f"Config field {where}{name} is missing: add it to the config.")
    return kind(**{name: _convert(hints[name], values[name], where + name) for name in values})


def complete(kind: Any, values: ml_collections.ConfigDict) -> None:
    """Adds the fields of the dataclass `kind` that are left at their defaults, at every depth.

    A flag can only set what is there. None says nothing of a field's type, and is replaced by a
    placeholder that does.
    """
    hints = typing.get_type_hints(kind)
    with values.unlocked(), values.ignore_type():
        for field in dataclasses.fields(kind):
            if field.name in values:
                given = values[field.name]
            elif field.default_factory is not dataclasses.MISSING:
                given = field.default_factory()
            else:
                given = field.default
            if given is dataclasses.MISSING:
                continue
            settable = _settable(hints[field.name], given)
            if field.name not in values or settable is not given:
                values[field.name] = settable


def check_field(name: str, kind: Any) -> None:
    """Looks for a field of a dataclass, such as `xattn.first` or `mixture.datasets[0].length`.

    Raises:
      UserError: there is none of that name; the nearest one is named.
    """
    hint, where = kind, ""
    for piece in name.split("."):
        part = piece.split("[")[0]
        hints: dict[str, Any] = {}
        for part_of in _dataclasses(hint):
            hints.update(typing.get_type_hints(part_of))
        if not hints:
            return  # entries of a dict have free names
        _known(part, list(hints), where)
        hint, where = hints[part], f"{where}{piece}."


def _settable(hint: Any, value: Any) -> Any:
    """A field's value with all fields in it, and of the type that a flag may set it to."""
    if value is None:
        return _placeholder(hint)
    if hint is float and type(value) is int:
        return float(value)
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        value = dataclasses.asdict(value)
    if isinstance(value, Mapping) and not isinstance(value, ml_collections.ConfigDict):
        value = ml_collections.ConfigDict(value)
    kinds = _dataclasses(hint)
    if kinds and isinstance(value, ml_collections.ConfigDict):
        complete(_chosen(tuple(kinds), dict(value)), value)
    elif kinds and isinstance(value, list | tuple):
        return tuple(_settable(typing.get_args(hint)[0], entry) for entry in value)
    return value


def _placeholder(hint: Any) -> Any:
    """None, as a value of a field that can be of one other plain type; of others just None."""
    kinds = [kind for kind in typing.get_args(hint) if kind is not type(None)]
    if len(kinds) != 1:
        return None
    origin = typing.get_origin(kinds[0]) or kinds[0]
    plain = type(typing.get_args(kinds[0])[0]) if origin is typing.Literal else origin
    return config_dict.placeholder(plain) if plain in (bool, int, float, str, tuple) else None


def _dataclasses(hint: Any) -> list[Any]:
    """The dataclasses that a field of this type may hold, alone or in a tuple."""
    if dataclasses.is_dataclass(hint):
        return [hint]
    if typing.get_origin(hint) in (types.UnionType, typing.Union, tuple):
        return [kind for kind in typing.get_args(hint) if dataclasses.is_dataclass(kind)]
    return []


def _known(name: str, fields: list[str], where: str) -> None:
    if name not in fields:
        longer = [field for field in fields if field.startswith(name)]
        nearest = (longer or difflib.get_close_matches(name, fields, 1, 0.0))[0]
        raise UserError(f"Unknown config field {where}{name}: did you mean {where}{nearest}?")


def _convert(hint: Any, value: Any, where: str) -> Any:
    if dataclasses.is_dataclass(hint):
        return build(hint, value, f"{where}.")
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin in (types.UnionType, typing.Union):
        if value is None and type(None) in arguments:
            return None
        return _convert(_chosen(arguments, value), value, where)
    if origin is tuple and isinstance(value, list | tuple):
        hints = [arguments[0]] * len(value) if arguments[-1] is ... else list(arguments)
        if len(hints) == len(value):
            pairs = enumerate(zip(hints, value, strict=True))
            return tuple(_convert(h, v, f"{where}[{i}]") for i, (h, v) in pairs)
    elif origin is dict:
        if isinstance(value, Mapping):
            return {str(k): _convert(arguments[1], v, f"{where}.{k}") for k, v in value.items()}
    elif origin is typing.Literal:
        if value in arguments:
            return value
        known = ", ".join(map(repr, arguments))
        raise UserError(f"Config field {where} must be one of {known}, not {value!r}.")
    elif hint is float and isinstance(value, int | float) and not isinstance(value, bool):
        return float(value)
    elif (
        origin is None and isinstance(value, hint) and (hint is bool or not isinstance(value, bool))
    ):
        return value
    name = getattr(hint, "__name__", str(hint)) if origin is None else str(hint)
    raise UserError(f"Config field {where} must be of type {name}, not {value!r}.")


def _chosen(kinds: tuple[Any, ...], value: Any) -> Any:
    """Of a union, the dataclass that has most of the value's fields; the first of equals."""

    def shared(kind: Any) -> int:
        if not dataclasses.is_dataclass(kind) or not isinstance(value, Mapping):
            return 0
        return len({field.name for field in dataclasses.fields(kind)} & set(value))

    return max((kind for kind in kinds if kind is not type(None)), key=shared)
