"""How good frozen visual features are: nearest neighbours, and finding the right name.

Axes: N stored items, M queries, C feature channels, E joint embedding.
"""

from collections.abc import Callable, Sequence
from typing import Any

import jax
import numpy as np

from flamingo_jax.data.drawings import Drawing
from flamingo_jax.models.contrastive import ContrastiveModel
from flamingo_jax.models.nfnet import VisionEncoder
from flamingo_jax.training.pairs import TextTable, one_for_each_base


def measure(
    model: ContrastiveModel,
    params: Any,
    encoder: Any,
    drawings: Sequence[Drawing],
    texts: TextTable,
) -> dict[str, dict[str, float | int]]:
    """Figures of held-out drawings, one drawing of each base, by split (validation and test).

    Args:
      model: both towers, for retrieval of the English name among those of the split.
      params: its parameters.
      encoder: variables of the frozen encoder, for nearest neighbours among the training
        drawings by their features, averaged over positions.
      drawings: all splits.
      texts: vectors of texts.

    Returns:
      For each split `knn5_category`, `retrieval_top1`, `retrieval_top5`, `candidates`, `drawings`.
    """
    embed_image = jax.jit(
        lambda p, images: model.apply({"params": p}, images, method="embed_image")
    )
    embed_text = jax.jit(lambda p, texts: model.apply({"params": p}, texts, method="embed_text"))
    features = jax.jit(VisionEncoder(model.vision).apply)

    def pooled(items: Sequence[Drawing]) -> np.ndarray:
        images = np.stack([drawing.image for drawing in items])
        return in_batches(features, encoder, images).mean(axis=1)

    train = one_for_each_base(drawings, "train")
    stored, stored_labels = pooled(train), [drawing.category for drawing in train]
    results: dict[str, dict[str, float | int]] = {}
    for split in ("validation", "test"):
        held_out = one_for_each_base(drawings, split)
        labels = [drawing.category for drawing in held_out]
        image = in_batches(embed_image, params, np.stack([d.image for d in held_out]))
        text = in_batches(embed_text, params, texts([d.names["en"] for d in held_out]))
        results[split] = {
            "knn5_category": knn_accuracy(stored, stored_labels, pooled(held_out), labels),
            "retrieval_top1": retrieval_accuracy(image, text, 1),
            "retrieval_top5": retrieval_accuracy(image, text, 5),
            "candidates": len(held_out),
            "drawings": sum(drawing.split == split for drawing in drawings),
        }
    return results


def in_batches(
    apply: Callable[[Any, np.ndarray], Any], variables: Any, inputs: np.ndarray, batch: int = 128
) -> np.ndarray:
    """`apply(variables, inputs)` for any number of inputs, in padded batches of one size."""
    padding = [(0, -len(inputs) % batch), *[(0, 0)] * (inputs.ndim - 1)]
    padded = np.pad(inputs, padding)
    parts = [apply(variables, padded[i : i + batch]) for i in range(0, len(padded), batch)]
    return np.concatenate([np.asarray(part) for part in parts])[: len(inputs)]


def knn_accuracy(
    stored_NxC: np.ndarray,
    stored_labels: Sequence[str],
    queries_MxC: np.ndarray,
    labels: Sequence[str],
    k: int = 5,
) -> float:
    """Share of queries whose `k` nearest stored items, by cosine, mostly bear their label.

    Ties go to the label of greater summed similarity.
    """
    names = sorted(set(stored_labels))
    onehot_NxL = np.array([[label == name for name in names] for label in stored_labels], float)
    similarity_MxN = _unit(queries_MxC) @ _unit(stored_NxC).T
    right = 0
    for similarity_N, label in zip(similarity_MxN, labels, strict=True):
        nearest = np.argsort(-similarity_N, kind="stable")[:k]
        votes_L = (1 + 1e-3 * similarity_N[nearest]) @ onehot_NxL[nearest]
        right += names[int(np.argmax(votes_L))] == label
    return right / len(labels)


def retrieval_accuracy(image_MxE: np.ndarray, text_MxE: np.ndarray, k: int) -> float:
    """Share of images whose own text is among the `k` nearest of all M texts."""
    similarity_MxM = image_MxE @ text_MxE.T
    better = similarity_MxM > np.diagonal(similarity_MxM)[:, None]
    return float(np.mean(better.sum(axis=1) < k))


def _unit(x: np.ndarray) -> np.ndarray:
    return x / np.maximum(np.linalg.norm(x, axis=-1, keepdims=True), 1e-9)
