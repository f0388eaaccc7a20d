"""The programs that answer prompts, prefill and a step of decoding, on a slice."""

import dataclasses
import math
from typing import Any, Literal

import jax
import jax.numpy as jnp
from jax.sharding import NamedSharding, PartitionSpec

from flamingo_jax.config import RunConfig
from flamingo_jax.errors import UserError
from flamingo_jax.inference.cache import PromptBatch, decode_step, prefill
from flamingo_jax.inference.layers import unstack
from flamingo_jax.models.axes import parameter_axes
from flamingo_jax.parallel.flops import count_flops
from flamingo_jax.parallel.layout import Layout, make_layout
from flamingo_jax.parallel.mesh import MeshConfig
from flamingo_jax.planning.compiler import Program, compile_program
from flamingo_jax.planning.hardware import Topology, devices
from flamingo_jax.planning.plan import Plan, judged
from flamingo_jax.planning.program import Work
from flamingo_jax.planning.traffic import count_traffic
from flamingo_jax.training.state import in_compute_type, variable_shapes

Stage = Literal["prefill", "decode"]


@dataclasses.dataclass(frozen=True)
class Load:
    """Prompts that are answered at once.

    Attributes:
      batch: prompts.
      tokens: of each prompt.
      images: of each prompt.
      new_tokens: slots kept for its answer.
    """

    batch: int
    tokens: int
    images: int
    new_tokens: int


def plan_serving(name: str, config: RunConfig, topology: Topology, load: Load) -> list[Plan]:
    """Plans of `prefill` and `decode`; the latter's step is one token of all prompts.

    Weights are split over as many chips as the language model's heads allow, the prompts over what
    is left.

    Raises:
      UserError: there is no such slice, or the prompts cannot be split.
    """
    tensor = math.gcd(config.decoder.num_heads, config.decoder.num_kv_heads, topology.chips)
    mesh = dataclasses.replace(
        config.mesh, slice=1, data=topology.chips // tensor, fsdp=1, tensor=tensor
    )
    if load.batch % mesh.data:
        raise UserError(
            f"{load.batch} prompts cannot be split over {mesh.data} copies of the weights, which "
            f"{topology} holds: choose a --batch that is a multiple of {mesh.data}."
        )
    config = dataclasses.replace(config, mesh=mesh, remat="none")
    stages: tuple[Stage, ...] = ("prefill", "decode")
    plans = []
    for stage in stages:
        compiled = compile_program(serving_program, config, topology, load, stage)
        sizes = {"prompts": load.batch}
        plans.append(judged(name, stage, config, topology, mesh, sizes, compiled))
    return plans


def serving_program(config: RunConfig, topology: Topology, load: Load, stage: Stage) -> Program:
    """One of the two programs; tells its `Work`.

    Raises:
      UserError: there is no such slice, or a weight cannot be split as the rules say.
    """
    layout = make_layout(config.mesh, parameter_axes, devices(topology))
    model = config.model
    variables = variable_shapes(model)
    variables = {name: in_compute_type(tree, config.dtype) for name, tree in variables.items()}
    weights = jax.eval_shape(
        lambda kept: unstack(model, kept["params"], kept.get("frozen", {})), variables
    )
    weights = layout.abstract(dataclasses.replace(weights, vision={}, resampler={}))
    prompt = _prompts(config, load, layout)

    def fill(weights: Any, prompt: PromptBatch) -> Any:
        with layout.active():
            return prefill(model, weights, prompt, load.new_tokens)

    def decode(weights: Any, start: Any, token_B: Any, number: Any) -> Any:
        with layout.active():
            return decode_step(model, weights, start, start.cache.text, token_B, number)

    if stage == "prefill":
        function, arguments = jax.jit(fill), (weights, prompt)
    else:
        start = jax.eval_shape(fill, weights, prompt)
        start = _laid_out(start, config.mesh, layout)
        token = jax.ShapeDtypeStruct((load.batch,), jnp.int32, sharding=layout.batch)
        number = jax.ShapeDtypeStruct((), jnp.int32, sharding=layout.replicated)
        arguments = (weights, start, token, number)
        # A step writes its keys and values in place of those before.
        function = jax.jit(decode, donate_argnums=1)
    traced = function.trace(*arguments).jaxpr
    flags = jax.tree.leaves(
        (jax.tree.map(lambda _: True, weights), jax.tree.map(lambda _: False, arguments[1:]))
    )
    params = sum(leaf.size for leaf in jax.tree.leaves(weights))
    flops = count_flops(traced)
    work = Work(params, flops, flops, count_traffic(traced, flags), 0)
    return Program(function, arguments, work)


def _prompts(config: RunConfig, load: Load, layout: Layout) -> PromptBatch:
    resampler = config.resampler
    media = (load.batch, max(load.images, 1), resampler.num_latents, resampler.width)

    def of(shape: tuple[int, ...], dtype: Any) -> Any:
        return jax.ShapeDtypeStruct(shape, dtype, sharding=layout.batch)

    return PromptBatch(
        tokens_BxT=of((load.batch, load.tokens), jnp.int32),
        length_B=of((load.batch,), jnp.int32),
        media_index_BxT=of((load.batch, load.tokens), jnp.int32),
        media_BxNxRxD=of(media, jnp.dtype(config.dtype)),
    )


def _laid_out(start: Any, mesh: MeshConfig, layout: Layout) -> Any:
    """A prefilled batch; keys and values, [B, S, heads, C], are split by heads, too."""

    def of(leaf: Any) -> Any:
        axes: tuple[Any, ...] = (mesh.split("batch") or None,)
        if leaf.ndim == 4:
            axes = (*axes, None, mesh.split("kv_heads") or None)
        place = NamedSharding(layout.mesh, PartitionSpec(*axes))
        return jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=place)

    return jax.tree.map(of, start)
