"""The loss on records that training left out, with their own images and with wrong ones.

What the loss loses with another record's images, or white ones, is what the model sees in them.

Axes: E examples, B batch, N media, F frames, P grid positions, C feature channels, H and W pixels.
"""

import dataclasses
import functools
import logging
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from tqdm import tqdm

from flamingo_jax.data.batch import Batch
from flamingo_jax.data.datasets import DatasetConfig, MixtureConfig
from flamingo_jax.data.records import Records, open_records
from flamingo_jax.data.tokenizer import Tokenizer
from flamingo_jax.evaluation.metrics import bootstrap_interval
from flamingo_jax.models.flamingo import FlamingoModel
from flamingo_jax.models.likelihood import token_losses
from flamingo_jax.training.inputs import Inputs, select_answers

Features = Callable[[np.ndarray], np.ndarray]

_log = logging.getLogger(__name__)

_MOST = 512  # records of a data set
_BATCH = 8


@dataclasses.dataclass(frozen=True)
class HeldOut:
    """The loss on the held-out records of a data set.

    Attributes:
      dataset: its name.
      images: `true`, those of `other` records, or `blank`.
      loss: nats a scored token, mean over examples.
      ci95: 95% bootstrap interval, low and high.
      more: how much more that is than with the true images.
      more_ci95: its interval, by example.
      examples: number of them.
      records: that they are made of.
    """

    dataset: str
    images: str
    loss: float
    ci95: tuple[float, float]
    more: float
    more_ci95: tuple[float, float]
    examples: int
    records: int


def held_out_losses(
    model: FlamingoModel,
    variables: Mapping[str, Any],
    features: Features,
    config: MixtureConfig,
    tokenizer: Tokenizer,
    image_size: int,
    seed: int,
) -> list[HeldOut]:
    """Three rows for each data set that holds records out.

    Args:
      model: of the run.
      variables: its collections.
      features: images uint8 [..., H, W, 3] -> features [..., P, C].
      config: the data sets.
      tokenizer: of the language model.
      image_size: side of the vision encoder's input, pixels.
      seed: of the windows of pages and what else is drawn.
    """
    losses = jax.jit(functools.partial(_losses, model))
    rows: list[HeldOut] = []
    for dataset in config.datasets:
        if not dataset.held_out:
            continue
        source = open_records(dataset)
        made = list(Records(dataset, source, tokenizer, image_size, seed).held_out(_MOST))
        if not made:
            _log.warning("Data set %s: no record that is held out can be used.", dataset.name)
            continue
        batch = _batch([arrays for _, arrays in made])
        own = _by_parts(features, batch.images_BxNxFxHxWx3)
        white = features(np.full((image_size, image_size, 3), 255, np.uint8))
        shown = {
            "true": own,
            "other": _of_others(own, (batch.tokens_BxT == tokenizer.image_id).sum(1)),
            "blank": np.broadcast_to(white, own.shape),
        }
        found = {
            images: _all_losses(functools.partial(losses, variables), dataset, batch, seen, images)
            for images, seen in shown.items()
        }
        rows += _rows(dataset.name, found, [record for record, _ in made])
    return rows


def held_out_cells(rows: Sequence[Mapping[str, Any]]) -> list[tuple[str, str, str, str]]:
    """By data set: its name, the loss with its own images, and what others and white ones add."""
    found = []
    for dataset in dict.fromkeys(row["dataset"] for row in rows):
        by = {row["images"]: row for row in rows if row["dataset"] == dataset}
        other, blank = (
            "{:+.3f} [{:+.3f}, {:+.3f}]".format(by[images]["more"], *by[images]["more_ci95"])
            for images in ("other", "blank")
        )
        found.append((dataset, f"{by['true']['loss']:.3f}", other, blank))
    return found


def held_out_table(rows: Sequence[Mapping[str, Any]]) -> str:
    """`held_out_cells` for the terminal."""
    head = ("held out, nats a token", "own images", "with others'", "with white ones")
    return "\n".join(
        f"{name:24}{own:>12}{other:>26}{blank:>26}"
        for name, own, other, blank in (head, *held_out_cells(rows))
    )


def _batch(examples: Sequence[Mapping[str, np.ndarray]]) -> Batch:
    return Batch(**{field: np.stack([e[field] for e in examples]) for field in examples[0]})


def _by_parts(features: Features, images_ExNxFxHxWx3: np.ndarray) -> np.ndarray:
    starts = range(0, len(images_ExNxFxHxWx3), _BATCH)
    return np.concatenate([features(images_ExNxFxHxWx3[i : i + _BATCH]) for i in starts])


def _of_others(own_ExNxFxPxC: np.ndarray, media_E: np.ndarray) -> np.ndarray:
    """Each example with the media of the one half of the examples further, in turn."""
    examples, most = own_ExNxFxPxC.shape[:2]
    other_E = np.roll(np.arange(examples), -(examples // 2))
    medium_ExN = np.arange(most) % media_E[other_E][:, None]
    return own_ExNxFxPxC[other_E[:, None], medium_ExN]


def _losses(model: FlamingoModel, variables: Any, inputs: Inputs) -> jax.Array:
    """Losses of the scored tokens, [B, A]."""
    logits: Any = model.apply(
        variables,
        inputs.tokens_BxT,
        inputs.features_BxNxFxPxC,
        inputs.media_index_BxT,
        inputs.at_BxA,
    )
    return token_losses(logits, jnp.asarray(inputs.targets_BxA))


def _all_losses(
    losses: Callable[[Inputs], jax.Array],
    dataset: DatasetConfig,
    batch: Batch,
    features_ExNxFxPxC: np.ndarray,
    images: str,
) -> np.ndarray:
    """Mean loss of each example, [E]; in batches of one size, so that the program compiles once."""
    at, targets, weights = select_answers(batch, dataset.max_answer_tokens)
    whole = Inputs(
        batch.tokens_BxT, batch.media_index_BxT, at, targets, weights, features_ExNxFxPxC
    )
    parts = []
    starts = range(0, len(weights), _BATCH)
    title = f"{dataset.name} held out, images {images}"
    for start in tqdm(starts, title, unit="batch", leave=False):
        rows = np.arange(start, start + _BATCH).clip(max=len(weights) - 1)
        parts.append(
            np.asarray(losses(jax.tree.map(lambda values, rows=rows: values[rows], whole)))
        )
    nll_ExA = np.concatenate(parts)[: len(weights)]
    return (nll_ExA * weights).sum(1) / weights.sum(1)


def _rows(name: str, losses: Mapping[str, np.ndarray], records: Sequence[int]) -> list[HeldOut]:
    clusters = np.asarray(records)
    return [
        HeldOut(
            name,
            images,
            float(values.mean()),
            bootstrap_interval(values, clusters),
            float((values - losses["true"]).mean()),
            bootstrap_interval(values - losses["true"], clusters),
            len(values),
            len(set(records)),
        )
        for images, values in losses.items()
    ]
