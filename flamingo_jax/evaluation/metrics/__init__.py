"""Scores as the benchmarks' official code gives them, and intervals around them.

All are shares of 1 except CIDEr, which is about 1.0 for what papers print as 100 points.
"""

from flamingo_jax.evaluation.metrics.captions import bleu, cider, cider_each, meteor, rouge_l
from flamingo_jax.evaluation.metrics.okvqa import okvqa_stems
from flamingo_jax.evaluation.metrics.ptb import ptb_tokenize
from flamingo_jax.evaluation.metrics.ranking import (
    mean_weighted_average_precision,
    ndcg,
    roc_auc,
    top1,
)
from flamingo_jax.evaluation.metrics.rows import Row, bootstrap_interval
from flamingo_jax.evaluation.metrics.vqa import vqa_accuracy
from flamingo_jax.evaluation.metrics.word_similarity import wups

__all__ = [
    "Row",
    "bleu",
    "bootstrap_interval",
    "cider",
    "cider_each",
    "mean_weighted_average_precision",
    "meteor",
    "ndcg",
    "okvqa_stems",
    "ptb_tokenize",
    "roc_auc",
    "rouge_l",
    "top1",
    "vqa_accuracy",
    "wups",
]
