"""The benchmark's training step: compiled ahead of its weights, then taken again and again."""

import dataclasses
import time
from typing import Any

import jax
import numpy as np

from flamingo_jax.models.axes import parameter_axes
from flamingo_jax.models.flamingo import FlamingoModel
from flamingo_jax.parallel.layout import make_layout
from flamingo_jax.parallel.memory import give_back
from flamingo_jax.speed.workload import BenchmarkConfig, random_inputs, random_variables
from flamingo_jax.training.frozen import by_layer
from flamingo_jax.training.inputs import Inputs
from flamingo_jax.training.optimizer import make_optimizer
from flamingo_jax.training.state import TrainState, variable_shapes
from flamingo_jax.training.step import Step, make_step


@dataclasses.dataclass
class TrainingStep:
    """A compiled step and what it is given; calling it takes one step and waits for its end.

    Attributes:
      step: compiled.
      state: after the last step.
      frozen: the collection.
      inputs: the same sequences in every step.
      compile_s: seconds of tracing and compiling.
    """

    step: Step
    state: TrainState
    frozen: Any
    inputs: dict[str, Inputs]
    compile_s: float

    def __call__(self) -> dict[str, Any]:
        """The step's metrics."""
        self.state, metrics = self.step(self.state, self.frozen, self.inputs)
        jax.block_until_ready((self.state, metrics))
        return metrics


def training_step(config: BenchmarkConfig) -> TrainingStep:
    """A step from pixels on random weights, the loss on every next token."""
    layout = make_layout(config.mesh, parameter_axes)
    optimizer = make_optimizer(config.optimizer, 10_000)
    step = make_step(FlamingoModel(config.model), optimizer, {"all": 1.0}, layout)
    variables = variable_shapes(config.model)
    state = jax.eval_shape(lambda p: TrainState.create(p, optimizer), variables["params"])
    shapes = by_layer(layout.abstract(variables["frozen"]), config.model, layout)
    inputs = jax.device_put({"all": _inputs(config)}, layout.batch)
    began = time.perf_counter()
    step.compile(layout.abstract(state), shapes, inputs)
    compile_s = time.perf_counter() - began
    drawn = layout.place(random_variables(config))
    state = layout.place(TrainState.create(drawn["params"], optimizer))
    frozen = by_layer(drawn["frozen"], config.model, layout)
    del drawn
    give_back()
    return TrainingStep(step, state, frozen, inputs, compile_s)


def _inputs(config: BenchmarkConfig) -> Inputs:
    """Sequences with their images."""
    work = config.work
    tokens_BxT, index_BxT, images_MxHxWx3 = random_inputs(config, work.batch, work.tokens)
    shape = (work.batch, work.images, 1, *images_MxHxWx3.shape[1:])
    at_BxA = np.tile(np.arange(work.tokens - 1, dtype=np.int32), (work.batch, 1))
    return Inputs(
        tokens_BxT=tokens_BxT,
        media_index_BxT=index_BxT,
        images_BxNxFxHxWx3=images_MxHxWx3.reshape(shape),
        at_BxA=at_BxA,
        targets_BxA=tokens_BxT[:, 1:],
        weights_BxA=np.ones(at_BxA.shape, np.float32),
    )
