"""What could be reached: by the frozen features alone, and by the drawings' names as text.

A figure below the first says that the bridge loses what the vision encoder sees; one below the
second, that it does not reach what the language model could do with a perfect description.
"""

from collections.abc import Callable, Mapping

import numpy as np

from flamingo_jax.data.sequences import PROMPT
from flamingo_jax.data.tasks import Turn
from flamingo_jax.data.tokenizer import END_OF_CHUNK, Tokenizer
from flamingo_jax.evaluation.episodes import Case, encode_answers
from flamingo_jax.evaluation.tree import Request


def nearest_class_means(
    case: Case,
    shots: int,
    key: Callable[[np.ndarray], int],
    features: Mapping[int, np.ndarray],
) -> list[bool]:
    """Whether each query's pooled features are nearest the mean of its own label's supports.

    Prototypes as in arXiv:1703.05175, eq. 1, on frozen features averaged over frames and grid
    positions, by Euclidean distance.

    Args:
      case: an episode of one image a turn.
      shots: supports used, at least 1.
      key: of a medium.
      features: features_FxPxC by key.
    """

    def pooled(turn: Turn) -> np.ndarray:
        return features[key(turn.media[0])].mean((0, 1))

    by_label: dict[str, list[np.ndarray]] = {}
    for turn in case.supports[:shots]:
        by_label.setdefault(turn.answer, []).append(pooled(turn))
    labels = list(by_label)
    means_LxC = np.stack([np.mean(by_label[label], axis=0) for label in labels])
    right = []
    for query in case.queries:
        distance_L = np.linalg.norm(means_LxC - pooled(query), axis=-1)
        right.append(labels[int(distance_L.argmin())] == query.answer)
    return right


def named_requests(case: Case, shots: int, tokenizer: Tokenizer) -> list[Request]:
    """The prompts with each drawing's English name where its image stood, and no media.

    Args:
      case: an episode of one image a turn.
      shots: supports used.
      tokenizer: of the model.
    """

    def asked(turn: Turn) -> str:
        return f"{turn.drawings[0].names['en']} {PROMPT}"

    before = "".join(f"{asked(t)} {t.answer}{END_OF_CHUNK}" for t in case.supports[:shots])
    answers = encode_answers(case, tokenizer)
    requests = []
    for query in case.queries:
        tokens = (*tokenizer.start(), *tokenizer.encode(before + asked(query)))
        gold = case.candidates.index(query.answer)
        requests.append(Request(tokens, (0,) * len(tokens), answers, gold))
    return requests
