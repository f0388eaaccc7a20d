"""Numbers of a config that cannot be used, alone or together, found before anything is made.

`check_config` is for any run, `check_drawable` for one on the OpenMoji drawings. What only the
drawings themselves can tell is checked when they are there: `vision_training.batch` by
`training.pairs`, the lengths of the mixture and of the evaluation's prompts by `check_sizes`.
"""

import dataclasses
from collections.abc import Iterator, Sequence

from flamingo_jax.config import RunConfig
from flamingo_jax.data.drawings import Drawing
from flamingo_jax.data.mixture import make_iterator, open_sources
from flamingo_jax.data.openmoji.builder import SIZE
from flamingo_jax.data.tokenizer import Tokenizer
from flamingo_jax.errors import UserError
from flamingo_jax.evaluation.limits import check_limits
from flamingo_jax.models.axes import NAMES
from flamingo_jax.models.decoder import DecoderConfig
from flamingo_jax.models.nfnet import VisionConfig
from flamingo_jax.models.vit import ViTConfig
from flamingo_jax.parallel.mesh import check_rules

Rules = Iterator[tuple[bool, str]]
"""Whether all is well, and what to say if not."""


def check_config(config: RunConfig, devices: int) -> None:
    """Looks for numbers that cannot be used.

    Args:
      config: of the run.
      devices: how many JAX sees.

    Raises:
      UserError: the message names the field and what to change.
    """
    check_rules(config.mesh.rules, NAMES)
    rules = (_intervals, _mesh, _vision, _bridge, _mixture)
    for rule in rules:
        _hold(rule(config))
    if config.mesh.devices > devices:
        raise UserError(
            f"The mesh {config.mesh} has {config.mesh.devices} devices but JAX sees {devices}: "
            "lower mesh.data, mesh.fsdp or mesh.tensor."
        )


def check_drawable(config: RunConfig) -> None:
    """Looks for what a run on the drawings cannot have, before they are made.

    Raises:
      UserError: the message names the field and what to change.
    """
    open_sources(config.mixture)
    _hold(_drawable(config))


def check_sizes(config: RunConfig, drawings: Sequence[Drawing], tokenizer: Tokenizer) -> None:
    """Makes one batch of the mixture, and all prompts of the evaluation, and throws them away.

    Raises:
      UserError: a data set's sequences, or the evaluation's prompts, do not fit.
    """
    all_at_once = dataclasses.replace(config.mixture, schedule="accumulate")
    size = config.vision.image_size
    next(make_iterator(all_at_once, drawings, tokenizer, config.seed, image_size=size))
    check_limits(config.evaluation, drawings, tokenizer, "test")


def check_decoder(asked: DecoderConfig, found: DecoderConfig, name: str) -> None:
    """Compares the config's decoder with the one in a file.

    Raises:
      UserError: they differ; the message says where.
    """
    pairs = [(field, getattr(asked, field), getattr(found, field)) for field in vars(found)]
    wrong = [f"{field} is {ours}, not {theirs}" for field, theirs, ours in pairs if theirs != ours]
    if wrong:
        raise UserError(f"The config's decoder is not that of {name}, where {'; '.join(wrong)}.")


def _hold(rules: Rules) -> None:
    for good, message in rules:
        if not good:
            raise UserError(message)


def _intervals(config: RunConfig) -> Rules:
    yield config.dtype in ("float32", "bfloat16"), "dtype must be float32 or bfloat16."
    for where, holder in (("", config), ("vision_training.", config.vision_training)):
        yield holder.seed >= 0, f"{where}seed must be 0 or more, not {holder.seed}."
    for where, stage in (("vision_training", config.vision_training), ("loop", config.loop)):
        for field in ("steps", "log_every", "save_every"):
            value = getattr(stage, field)
            yield value >= 1, f"{where}.{field} must be at least 1, not {value}."
    for field in ("max_bad_steps", "stall_minutes"):
        value = getattr(config.loop, field)
        yield value > 0, f"loop.{field} must be more than 0, not {value}."


def _mesh(config: RunConfig) -> Rules:
    for axis, size in config.mesh.shape.items():
        yield size >= 1, f"mesh.{axis} must be at least 1, not {size}."
    sizes = {
        f"mixture.datasets[{i}].batch_size": dataset.batch_size
        for i, dataset in enumerate(config.mixture.datasets)
    }
    ways = config.mesh.ways("batch")
    for where, size in {**sizes, "vision_training.batch": config.vision_training.batch}.items():
        yield (
            size % ways == 0,
            f"{where} is {size}, which cannot be split into {ways} parts over "
            f"{' and '.join(config.mesh.split('batch'))} of the mesh {config.mesh}: make it a "
            "multiple.",
        )


def _vision(config: RunConfig) -> Rules:
    training = config.vision_training
    yield from (
        _vit(config.vision) if isinstance(config.vision, ViTConfig) else _nfnet(config.vision)
    )
    yield training.batch >= 2, f"vision_training.batch must be at least 2, not {training.batch}."
    yield (
        training.warmup_steps < training.steps,
        f"vision_training.warmup_steps is {training.warmup_steps} of {training.steps} steps: "
        "lower it, or raise vision_training.steps.",
    )


def _drawable(config: RunConfig) -> Rules:
    size = config.vision.image_size
    yield (
        size == SIZE,
        f"vision.image_size is {size}, but the drawings have {SIZE} pixels: set it to {SIZE}.",
    )
    yield (
        isinstance(config.vision, VisionConfig),
        "vision is a ViT, but an NFNet is what is pretrained on the drawings: give one's fields.",
    )


def _nfnet(vision: VisionConfig) -> Rules:
    for name, others in (("stem", ("stem_strides",)), ("widths", ("depths", "strides"))):
        for other in others:
            lengths = [len(getattr(vision, field)) for field in (name, other)]
            yield (
                lengths[0] == lengths[1],
                f"vision.{name} has {lengths[0]} entries and vision.{other} {lengths[1]}: "
                "give as many.",
            )


def _vit(vision: ViTConfig) -> Rules:
    side, patch, width, heads = (
        vision.image_size,
        vision.patch_size,
        vision.width,
        vision.num_heads,
    )
    yield (
        side % patch == 0,
        f"vision.image_size is {side}, which patches of {patch} pixels do not fill: make it a "
        "multiple of vision.patch_size.",
    )
    yield (
        width % heads == 0,
        f"vision.width is {width}, which {heads} heads cannot share: make it a multiple of "
        "vision.num_heads.",
    )


def _bridge(config: RunConfig) -> Rules:
    first, every, layers = config.xattn.first, config.xattn.every, config.decoder.num_layers
    yield (
        0 <= first < layers,
        f"xattn.first is {first}, but the decoder's layers are 0 to {layers - 1}: "
        "there would be no cross-attention.",
    )
    yield 1 <= every <= layers, f"xattn.every must be from 1 to {layers} layers, not {every}."
    vision, width = config.vision, config.resampler.width
    channels = vision.width if isinstance(vision, ViTConfig) else vision.features
    yield (
        config.resampler.project or channels == width,
        f"resampler.width is {width} and the vision encoder's features have {channels} channels: "
        "set resampler.project.",
    )


def _mixture(config: RunConfig) -> Rules:
    names = [dataset.name for dataset in config.mixture.datasets]
    workers = config.mixture.workers
    yield workers >= 0, f"mixture.workers must be 0 or more, not {workers}."
    most_bad = config.mixture.max_bad_fraction
    yield 0 <= most_bad <= 1, f"mixture.max_bad_fraction must be from 0 to 1, not {most_bad}."
    yield bool(names), "mixture.datasets is empty: name at least one."
    yield len(set(names)) == len(names), f"mixture.datasets has a name twice: {', '.join(names)}."
    for i, dataset in enumerate(config.mixture.datasets):
        where = f"mixture.datasets[{i}]"
        for field in ("batch_size", "length", "media", "max_answer_tokens", "frames"):
            value = getattr(dataset, field)
            yield value >= 1, f"{where}.{field} must be at least 1, not {value}."
        most = config.resampler.max_frames  # 0 where frames are not told apart
        yield (
            dataset.frames <= max(most, 1),
            f"{where}.frames is {dataset.frames}, but resampler.max_frames is {most}: raise that.",
        )
        yield (
            dataset.media >= 2 or "same_different" not in dataset.families,
            f"{where}.media is {dataset.media}, but same_different shows two images a turn: "
            "raise media.",
        )
        yield (
            dataset.held_out == 0 or dataset.held_out >= 2,
            f"{where}.held_out must be 0, or from 2, not {dataset.held_out}.",
        )
        yield dataset.weight >= 0, f"{where}.weight must be 0 or more, not {dataset.weight}."
        yield 0 <= dataset.p_next <= 1, f"{where}.p_next must be from 0 to 1, not {dataset.p_next}."
        shares = dataset.families.values()
        yield (
            not shares or (min(shares) >= 0 and sum(shares) > 0),
            f"{where}.families must have shares of 0 or more, one of them above 0.",
        )
