"""One optimizer step: the gradient of each data set's loss, weighted, summed, applied.

Flamingo (arXiv:2204.14198), §2.4: gradients are accumulated over the data sets of the mixture
before each update, which the ablation found better than one data set a step, in turn.
"""

from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import optax
from flax import struct
from jax.sharding import Mesh

from flamingo_jax.models.flamingo import FlamingoModel
from flamingo_jax.parallel.mesh import replicated, split_batch
from flamingo_jax.training.loss import Inputs, answer_loss

Array = jax.Array


@struct.dataclass
class TrainState:
    """What a step changes: its number, the trained parameters and the optimizer's state."""

    step: Array
    params: Any
    opt_state: Any


Step = Callable[[TrainState, Any, dict[str, Inputs]], tuple[TrainState, dict[str, Array]]]


def dataset_loss(model: FlamingoModel, params: Any, frozen: Any, inputs: Inputs) -> Array:
    """Mean negative log-likelihood of one data set's scored tokens."""
    logits = model.apply(
        {"params": params, "frozen": frozen},
        inputs.tokens_BxT,
        inputs.features_BxNxFxPxC,
        inputs.media_index_BxT,
        inputs.at_BxA,
    )
    assert isinstance(logits, jax.Array)
    return answer_loss(logits, jnp.asarray(inputs.targets_BxA), jnp.asarray(inputs.weights_BxA))


def make_step(
    model: FlamingoModel,
    optimizer: optax.GradientTransformation,
    weights: Mapping[str, float],
    mesh: Mesh,
) -> Step:
    """The jitted step.

    Args:
      model: its `params` are trained; `frozen` is an argument of the step, never a constant.
      optimizer: from `make_optimizer`.
      weights: λ of each data set; a step takes those whose inputs it is given.
      mesh: batches are split over its `data` axis, all else is replicated.

    Returns:
      step(state, frozen, inputs by data set) -> (state, metrics); the state is donated. Metrics
      are float32 scalars: `loss`, `loss/NAME` and `grad_norm`. The state and the frozen weights
      must lie on the mesh already (`replicated`), and shapes may not change: the step raises
      AssertionError rather than compile twice for the same data sets.
    """
    traced: set[frozenset[str]] = set()

    def step(
        state: TrainState, frozen: Any, inputs: dict[str, Inputs]
    ) -> tuple[TrainState, dict[str, Array]]:
        given = {name: weight for name, weight in weights.items() if name in inputs}
        assert frozenset(given) not in traced, f"The step of {[*given]} is traced again: why?"
        traced.add(frozenset(given))
        total = jax.tree.map(jnp.zeros_like, state.params)
        metrics: dict[str, Array] = {"loss": jnp.zeros(())}
        for name, weight in given.items():
            loss, grads = jax.value_and_grad(
                lambda params, name=name: dataset_loss(model, params, frozen, inputs[name])
            )(state.params)
            total = jax.tree.map(lambda t, g, w=weight: t + w * g, total, grads)
            metrics["loss"] += weight * loss
            metrics[f"loss/{name}"] = loss
        metrics["grad_norm"] = optax.global_norm(total)
        updates, opt_state = optimizer.update(total, state.opt_state, state.params)
        params = optax.apply_updates(state.params, updates)
        return TrainState(step=state.step + 1, params=params, opt_state=opt_state), metrics

    whole, split = replicated(mesh), split_batch(mesh)
    return jax.jit(
        step,
        in_shardings=(whole, whole, split),
        out_shardings=(whole, whole),
        donate_argnums=(0,),
    )
