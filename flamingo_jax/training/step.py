"""One optimizer step: the gradient of each data set's loss, weighted, summed, applied.

Flamingo (arXiv:2204.14198), §2.4: gradients are accumulated over the data sets of the mixture
before each update, which the ablation found better than one data set a step, in turn.
"""

import dataclasses
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from flamingo_jax.models.flamingo import FlamingoModel
from flamingo_jax.parallel.layout import Layout
from flamingo_jax.parallel.memory import give_back, make_room
from flamingo_jax.training.frozen import stacked
from flamingo_jax.training.inputs import Inputs
from flamingo_jax.training.state import TrainState

Array = jax.Array


@dataclasses.dataclass(frozen=True)
class Step:
    """step(state, frozen, inputs by data set) -> (state, metrics); the state is donated.

    Metrics are scalars: `loss`, `loss/NAME`, `grad_norm`, `skipped` and `bad_steps`. The state and
    the frozen weights must lie on the mesh already (`layout.place`); those may be `by_layer`. There
    is one program for each group of data sets that is given: shapes may not change, nor where
    arrays lie.

    Attributes:
      jitted: the function.
      on_cpu: whether it runs in memory of this process.
      programs: compiled, by the names of the data sets.
      blocks: bytes of intermediate values of each, on a CPU.
    """

    jitted: Any
    on_cpu: bool
    programs: dict[frozenset[str], Any] = dataclasses.field(default_factory=dict)
    blocks: dict[frozenset[str], int] = dataclasses.field(default_factory=dict)

    def __call__(
        self, state: TrainState, frozen: Any, inputs: dict[str, Inputs]
    ) -> tuple[TrainState, dict[str, Array]]:
        """Takes a step; the first with these data sets compiles it.

        Raises:
          TypeError: a shape or type is another than when it was compiled.
        """
        names = frozenset(inputs)
        program = self.programs.get(names) or self.compile(state, frozen, inputs)
        if self.on_cpu:
            jax.block_until_ready(state)
            make_room(self.blocks[names])
        return program(state, frozen, inputs)

    def compile(self, state: Any, frozen: Any, inputs: dict[str, Inputs]) -> Any:
        """The program for these data sets, given arrays or their shapes; kept for the calls."""
        program = self.jitted.lower(state, frozen, inputs).compile()
        give_back()
        self.programs[frozenset(inputs)] = program
        if self.on_cpu:
            self.blocks[frozenset(inputs)] = program.memory_analysis().temp_size_in_bytes
        return program


def encoded(model: FlamingoModel, frozen: Any, inputs: dict[str, Inputs]) -> dict[str, Inputs]:
    """Inputs with features in place of images; all data sets' images are encoded together."""
    pixels = {
        name: jnp.asarray(entry.images_BxNxFxHxWx3)
        for name, entry in inputs.items()
        if entry.images_BxNxFxHxWx3 is not None
    }
    if not pixels:
        return inputs
    flat = [images.reshape(-1, *images.shape[-3:]) for images in pixels.values()]
    images_MxHxWx3 = jnp.concatenate(flat)
    features_MxPxC: Any = model.apply({"frozen": frozen}, images_MxHxWx3, method="encode")
    ends = np.cumsum([len(images) for images in flat])
    done = dict(inputs)
    for (name, images), part in zip(
        pixels.items(), jnp.split(features_MxPxC, ends[:-1]), strict=True
    ):
        features = part.reshape(*images.shape[:3], *part.shape[1:])
        done[name] = dataclasses.replace(
            inputs[name], features_BxNxFxPxC=features, images_BxNxFxHxWx3=None
        )
    return done


def dataset_loss(model: FlamingoModel, params: Any, frozen: Any, inputs: Inputs) -> Array:
    """Mean negative log-likelihood of one data set's scored tokens."""
    loss = model.apply(
        {"params": params, "frozen": frozen},
        inputs.tokens_BxT,
        inputs.features_BxNxFxPxC,
        inputs.media_index_BxT,
        inputs.at_BxA,
        inputs.targets_BxA,
        inputs.weights_BxA,
        method="loss",
    )
    assert isinstance(loss, jax.Array)
    return loss


def make_step(
    model: FlamingoModel,
    optimizer: optax.GradientTransformation,
    weights: Mapping[str, float],
    layout: Layout,
) -> Step:
    """The step. One whose loss or gradient is not finite changes neither parameters nor optimizer.

    Args:
      model: its `params` are trained; `frozen` is an argument of the step, never a constant.
      optimizer: from `make_optimizer`.
      weights: λ of each data set; a step takes those whose inputs it is given.
      layout: how batches, parameters and what is frozen lie on the mesh.
    """

    def step(
        state: TrainState, frozen: Any, inputs: dict[str, Inputs]
    ) -> tuple[TrainState, dict[str, Array]]:
        given = {name: weight for name, weight in weights.items() if name in inputs}
        frozen = stacked(frozen)
        with layout.active():
            inputs = encoded(model, frozen, inputs)
            total = jax.tree.map(jnp.zeros_like, state.params)
            metrics: dict[str, Array] = {"loss": jnp.zeros(())}
            for name, weight in given.items():
                loss, grads = jax.value_and_grad(
                    lambda params, name=name: dataset_loss(model, params, frozen, inputs[name])
                )(state.params)
                total = jax.tree.map(lambda t, g, w=weight: t + w * g, total, grads)
                metrics["loss"] += weight * loss
                metrics[f"loss/{name}"] = loss
        state, told = update(state, optimizer, layout.constrain(total), metrics["loss"])
        return layout.constrain(state), {**metrics, **told}

    jitted = jax.jit(
        step,
        in_shardings=(None, None, layout.batch),
        donate_argnums=(0,),
        compiler_options=_options(model, layout),
    )
    return Step(jitted, on_cpu=layout.on_cpu)


def _options(model: FlamingoModel, layout: Layout) -> dict[str, str]:
    """XLA's, where they are not its defaults.

    On a CPU it orders operations so that the most can run at a time, which takes half as much
    memory again: not what `full` is for.
    """
    if model.config.remat != "full" or not layout.on_cpu:
        return {}
    return {"xla_cpu_scheduler_type": "CPU_SCHEDULER_TYPE_MEMORY_OPTIMIZED"}


def update(
    state: TrainState, optimizer: optax.GradientTransformation, grads: Any, loss: Array
) -> tuple[TrainState, dict[str, Array]]:
    """The state after a gradient, unchanged but for its counts if that is not finite; metrics."""
    norm, optimizer = optax.global_norm(grads), optax.with_extra_args_support(optimizer)
    finite = jnp.isfinite(loss) & jnp.isfinite(norm)

    def take() -> tuple[Any, Any]:
        updates, opt_state = optimizer.update(grads, state.opt_state, state.params, norm=norm)
        return optax.apply_updates(state.params, updates), opt_state

    # With `where` in its place XLA copies Adam's moments, to read the old ones after the new ones.
    params, opt_state = jax.lax.cond(finite, take, lambda: (state.params, state.opt_state))
    skipped = state.skipped + ~finite
    bad_steps = jnp.where(finite, 0, state.bad_steps + 1)
    told = {"grad_norm": norm, "skipped": skipped, "bad_steps": bad_steps}
    return TrainState(state.step + 1, params, opt_state, skipped, bad_steps), told
