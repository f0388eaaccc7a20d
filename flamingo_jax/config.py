"""A run's configuration: every room's dataclass, made from plain data and back.

A file in `configs/` returns an ml_collections ConfigDict whose fields are those of `RunConfig`.
"""

import dataclasses
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

from flamingo_jax.checkpoints.files import write_json
from flamingo_jax.data.datasets import MixtureConfig
from flamingo_jax.errors import UserError
from flamingo_jax.evaluation.run import EvaluationConfig
from flamingo_jax.fields import build
from flamingo_jax.models.decoder import DecoderConfig
from flamingo_jax.models.flamingo import FlamingoConfig, Language
from flamingo_jax.models.layers import Remat
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
