"""A run's configuration: every room's dataclass, made from plain data and back.

A file in `configs/` returns an ml_collections ConfigDict whose fields are those of `RunConfig`.
"""

import dataclasses
import difflib
import json
import types
import typing
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import ml_collections

from flamingo_jax.checkpoints.files import write_json
from flamingo_jax.data.datasets import MixtureConfig
from flamingo_jax.errors import UserError
from flamingo_jax.evaluation.run import EvaluationConfig
from flamingo_jax.models.decoder import DecoderConfig
from flamingo_jax.models.flamingo import FlamingoConfig, Language, Remat
from flamingo_jax.models.nfnet import VisionConfig
from flamingo_jax.models.resampler import ResamplerConfig
from flamingo_jax.models.vit import ViTConfig
from flamingo_jax.models.xattn import CrossAttentionConfig
from flamingo_jax.parallel.mesh import MeshConfig
from flamingo_jax.training.contrastive import VisionTrainingConfig
from flamingo_jax.training.loop import LoopConfig
from flamingo_jax.training.optimizer import OptimizerConfig

HOW = (
    "mesh.",
    "mixture.workers:",
    "remat:",
    "unroll:",
    "loop.save_every:",
    "loop.stall_minutes:",
)
"""How the differences begin with which a run can go on: where and how it is computed, not what."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class RunConfig:
    """All that decides a run.

    Attributes:
      seed: of initial values and data alike.
      dtype: compute type of the model, `float32` or `bfloat16`. What is frozen is held in it, what
        is trained is float32.
      vision: the vision encoder; the fields tell whether an NFNet or a ViT.
      vision_training: its contrastive pretraining.
      decoder: the language model.
      language: whether it is `frozen`, `fine_tuned` with the rest, or trained `from_scratch`.
      resampler: the Perceiver Resampler.
      xattn: the gated cross-attention layers.
      remat: what is computed anew in the backward pass, see `FlamingoConfig`.
      unroll: whether layers are compiled one by one, not as a loop, see `FlamingoConfig`.
      features: visual features are `kept`, computed once for each image that a run on the drawings
        has; or `in_step`, where images are too many to be kept.
      mixture: the data sets, their batch sizes and weights.
      optimizer: AdamW over the new parameters.
      loop: steps and intervals.
      mesh: devices, and what is split over them.
      evaluation: few-shot benchmarks.
    """

    seed: int
    dtype: str
    vision: VisionConfig | ViTConfig
    vision_training: VisionTrainingConfig
    decoder: DecoderConfig
    language: Language = "frozen"
    resampler: ResamplerConfig
    xattn: CrossAttentionConfig
    remat: Remat = "none"
    unroll: bool = False
    features: Literal["kept", "in_step"] = "kept"
    mixture: MixtureConfig
    optimizer: OptimizerConfig
    loop: LoopConfig
    mesh: MeshConfig
    evaluation: EvaluationConfig

    @property
    def model(self) -> FlamingoConfig:
        """The model that these fields describe."""
        return FlamingoConfig(
            decoder=self.decoder,
            resampler=self.resampler,
            xattn=self.xattn,
            vision=self.vision,
            language=self.language,
            dtype=self.dtype,
            remat=self.remat,
            unroll=self.unroll,
        )


def resolve(values: Mapping[str, Any]) -> RunConfig:
    """Plain nested data, a ConfigDict for instance, to a RunConfig.

    Raises:
      UserError: a field is unknown (the nearest one is named), missing, or of another type.
    """
    return build(RunConfig, values)


def save(config: RunConfig, path: Path) -> None:
    """Writes the whole config as JSON, whole or not at all."""
    write_json(path, dataclasses.asdict(config))


def load(path: Path) -> RunConfig:
    """Reads what `save` wrote.

    Raises:
      UserError: no such file, or not a config of this version.
    """
    try:
        return resolve(read_json(path))
    except UserError as error:
        raise UserError(f"{path}: {error}") from error


def read_json(path: Path) -> dict[str, Any]:
    """The fields of a file that holds some.

    Raises:
      UserError: no such file, or not JSON.
    """
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise UserError(
            f"{path} cannot be read ({error}): is {path.parent} the work directory of a run?"
        ) from error
    if not isinstance(values, dict):
        raise UserError(f"{path} cannot be read: it holds no fields.")
    return values


def check_field(name: str, kind: Any = RunConfig) -> None:
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


def differences(before: RunConfig, now: RunConfig) -> list[str]:
    """Fields that differ, each as `name: BEFORE there, NOW here`."""
    old, new = _flat(dataclasses.asdict(before)), _flat(dataclasses.asdict(now))
    names = sorted(old.keys() | new.keys())
    return [
        f"{name}: {old.get(name)} there, {new.get(name)} here"
        for name in names
        if old.get(name) != new.get(name)
    ]


def conflicts(before: RunConfig, now: RunConfig) -> list[str]:
    """Those `differences` that make another run of it: what is computed, not where and how."""
    return [told for told in differences(before, now) if not told.startswith(HOW)]


def build(kind: Any, values: Any, where: str = "") -> Any:
    """Plain nested data to the dataclass `kind`; `where` goes before the names in messages.

    Raises:
      UserError: as `resolve`.
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


def _flat(values: Any, where: str = "") -> dict[str, Any]:
    if isinstance(values, Mapping):
        items = values.items()
    elif isinstance(values, list | tuple):
        items = enumerate(values)
    else:
        return {where: values}
    flat: dict[str, Any] = {}
    for key, value in items:
        flat.update(_flat(value, f"{where}.{key}" if where else str(key)))
    return flat
