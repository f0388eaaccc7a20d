"""AdamW over the trained parameters by groups, after clipping the global norm.

Flamingo (arXiv:2204.14198), appendix B.1.2: AdamW, global norm clipped to 1, no weight decay on the
resampler and 0.1 on all else that is trained, linear warm-up, then constant.
"""

import dataclasses
from collections.abc import Hashable
from typing import Any

import jax
import jax.numpy as jnp
import optax


@dataclasses.dataclass(frozen=True)
class OptimizerConfig:
    """Rates, decay and clipping.

    Attributes:
      learning_rate: peak rate of all but the gates.
      gate_learning_rate: peak rate of `alpha_xattn` and `alpha_dense`.
      warmup_steps: steps of linear warm-up from 0.
      decay_steps: final steps over which the rate falls linearly to 0; 0 keeps it constant.
      weight_decay: decay of matrices outside the resampler.
      clip_norm: bound on the global norm of the gradient.
      b1: Adam's decay of the first moment.
      b2: Adam's decay of the second moment.
    """

    learning_rate: float = 1e-4
    gate_learning_rate: float = 1e-4
    warmup_steps: int = 5000
    decay_steps: int = 0
    weight_decay: float = 0.1
    clip_norm: float = 1.0
    b1: float = 0.9
    b2: float = 0.999


def label(path: tuple[Any, ...]) -> str:
    """The group of the parameter at a tree path.

    Returns:
      `gates`, `resampler`, `xattn` (with the projection of the media, and all layers of a graft),
      or `language`: the language model's own, where they are trained.
    """
    names = [str(getattr(key, "key", key)) for key in path]
    if names[-1].startswith("alpha_"):
        return "gates"
    if names[0] == "resampler":
        return "resampler"
    return "xattn" if {"xattn", "media", "grafts"} & set(names) else "language"


def labels(params: Any) -> Any:
    """A tree like `params` holding each leaf's group."""
    return jax.tree_util.tree_map_with_path(lambda path, _: label(path), params)


def schedule(peak: float, config: OptimizerConfig, steps: int) -> optax.Schedule:
    """Linear warm-up, constant, and a linear fall to 0 over the last `decay_steps`."""
    warmup = optax.linear_schedule(0.0, peak, config.warmup_steps)
    decay = optax.linear_schedule(peak, 0.0, max(config.decay_steps, 1))
    parts, boundaries = [warmup, optax.constant_schedule(peak)], [config.warmup_steps]
    if config.decay_steps:
        parts, boundaries = [*parts, decay], [*boundaries, steps - config.decay_steps]
    return optax.join_schedules(parts, boundaries)


def make_optimizer(config: OptimizerConfig, steps: int) -> optax.GradientTransformationExtraArgs:
    """The optimizer of a run of `steps` steps; `update` takes the gradient's global `norm`, too."""

    def adamw(rate: float, decay: float) -> optax.GradientTransformation:
        # Norm scales and biases are vectors; decay is for matrices (stacked ones have more axes).
        return optax.adamw(
            schedule(rate, config, steps), config.b1, config.b2, weight_decay=decay, mask=_matrices
        )

    groups: dict[Hashable, optax.GradientTransformation] = {
        "xattn": adamw(config.learning_rate, config.weight_decay),
        "resampler": adamw(config.learning_rate, 0.0),
        "gates": adamw(config.gate_learning_rate, 0.0),
        "language": adamw(config.learning_rate, config.weight_decay),
    }

    def clip(updates: Any, state: Any, params: Any = None, **extra: Any) -> tuple[Any, Any]:
        del params
        return clipped(updates, config.clip_norm, extra.get("norm")), state

    first = optax.GradientTransformationExtraArgs(optax.identity().init, clip)
    return optax.with_extra_args_support(optax.chain(first, optax.multi_transform(groups, labels)))


def clipped(grads: Any, bound: float, norm: jax.Array | None = None) -> Any:
    """Gradients scaled down to a global norm of at most `bound`; theirs is `norm`, if it is known.

    By one multiply: optax divides, which XLA does for all gradients at once and keeps.
    """
    scale = jnp.minimum(1.0, bound / (optax.global_norm(grads) if norm is None else norm))
    return jax.tree.map(lambda grad: grad * scale.astype(grad.dtype), grads)


def _matrices(params: Any) -> Any:
    def is_matrix(path: tuple[Any, ...], leaf: Any) -> bool:
        del leaf
        return str(getattr(path[-1], "key", path[-1])) == "kernel"

    return jax.tree_util.tree_map_with_path(is_matrix, params)
