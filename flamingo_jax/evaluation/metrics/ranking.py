"""Scores of ranked or classified answers: NDCG, ROC AUC, mWAP, top-1."""

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from flamingo_jax.errors import UserError


def ndcg(scores: ArrayLike, relevance: ArrayLike) -> float:
    """Normalised discounted cumulative gain of the k best candidates, k those with relevance.

    As VisDial's challenge has it: the gain is the relevance itself, the discount of rank r is
    1 / log2(r + 1). Of equal scores the earlier candidate ranks first.

    Args:
      scores: [n] of the candidates (100 in VisDial), higher is better.
      relevance: [n], 0 to 1 in VisDial.

    Raises:
      UserError: the lengths differ, or no candidate is relevant.
    """
    scored, relevant = _numbers("scores", scores), _numbers("relevance", relevance)
    if scored.shape != relevant.shape:
        raise UserError(f"NDCG has {scored.size} scores but {relevant.size} relevances.")
    k = int((relevant > 0).sum())
    if k == 0 or (relevant < 0).any():
        raise UserError("NDCG needs relevances from 0 on, at least one of them above 0.")
    discounts = 1 / np.log2(np.arange(k) + 2)
    best = np.sort(relevant)[::-1][:k] @ discounts
    chosen = relevant[np.argsort(-scored, kind="stable")[:k]]
    return float(chosen @ discounts / best)


def roc_auc(labels: ArrayLike, scores: ArrayLike) -> float:
    """Area under the ROC curve: chance that a positive scores above a negative.

    Args:
      labels: [n] 0 or 1.
      scores: [n], higher for 1.

    Raises:
      UserError: there is one class only, or scikit-learn is not installed.
    """
    known, scored = _numbers("labels", labels), _numbers("scores", scores)
    if known.shape != scored.shape:
        raise UserError(f"ROC AUC has {known.size} labels but {scored.size} scores.")
    if set(known.tolist()) != {0.0, 1.0}:
        raise UserError("ROC AUC needs labels 0 and 1, at least one of each.")
    return float(_sklearn().roc_auc_score(known, scored))


def mean_weighted_average_precision(
    scores: ArrayLike,
    actions: Sequence[tuple[str, ...]],
    classes: Sequence[int],
    annotations: Sequence[int],
    videos: Sequence[Any],
) -> float:
    """mWAP of RareAct (arXiv:2008.01018, §4): actions, each a verb and a noun, retrieved in clips.

    Clips annotated positive for an action count for it as such. Its negatives are those annotated
    otherwise for it and the positives of all other actions. A clip's weight is 1 over the number of
    clips of its video in its group (positives, hard negatives that share the verb or the noun, and
    others). Actions without a positive are left out.

    Args:
      scores: [n, c], of each clip for each action.
      actions: [c] verb and noun.
      classes: [n] index of the action that each clip was annotated for.
      annotations: [n] 1 positive, 2 verb right, 3 noun right, 4 both there but apart, 0 negative.
      videos: [n] what each clip is cut from.

    Raises:
      UserError: the lengths differ, no clip is positive, or scikit-learn is not installed.
    """
    scored, annotated = np.asarray(scores, np.float64), np.asarray(annotations)
    if scored.shape != (len(classes), len(actions)) or not (
        len(classes) == len(annotations) == len(videos)
    ):
        raise UserError(
            f"mWAP has scores of shape {list(scored.shape)} for {len(classes)} clips and "
            f"{len(actions)} actions, {len(annotations)} annotations and {len(videos)} videos."
        )
    if not np.isfinite(scored).all() or not (annotated == 1).any():
        raise UserError("mWAP needs scores that are numbers and at least one clip annotated 1.")
    _, video = np.unique([str(name) for name in videos], return_inverse=True)
    found = [
        _weighted_precision(scored[:, c], groups, video)
        for c, groups in enumerate(_groups(actions, np.asarray(classes), annotated))
        if len(groups[0])
    ]
    return float(np.mean(found))


def _groups(
    actions: Sequence[tuple[str, ...]], classes: np.ndarray, annotations: np.ndarray
) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray]]:
    """Indices of positives, negatives and hard negatives of each action."""
    verbs, nouns = (
        np.unique(names, return_inverse=True)[1] for names in zip(*actions, strict=True)
    )
    positive = annotations == 1
    for verb, noun in zip(verbs, nouns, strict=True):
        shared = (verbs[classes] == verb).astype(int) + (nouns[classes] == noun)
        own, near, far = shared == 2, shared == 1, shared == 0
        yield (
            np.flatnonzero(own & positive),
            np.flatnonzero(own & (annotations == 0) | far & positive),
            np.flatnonzero(own & ~np.isin(annotations, (0, 1)) | near & positive),
        )


def _weighted_precision(
    scores: np.ndarray, groups: Sequence[np.ndarray], videos: np.ndarray
) -> float:
    weights = []
    for clips in groups:
        _, video, counts = np.unique(videos[clips], return_inverse=True, return_counts=True)
        weights.append(1 / counts[video])
    clips, weight = np.concatenate(groups), np.concatenate(weights)
    labels = np.arange(len(clips)) < len(groups[0])
    return float(_sklearn().average_precision_score(labels, scores[clips], sample_weight=weight))


def top1(predictions: Sequence[Any], answers: Sequence[Any]) -> float:
    """Share of predictions that equal their answer.

    Raises:
      UserError: there are none, or the lengths differ.
    """
    if not answers or len(predictions) != len(answers):
        raise UserError(
            f"Accuracy needs as many predictions as answers, at least one; there are "
            f"{len(predictions)} and {len(answers)}."
        )
    return sum(a == b for a, b in zip(predictions, answers, strict=True)) / len(answers)


def _numbers(name: str, values: ArrayLike) -> np.ndarray:
    array = np.asarray(values, np.float64)
    if array.ndim != 1 or not array.size or not np.isfinite(array).all():
        raise UserError(f"The {name} must be a list of one or more numbers.")
    return array


def _sklearn() -> Any:
    try:
        from sklearn import metrics
    except ImportError as error:
        raise UserError(
            "ROC AUC and mWAP need scikit-learn: install it with "
            "`pip install 'flamingo_jax[evaluation]'`."
        ) from error
    return metrics
