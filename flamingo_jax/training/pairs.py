"""Pairs of a drawing and a text for contrastive training, the same for a seed and a step."""

from collections.abc import Sequence

import numpy as np

from flamingo_jax.data.drawings import Drawing
from flamingo_jax.data.tokenizer import Tokenizer
from flamingo_jax.errors import UserError


class TextTable:
    """Texts as means of the language model's frozen token embeddings, [D] float32."""

    def __init__(self, embedding_VxD: np.ndarray, tokenizer: Tokenizer) -> None:
        centred = embedding_VxD - embedding_VxD.mean(axis=0)
        self._embedding_VxD = centred / np.linalg.norm(centred, axis=1, keepdims=True)
        self._encode = tokenizer.encode
        self._known: dict[str, np.ndarray] = {}

    def __call__(self, texts: Sequence[str]) -> np.ndarray:
        """Vectors [len(texts), D]."""
        for text in texts:
            if text not in self._known:
                # As after "Output:": with the space that words are tokenised with.
                ids = self._encode(f" {text}")
                self._known[text] = self._embedding_VxD[ids].mean(axis=0).astype(np.float32)
        return np.stack([self._known[text] for text in texts])


class Pairs:
    """Batches of one drawing each of different bases, each with one of its texts.

    A text is the name in English or, as often as `other_language` says, in another of the
    languages; with probability `with_group` the words of category and group come before it.
    """

    def __init__(
        self,
        drawings: Sequence[Drawing],
        batch: int,
        languages: Sequence[str],
        other_language: float,
        with_group: float,
        seed: int,
    ) -> None:
        """Takes the drawings of the `train` split.

        Raises:
          UserError: there are fewer bases than a batch needs.
        """
        variants: dict[str, list[Drawing]] = {}
        for drawing in drawings:
            if drawing.split == "train":
                variants.setdefault(drawing.base, []).append(drawing)
        self._variants = [variants[base] for base in sorted(variants)]
        if len(self._variants) < batch:
            raise UserError(
                f"Vision batches hold {batch} base emojis but only {len(self._variants)} are in "
                "the training split: lower vision_training.batch or use more drawings."
            )
        self._batch, self._seed = batch, seed
        self._others = [language for language in languages if language != "en"]
        self._other_language, self._with_group = other_language, with_group

    def __call__(
        self, step: int, rows: Sequence[int] | None = None
    ) -> tuple[np.ndarray, list[str]]:
        """Images uint8 [B, H, W, 3] and texts of a step; every base once in an epoch.

        Args:
          step: its number, from 0.
          rows: those of the batch to return; None for all.
        """
        epoch, place = divmod(step, len(self._variants) // self._batch)
        order = np.random.default_rng((self._seed, 0, epoch)).permutation(len(self._variants))
        rng = np.random.default_rng((self._seed, 1, step))
        chosen = order[place * self._batch : (place + 1) * self._batch]
        drawings = [self._variants[i][rng.integers(len(self._variants[i]))] for i in chosen]
        texts = [self._text(drawing, rng) for drawing in drawings]
        rows = range(self._batch) if rows is None else rows
        return np.stack([drawings[row].image for row in rows]), [texts[row] for row in rows]

    def _text(self, drawing: Drawing, rng: np.random.Generator) -> str:
        name = drawing.names["en"]
        others = [language for language in self._others if language in drawing.names]
        if others and rng.random() < self._other_language:
            name = drawing.names[others[rng.integers(len(others))]]
        if rng.random() < self._with_group:
            return f"{drawing.category}, {drawing.group.replace('-', ' ')}: {name}"
        return name


def one_for_each_base(drawings: Sequence[Drawing], split: str) -> list[Drawing]:
    """The first drawing of each base of a split, so that no base counts twice."""
    first: dict[str, Drawing] = {}
    for drawing in drawings:
        if drawing.split == split:
            first.setdefault(drawing.base, drawing)
    return list(first.values())
