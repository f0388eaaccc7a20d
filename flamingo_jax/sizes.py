"""Parameters, bytes and FLOPs of a model's parts, worked out from shapes: no array is made.

Axes: B batch, 1 here, T text tokens, N media, F frames, P grid positions, C feature channels, R
latents a medium, D width, M images, H and W pixels.
"""

import dataclasses
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp

from flamingo_jax import config as configuration
from flamingo_jax.checks import check_config
from flamingo_jax.models.flamingo import FlamingoConfig, LanguageModel, Seen, causal_context
from flamingo_jax.models.nfnet import VisionEncoder
from flamingo_jax.models.resampler import PerceiverResampler
from flamingo_jax.models.vit import ViTConfig, ViTEncoder
from flamingo_jax.parallel.flops import count_flops
from flamingo_jax.speed import workload
from flamingo_jax.training.optimizer import labels


@dataclasses.dataclass(frozen=True)
class Sequence:
    """What goes forward through the model: text `tokens`, and `images` of so many `frames`."""

    tokens: int
    images: int
    frames: int


@dataclasses.dataclass(frozen=True)
class Component:
    """A part of the model.

    Attributes:
      name: `vision_encoder`, `resampler`, `language_model` or `gated_xattn`.
      trainable: whether a training step changes it.
      params: numbers in it.
      bytes: of these, float32 where they are trained, else of the model's compute type.
      forward_flops: of the sequence's matrix products and convolutions.
    """

    name: str
    trainable: bool
    params: int
    bytes: int
    forward_flops: int


def read(values: Mapping[str, Any]) -> tuple[FlamingoConfig, Sequence]:
    """A recipe's model, and a sequence of the first data set of its mixture.

    Args:
      values: fields of a RunConfig, or of a BenchmarkConfig.

    Raises:
      UserError: a field is unknown, missing, of another type, or cannot be used.
    """
    if "mixture" not in values:
        benchmark = workload.read(values)
        return benchmark.model, Sequence(benchmark.work.tokens, benchmark.work.images, 1)
    config = configuration.resolve(values)
    check_config(config, config.mesh.devices)
    first = config.mixture.datasets[0]
    return config.model, Sequence(first.length, first.media, first.frames)


def components(model: FlamingoConfig, sequence: Sequence) -> list[Component]:
    """The four parts of a model; what a sequence takes is counted for one at a time."""
    dtype, side = jnp.dtype(model.dtype), model.vision.image_size
    key = jax.eval_shape(lambda: jax.random.key(0))
    images_MxHxWx3 = jax.ShapeDtypeStruct(
        (sequence.images * sequence.frames, side, side, 3), jnp.uint8
    )
    encoder: Any = ViTEncoder if isinstance(model.vision, ViTConfig) else VisionEncoder
    # No initial value takes a product, so that the pass that makes the variables counts as forward.
    vision_flops, (features, vision) = _traced(
        encoder(model.vision, dtype).init_with_output, key, images_MxHxWx3
    )
    features_BxNxFxPxC = jax.ShapeDtypeStruct(
        (1, sequence.images, sequence.frames, *features.shape[1:]), features.dtype
    )
    resampler_flops, (media_BxNxRxD, resampler) = _traced(
        PerceiverResampler(model.resampler, dtype).init_with_output, key, features_BxNxFxPxC
    )
    text, bridge, (text_flops, bridge_flops) = _language(model, sequence.tokens, media_BxNxRxD)
    trained = model.language != "frozen"
    return [
        _component("vision_encoder", False, vision, vision_flops, dtype),
        _component("resampler", True, resampler, resampler_flops, dtype),
        _component("language_model", trained, text, text_flops, dtype),
        _component("gated_xattn", True, bridge, bridge_flops, dtype),
    ]


def as_json(parts: list[Component], sequence: Sequence) -> dict[str, Any]:
    """The components, their parameters in all, and the sequence, as plain data."""
    return {
        "components": [dataclasses.asdict(part) for part in parts],
        "total_params": sum(part.params for part in parts),
        "sequence": dataclasses.asdict(sequence),
    }


def as_table(parts: list[Component], sequence: Sequence) -> str:
    """The same for people."""
    kinds = ["trainable" if part.trainable else "frozen" for part in parts]
    sums = [sum(getattr(part, field) for part in parts) for field in ("params", "bytes")]
    flops = [part.forward_flops for part in parts]
    rows = [
        ("component", "", "parameters", "GB", "forward TFLOPs"),
        *(
            (part.name, kind, f"{part.params:,}", *_scaled(part.bytes, part.forward_flops))
            for part, kind in zip(parts, kinds, strict=True)
        ),
        ("total", "", f"{sums[0]:,}", *_scaled(sums[1], sum(flops))),
    ]
    lines = [f"{a:<16}{b:<11}{c:>18}{d:>10}{e:>16}" for a, b, c, d, e in rows]
    told = f"{sequence.tokens} tokens, {sequence.images} images of {sequence.frames} frame(s)"
    return "\n".join([*lines, f"FLOPs are those of one sequence of {told}."])


def _language(
    model: FlamingoConfig, tokens: int, media_BxNxRxD: Any
) -> tuple[list[Any], list[Any], tuple[int, int]]:
    """Variables, as shapes, and FLOPs of the language model itself and of what is put into it."""
    language = LanguageModel(model)
    tokens_BxT = jax.ShapeDtypeStruct((1, tokens), jnp.int32)
    mask_BxTxN = jax.ShapeDtypeStruct((1, tokens, media_BxNxRxD.shape[1]), jnp.bool_)

    def seen(media: Any, mask: Any) -> Seen:
        return Seen(media, mask, causal_context(1, tokens))

    def init(key: Any, text: Any, media: Any, mask: Any) -> Any:
        return language.init(key, text, seen(media, mask))

    def forward(variables: Any, text: Any, media: Any = None, mask: Any = None) -> Any:
        return language.apply(variables, text, seen(media, mask))

    key = jax.eval_shape(lambda: jax.random.key(0))
    variables = jax.eval_shape(init, key, tokens_BxT, media_BxNxRxD, mask_BxTxN)
    alone, _ = _traced(forward, variables, tokens_BxT)
    together, _ = _traced(forward, variables, tokens_BxT, media_BxNxRxD, mask_BxTxN)
    trained = variables["params"]
    groups = zip(jax.tree.leaves(labels(trained)), jax.tree.leaves(trained), strict=True)
    text, bridge = jax.tree.leaves(variables.get("frozen", {})), []
    for group, leaf in groups:
        (text if group == "language" else bridge).append(leaf)
    return text, bridge, (alone, together - alone)


def _traced(function: Any, *arguments: Any) -> tuple[int, Any]:
    """FLOPs and shapes of what a function of abstract arguments returns."""
    program, shapes = jax.make_jaxpr(function, return_shape=True)(*arguments)
    return count_flops(program), shapes


def _component(name: str, trainable: bool, tree: Any, flops: int, dtype: jnp.dtype) -> Component:
    params = sum(leaf.size for leaf in jax.tree.leaves(tree))
    size = 4 if trainable else dtype.itemsize
    return Component(name, trainable, params, params * size, flops)


def _scaled(size: int, flops: int) -> tuple[str, str]:
    return f"{size / 1e9:.3f}", f"{flops / 1e12:.4f}"
