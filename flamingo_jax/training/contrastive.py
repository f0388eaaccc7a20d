"""The vision stage: contrastive pretraining from scratch, measured, standardised, then frozen.

Flamingo (arXiv:2204.14198), §3.1.1 and appendix B.1.3, with the adaptive gradient clipping of NFNet
(arXiv:2102.06171, §4.1) on the vision encoder.
"""

import contextlib
import dataclasses
import functools
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import struct

from flamingo_jax.checkpoints.files import write_json
from flamingo_jax.checkpoints.store import StepStore, load_tree, save_tree
from flamingo_jax.data.drawings import Drawing
from flamingo_jax.data.tokenizer import Tokenizer
from flamingo_jax.errors import Interrupted, UserError
from flamingo_jax.models.axes import path_names
from flamingo_jax.models.contrastive import ContrastiveConfig, ContrastiveModel, contrastive_loss
from flamingo_jax.models.nfnet import VisionConfig, VisionEncoder
from flamingo_jax.parallel.layout import Layout
from flamingo_jax.parallel.processes import ended_by_a_loss, lead_first
from flamingo_jax.training.augment import AugmentConfig, augment
from flamingo_jax.training.journal import Journal, progress
from flamingo_jax.training.pairs import Pairs, TextTable, one_for_each_base
from flamingo_jax.training.probe import in_batches, measure
from flamingo_jax.training.stopping import stop_signals
from flamingo_jax.training.watch import Watch

Array = jax.Array


@dataclasses.dataclass(frozen=True)
class VisionTrainingConfig:
    """Contrastive pretraining of the vision encoder.

    Attributes:
      steps: optimizer steps.
      batch: pairs a step, all of different base emojis.
      learning_rate: peak rate; after a linear warm-up it falls to 0 along a cosine.
      warmup_steps: length of the warm-up.
      weight_decay: of AdamW, on kernels only.
      clip: largest norm of a unit's gradient over the norm of its weights.
      average: decay of the moving average of the weights, which is what is kept.
      languages: codes of the languages that names are taken in, English always among them.
      other_language: share of names that are not in English.
      with_group: share of texts that begin with the words of category and group.
      towers: joint embedding, dropout, temperature.
      augment: strengths of the random changes of the drawings.
      log_every: steps between two lines of metrics.
      save_every: steps between two checkpoints.
      seed: of initial weights, batches and augmentation.
    """

    steps: int = 800
    batch: int = 128
    learning_rate: float = 2e-3
    warmup_steps: int = 50
    weight_decay: float = 0.05
    clip: float = 0.1
    average: float = 0.98
    languages: tuple[str, ...] = ("en", "es", "fr", "de", "it", "pt")
    other_language: float = 0.4
    with_group: float = 0.3
    towers: ContrastiveConfig = dataclasses.field(default_factory=ContrastiveConfig)
    augment: AugmentConfig = dataclasses.field(default_factory=AugmentConfig)
    log_every: int = 20
    save_every: int = 100
    seed: int = 0


@struct.dataclass
class VisionState:
    """What a step changes; `average` is the moving average of `params`."""

    step: Array
    params: Any
    opt_state: Any
    average: Any


VisionStep = Callable[[VisionState, Any, Any], tuple[VisionState, dict[str, Array]]]


def pretrain(
    config: VisionTrainingConfig,
    vision: VisionConfig,
    drawings: Sequence[Drawing],
    embedding_VxD: np.ndarray,
    tokenizer: Tokenizer,
    folder: Path,
    layout: Layout,
    stall_minutes: float = 10.0,
) -> Any:
    """Trains the encoder, or goes on from the newest checkpoint, or returns what is finished.

    Writes `checkpoints/STEP`, `metrics.jsonl`, `timing.jsonl`, `results.json` (see `measure`) and
    `encoder` to `folder`.

    Args:
      config: how to train.
      vision: the encoder's shape.
      drawings: all splits; trained on `train`, measured on `validation` and `test`.
      embedding_VxD: the frozen language model's token embeddings.
      tokenizer: its tokenizer.
      folder: the stage's folder.
      layout: how batches and parameters lie on the mesh.
      stall_minutes: time without a step before a log line says so.

    Returns:
      `{"params": ...}`, variables of `VisionEncoder` with measured feature statistics.

    Raises:
      Interrupted: SIGINT or SIGTERM came; the state was saved first.
      UserError: too few drawings for a batch, or a checkpoint could not be written.
    """
    finished = folder / "encoder"
    if finished.exists():
        return load_tree(finished)
    texts = TextTable(embedding_VxD, tokenizer)
    pairs = Pairs(
        drawings,
        config.batch,
        config.languages,
        config.other_language,
        config.with_group,
        config.seed,
    )
    model = ContrastiveModel(vision, config.towers)
    optimizer = make_optimizer(config)
    train = np.stack([drawing.image for drawing in one_for_each_base(drawings, "train")])
    state = init_state(model, optimizer, config.seed, train, embedding_VxD.shape[1])
    step_fn = make_step(model, optimizer, config, layout)
    inputs_of = functools.partial(_inputs, pairs, texts, layout, config.batch)
    watch = Watch(stall_minutes)
    state = _run(config, step_fn, layout.place(state), inputs_of, folder, watch)
    average = layout.whole(state.average)
    encoder = freeze(vision, average, train)
    results = measure(model, average, encoder, drawings, texts)
    with lead_first("vision results"):
        write_json(folder / "results.json", results)
    save_tree(finished, encoder)
    return encoder


def make_optimizer(config: VisionTrainingConfig) -> optax.GradientTransformation:
    """Adaptive gradient clipping of the encoder, then AdamW over everything."""

    def kernels(params: Any) -> Any:
        return jax.tree_util.tree_map_with_path(
            lambda path, _: path_names(path)[-1] == "kernel", params
        )

    rate = optax.warmup_cosine_decay_schedule(
        0.0, config.learning_rate, config.warmup_steps, config.steps
    )
    return optax.chain(
        _clip_encoder(config.clip),
        optax.adamw(rate, b2=0.98, weight_decay=config.weight_decay, mask=kernels),
    )


def init_state(
    model: ContrastiveModel,
    optimizer: optax.GradientTransformation,
    seed: int,
    images: np.ndarray,
    width: int,
) -> VisionState:
    """The state before the first step.

    The features start out standardised: without that all images are embedded at nearly the same
    point, since the last activation is mostly positive, and the first hundreds of steps are lost.

    Args:
      model: both towers.
      optimizer: from `make_optimizer`.
      seed: of the initial values.
      images: uint8 [M, H, W, 3] to measure the features on.
      width: D of the texts' vectors.
    """
    texts = jnp.ones((1, width))
    params = jax.jit(model.init)(jax.random.key(seed), images[:1], texts)["params"]
    encoder = freeze(model.vision, params, images)["params"]
    params = {**params, "image": {**params["image"], "encoder": encoder}}
    average = jax.tree.map(jnp.copy, params)
    return VisionState(jnp.zeros((), jnp.int32), params, optimizer.init(params), average)


def make_step(
    model: ContrastiveModel,
    optimizer: optax.GradientTransformation,
    config: VisionTrainingConfig,
    layout: Layout,
) -> VisionStep:
    """The jitted step: (state, images uint8 [B, H, W, 3], texts [B, D]) -> (state, metrics).

    All randomness follows from the seed and the step's number. The state is donated. The loss is
    that of the whole batch, however it is split over devices and hosts.
    """

    def step(
        state: VisionState, images: Array, texts: Array
    ) -> tuple[VisionState, dict[str, Array]]:
        key = jax.random.fold_in(jax.random.key(config.seed + 1), state.step)
        view_key, dropout_key = jax.random.split(key)
        views = augment(view_key, images, config.augment)

        def loss_fn(params: Any) -> tuple[Array, Array]:
            rngs = {"dropout": dropout_key}
            outputs: Any = model.apply({"params": params}, views, texts, True, rngs=rngs)
            image, text, scale = outputs
            found = jnp.argmax(image @ text.T, axis=1) == jnp.arange(image.shape[0])
            return contrastive_loss(image, text, scale), jnp.mean(found)

        with layout.active():
            (loss, accuracy), grads = jax.value_and_grad(loss_fn, has_aux=True)(state.params)
        updates, opt_state = optimizer.update(grads, state.opt_state, state.params)
        params = optax.apply_updates(state.params, updates)
        # At the start the average would mostly be initial values: let it move faster there.
        decay = jnp.minimum(config.average, (1.0 + state.step) / (10.0 + state.step))
        average = optax.incremental_update(params, state.average, 1 - decay)
        metrics = {"loss": loss, "accuracy": accuracy, "grad_norm": optax.global_norm(grads)}
        state = VisionState(state.step + 1, params, opt_state, average)
        return layout.constrain(state), metrics

    return jax.jit(step, in_shardings=(None, layout.batch, layout.batch), donate_argnums=0)


def freeze(vision: VisionConfig, params: Any, images: np.ndarray) -> Any:
    """Variables of `VisionEncoder` whose features of `images` have mean 0 and deviation 1.

    Args:
      vision: the encoder's shape.
      params: of the whole `ContrastiveModel`.
      images: uint8 [M, H, W, 3] to measure each channel on.
    """
    encoder = params["image"]["encoder"]
    features = in_batches(jax.jit(VisionEncoder(vision).apply), {"params": encoder}, images)
    mean_C, std_C = features.mean(axis=(0, 1)), features.std(axis=(0, 1)) + 1e-6
    before_mean_C, before_scale_C = encoder["feature_mean_C"], encoder["feature_scale_C"]
    statistics = {
        "feature_mean_C": before_mean_C + mean_C * before_scale_C,
        "feature_scale_C": before_scale_C * std_C,
    }
    return {"params": {**encoder, **statistics}}


def _clip_encoder(clip: float) -> optax.GradientTransformation:
    """Adaptive gradient clipping of the image encoder, of each of its stacked blocks by itself."""
    clipped = optax.adaptive_grad_clip(clip)

    def of_leaf(path: tuple[Any, ...], update: Array, param: Array) -> Any:
        names = path_names(path)
        if "encoder" not in names:
            return update
        of_block = lambda u, p: clipped.update(u, optax.EmptyState(), p)[0]  # noqa: E731
        return (jax.vmap(of_block) if "rest" in names else of_block)(update, param)

    return optax.stateless(
        lambda updates, params: jax.tree_util.tree_map_with_path(of_leaf, updates, params)
    )


def _inputs(
    pairs: Pairs, texts: TextTable, layout: Layout, batch: int, step: int
) -> tuple[Array, Array]:
    """Images and texts of a step, of which this process makes its rows."""
    images, words = pairs(step, layout.rows(batch))
    return layout.from_rows(images, batch), layout.from_rows(texts(words), batch)


def check_finite(step: int, values: Mapping[str, float]) -> None:
    """Looks whether a step's loss and gradient were finite: one that is not spoils the encoder.

    Raises:
      UserError: they were not.
    """
    if not np.isfinite([values["loss"], values["grad_norm"]]).all():
        raise UserError(
            f"The loss or the gradient of step {step} of vision pretraining was not finite, and "
            "nothing of it was saved: lower vision_training.learning_rate, in another --workdir."
        )


def _run(
    config: VisionTrainingConfig,
    step_fn: VisionStep,
    state: VisionState,
    inputs_of: Callable[[int], tuple[Array, Array]],
    folder: Path,
    watch: Watch,
) -> VisionState:
    """Trains from the newest checkpoint, or from `state`, to the last step."""
    store = StepStore(folder / "checkpoints", keep=2)
    restored = store.restore_latest(state)
    start, state = (0, state) if restored is None else (restored.step, restored.state)
    with contextlib.ExitStack() as stack:
        stack.callback(store.close)
        if start >= config.steps:
            return state
        journal = stack.enter_context(contextlib.closing(Journal(folder, start)))
        bar = stack.enter_context(progress("Pretraining vision", config.steps, start))
        asked_to_stop = stack.enter_context(stop_signals())
        stack.enter_context(watch)
        stack.enter_context(ended_by_a_loss())
        inputs = inputs_of(start)
        for number in range(start + 1, config.steps + 1):
            began = time.perf_counter()
            state, metrics = step_fn(state, *inputs)
            watch.doing(f"making the pairs of step {number + 1} of vision pretraining")
            inputs = inputs_of(number)  # made while the step runs
            watch.doing(f"in step {number} of vision pretraining")
            values = {name: round(float(value), 6) for name, value in metrics.items()}
            check_finite(number, values)
            watch.loss(number, values["loss"])
            seconds = time.perf_counter() - began
            if number % config.log_every == 0 or number in (1, config.steps):
                journal.metrics(number, values)
                rate = config.batch / seconds
                journal.timing(number, {"seconds": seconds, "images_per_s": rate})
            bar.set_postfix(loss=f"{values['loss']:.2f}", refresh=False)
            bar.update()
            stopping = asked_to_stop()
            if number % config.save_every == 0 or number == config.steps or stopping:
                store.save(number, state, {})
            if stopping:
                store.wait()
                raise Interrupted(
                    f"Stopped vision pretraining at step {number} of {config.steps}, saved in "
                    f"{folder}: the same command goes on from there."
                )
    return state
