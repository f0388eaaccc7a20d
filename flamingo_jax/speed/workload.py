"""The benchmark's work: a training step from pixels, and greedy generation, timed.

The work is that of the Flamingo implementations it is compared with, on random weights and inputs:
train is one optimizer step with the loss on every token; generate starts from pixels too and runs
the vision encoder, the prompt and every new token, whatever the tokens are.

Axes: B batch, T text tokens, N media, F frames, H and W pixels, P grid positions, C feature
channels, R latents a medium, D width.
"""

import dataclasses
import resource
import statistics
import time
from collections.abc import Callable, Mapping
from typing import Any

import jax
import numpy as np

from flamingo_jax.errors import UserError
from flamingo_jax.fields import build
from flamingo_jax.inference.cache import PromptBatch
from flamingo_jax.inference.generate import GenerationConfig, generate
from flamingo_jax.inference.handle import encode, resample
from flamingo_jax.inference.layers import Weights, unstack
from flamingo_jax.models.decoder import DecoderConfig
from flamingo_jax.models.flamingo import FlamingoConfig
from flamingo_jax.models.layers import Remat
from flamingo_jax.models.nfnet import VisionConfig
from flamingo_jax.models.resampler import ResamplerConfig
from flamingo_jax.models.vit import ViTConfig
from flamingo_jax.models.xattn import CrossAttentionConfig
from flamingo_jax.parallel.memory import give_back
from flamingo_jax.parallel.mesh import MeshConfig
from flamingo_jax.training.optimizer import OptimizerConfig
from flamingo_jax.training.state import variable_shapes

WHAT = ("train", "generate", "evaluation")
"""Work that can be timed; the last takes minutes and is done only where it is asked for."""


@dataclasses.dataclass(frozen=True)
class WorkConfig:
    """How much work is timed.

    Attributes:
      batch: sequences of a training step, and of the larger of the two generations.
      tokens: of a training sequence.
      images: of each sequence, one frame each, at equal distances in the prompt.
      prompt: tokens before the new ones.
      new_tokens: tokens generated, none fewer.
      repeats: timings, after a first call, whose median is told.
    """

    batch: int = 4
    tokens: int = 128
    images: int = 2
    prompt: int = 64
    new_tokens: int = 64
    repeats: int = 5

    def __post_init__(self) -> None:
        for name, value in vars(self).items():
            if value < 1:
                raise UserError(f"work.{name} is {value}: there must be 1 at least.")


@dataclasses.dataclass(frozen=True)
class ScalingConfig:
    """What the cost of a training step is measured against; see `flamingo_jax.speed.scaling`.

    The model is the benchmark's, made small so that all of it takes minutes: some fields here take
    the place of its own, and the resampler has one layer.

    Attributes:
      devices: numbers of them, batches or weights split over all.
      tokens: lengths of a sequence.
      images: numbers of them in a sequence.
      layers: numbers of them in the language model.
      remat: policies, see `FlamingoConfig`.
      width: of the language model, whose feed-forwards are four times as wide.
      vocab_size: of the language model.
      image_size: pixels along each side.
      batch: sequences of a step.
      repeats: timings, after a first step, of which the shortest is told.
    """

    devices: tuple[int, ...] = (1, 2, 4, 8)
    tokens: tuple[int, ...] = (64, 128, 256)
    images: tuple[int, ...] = (1, 2, 4)
    layers: tuple[int, ...] = (4, 8, 16)
    remat: tuple[Remat, ...] = ("none", "dots", "full")
    width: int = 128
    vocab_size: int = 2048
    image_size: int = 64
    batch: int = 8
    repeats: int = 3


@dataclasses.dataclass(frozen=True)
class BenchmarkConfig:
    """A model and the work to time on it; fields as in `RunConfig` and `FlamingoConfig`."""

    seed: int
    dtype: str
    vision: VisionConfig | ViTConfig
    decoder: DecoderConfig
    resampler: ResamplerConfig
    xattn: CrossAttentionConfig
    optimizer: OptimizerConfig
    unroll: bool = False
    remat: Remat = "none"
    mesh: MeshConfig = dataclasses.field(default_factory=MeshConfig)
    work: WorkConfig = dataclasses.field(default_factory=WorkConfig)
    scaling: ScalingConfig = dataclasses.field(default_factory=ScalingConfig)

    @property
    def model(self) -> FlamingoConfig:
        """The model that these fields describe."""
        return FlamingoConfig(
            self.decoder,
            self.resampler,
            self.xattn,
            self.vision,
            dtype=self.dtype,
            unroll=self.unroll,
            remat=self.remat,
        )


def kind(values: Mapping[str, Any]) -> type:
    """BenchmarkConfig, or RunConfig where fields have a mixture of data sets."""
    if "mixture" not in values:
        return BenchmarkConfig
    # Here, since it brings 90 MB of data and evaluation, which would count as the benchmark's.
    from flamingo_jax.config import RunConfig

    return RunConfig


def read(values: Mapping[str, Any]) -> BenchmarkConfig:
    """From the fields of a BenchmarkConfig, or of a training run, whose model is taken.

    Raises:
      UserError: a field is unknown (the nearest one is named), missing, or of another type.
    """
    if kind(values) is BenchmarkConfig:
        return build(BenchmarkConfig, values)
    from flamingo_jax.config import resolve

    run = resolve(values)
    fields = {field.name for field in dataclasses.fields(BenchmarkConfig)}
    return BenchmarkConfig(**{name: value for name, value in vars(run).items() if name in fields})


def measure(config: BenchmarkConfig, what: tuple[str, ...] = WHAT[:2]) -> dict[str, Any]:
    """Times what is asked for; see the fields' names for units.

    Compile time is that of the training step, and what generation's first calls took beyond a
    median one, with no program kept on disk.

    Raises:
      UserError: `what` names other work.
    """
    for name in what:
        if name not in WHAT:
            raise UserError(f"--what takes {', '.join(WHAT)}, or scaling alone, not {name!r}.")
    jax.config.update("jax_enable_compilation_cache", False)
    found: dict[str, Any] = {"peer": "flamingo_jax"}
    compile_s = 0.0
    if "train" in what:
        from flamingo_jax.speed.training import training_step

        step = training_step(config)
        found["train_step_s"] = round(_timed(step, config.work.repeats)[0], 4)
        compile_s += step.compile_s
        del step  # with its weights
        give_back()
    if "generate" in what:
        found["generate_tokens_per_s"] = {}
        weights = random_weights(config)
        for batch in sorted({1, config.work.batch}):
            seconds, first_s = _timed(generation(config, weights, batch), config.work.repeats)
            rate = batch * config.work.new_tokens / seconds
            found["generate_tokens_per_s"][str(batch)] = round(rate, 2)
            compile_s += first_s - seconds
    if "evaluation" in what:
        from flamingo_jax.speed.suite import measure_evaluation

        found["evaluation_queries_per_s"] = measure_evaluation(config)
    return {
        **found,
        "compile_s": round(max(compile_s, 0.0), 1),
        "peak_rss_gb": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20, 3),
        **count(config),
        "common": describe(config),
    }


def count(config: BenchmarkConfig) -> dict[str, int]:
    """Numbers of parameters: `params_total` and `params_trainable`."""
    shapes = variable_shapes(config.model)

    def size(tree: Any) -> int:
        return sum(leaf.size for leaf in jax.tree.leaves(tree))

    return {"params_total": size(shapes), "params_trainable": size(shapes["params"])}


def describe(config: BenchmarkConfig) -> dict[str, Any]:
    """The configuration in the words that the compared implementations print."""
    decoder, vision, resampler, xattn = (
        config.decoder,
        config.vision,
        config.resampler,
        config.xattn,
    )
    tower = {"image": vision.image_size}
    if isinstance(vision, ViTConfig):
        tower = {
            "vit_width": vision.width,
            "vit_layers": vision.num_layers,
            "vit_heads": vision.num_heads,
            "patch": vision.patch_size,
            **tower,
        }
    work = dataclasses.asdict(config.work)
    del work["repeats"]
    return {
        "lm_width": decoder.width,
        "lm_layers": decoder.num_layers,
        "lm_heads": decoder.num_heads,
        "vocab": decoder.vocab_size,
        "ff_multiplier": xattn.mlp_multiplier,
        "xattn_every": xattn.every,
        **tower,
        "resampler_layers": resampler.num_layers,
        "latents": resampler.num_latents,
        "xattn_heads": xattn.num_heads,
        "xattn_head_dim": xattn.head_dim,
        **work,
    }


def random_weights(config: BenchmarkConfig) -> Weights:
    """Those that generation runs on; what drawing them took is given back."""
    variables = random_variables(config)
    weights = unstack(config.model, variables["params"], variables["frozen"])
    jax.block_until_ready(weights)
    del variables
    give_back()
    return weights


def generation(
    config: BenchmarkConfig, weights: Weights, batch: int
) -> Callable[[], list[list[int]]]:
    """A call that encodes the images and continues `batch` prompts greedily, to the last token."""
    work = config.work
    tokens_BxT, index_BxT, images_MxHxWx3 = random_inputs(config, batch, work.prompt)
    length_B = np.full((batch,), work.prompt, np.int32)
    options = GenerationConfig(max_new_tokens=work.new_tokens)
    never = (config.decoder.vocab_size,)

    def once() -> list[list[int]]:
        features = encode(config.model, weights.vision, images_MxHxWx3)
        latents_MxRxD = resample(config.model, weights.resampler, features[:, None])
        media = latents_MxRxD.reshape(batch, work.images, *latents_MxRxD.shape[1:])
        prompt = PromptBatch(tokens_BxT, length_B, index_BxT, media)
        return generate(config.model, weights, prompt, options, never)

    return once


def _timed(call: Callable[[], Any], repeats: int) -> tuple[float, float]:
    """(median seconds, seconds of the first call, which compiles)."""
    seconds = []
    for _ in range(1 + repeats):
        began = time.perf_counter()
        call()
        seconds.append(time.perf_counter() - began)
    return statistics.median(seconds[1:]), seconds[0]


def random_variables(config: BenchmarkConfig) -> Any:
    """Random collections `params` and `frozen`, drawn by NumPy: JAX would compile a program."""
    draw, deviation = np.random.default_rng(config.seed), np.float32(0.02)
    return jax.tree.map(
        lambda leaf: (deviation * draw.standard_normal(leaf.shape, np.float32)).astype(leaf.dtype),
        variable_shapes(config.model),
    )


def random_inputs(
    config: BenchmarkConfig, batch: int, length: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Random (tokens_BxT, media_index_BxT, images_MxHxWx3), M = B * N."""
    draw, images = np.random.default_rng(config.seed), config.work.images
    tokens = draw.integers(0, config.decoder.vocab_size, (batch, length), dtype=np.int32)
    apart = max(config.work.prompt // images, 1)
    index = np.minimum(np.arange(length) // apart + 1, images).astype(np.int32)
    side = config.vision.image_size
    shape = (batch * images, side, side, 3)
    pixels = draw.integers(0, 256, shape, dtype=np.uint8)
    return tokens, np.broadcast_to(index, (batch, length)), pixels
