"""Log-likelihoods and greedy answers of packed prompts, with one compiled function.

Axes: as in `tree`, with R latents a medium, D width, P grid positions, C feature channels,
V vocabulary.
"""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from tqdm import tqdm

from flamingo_jax.evaluation.tree import Limits, PackedTrees, Places, Request, pack, to_arrays
from flamingo_jax.models.decoder import Context
from flamingo_jax.models.flamingo import FlamingoModel

Array = jax.Array

_MEDIA_CHUNK = 32  # media resampled at once


@dataclasses.dataclass(frozen=True)
class Scored:
    """What the model answers to a request.

    Attributes:
      log_probs: of each candidate, in nats; see `tree.scored_tokens`.
      exact: whether greedy decoding gives the right answer and then the end of chunk.
    """

    log_probs: tuple[float, ...]
    exact: bool

    @property
    def choice(self) -> int:
        """Index of the most probable candidate."""
        return int(np.argmax(self.log_probs))


class Scorer:
    """Scores requests; holds the model and its compiled functions."""

    def __init__(
        self, model: FlamingoModel, variables: Any, end: int, limits: Limits, batch: int
    ) -> None:
        """`end`: id of the end-of-chunk token. `batch`: B, trees run at once."""
        self._model = model
        self._variables = {False: variables, True: shut_gates(variables)}
        self._end = end
        self._limits = limits
        self._batch = batch
        self._latents: dict[int, np.ndarray] = {}
        self._resample = jax.jit(self._resample_chunk)
        self._score = jax.jit(self._score_trees)

    def __call__(
        self,
        groups: Sequence[Sequence[Request]],
        features: Mapping[int, np.ndarray],
        *,
        alone: bool = False,
        title: str | None = None,
    ) -> list[Scored]:
        """Scores requests in order.

        Args:
          groups: requests that share much, such as those of an episode.
          features: features_FxPxC float32 of each medium's key.
          alone: close all gates, which leaves the frozen language model.
          title: of the progress bar; None for no bar.

        Raises:
          UserError: a request does not fit the limits.
        """
        trees, placed = pack(groups, self._limits, self._end)
        log_probs, best = [], []
        self._latents = {}
        starts = range(0, len(trees), self._batch)
        for start in tqdm(starts, title, unit="batch", disable=title is None, leave=False):
            packed = to_arrays(trees[start : start + self._batch], self._limits)
            for values, parts in zip(
                self._run(packed, features, alone), (log_probs, best), strict=True
            ):
                parts.extend(np.asarray(values)[: len(packed.media_keys)])
        return [_read(place, log_probs[tree], best[tree]) for tree, place in placed]

    def _run(
        self, packed: PackedTrees, features: Mapping[int, np.ndarray], alone: bool
    ) -> tuple[Array, Array]:
        variables = self._variables[alone]
        media_BxNxRxD = self._media(packed.media_keys, features)
        arrays = [
            np.pad(array, [(0, self._batch - len(array))] + [(0, 0)] * (array.ndim - 1))
            for name, array in vars(packed).items()
            if name != "media_keys"
        ]
        return self._score(variables, media_BxNxRxD, *arrays)

    def _media(
        self, keys: Sequence[Sequence[int]], features: Mapping[int, np.ndarray]
    ) -> np.ndarray:
        """Latents of the keys of each tree, [B, N, R, D]; those of the last batch are reused."""
        wanted = dict.fromkeys(key for row in keys for key in row)
        kept = {key: self._latents[key] for key in wanted if key in self._latents}
        new = [key for key in wanted if key not in kept]
        for start in range(0, len(new), _MEDIA_CHUNK):
            part = new[start : start + _MEDIA_CHUNK]
            chunk = np.stack([features[key] for key in part])
            chunk = np.pad(chunk, [(0, _MEDIA_CHUNK - len(part)), (0, 0), (0, 0), (0, 0)])
            latents = np.asarray(self._resample(self._variables[False], chunk))
            kept.update(zip(part, latents, strict=False))
        self._latents = kept
        size = self._model.config.resampler
        media = np.zeros(
            (self._batch, self._limits.media, size.num_latents, size.width), np.float32
        )
        for b, row in enumerate(keys):
            for slot, key in enumerate(row):
                media[b, slot] = kept[key]
        return media

    def _resample_chunk(self, variables: Any, features_MxFxPxC: Array) -> Array:
        latents = self._model.apply(
            variables, features_MxFxPxC[None], method=FlamingoModel.resample
        )
        assert isinstance(latents, jax.Array)
        return latents[0].astype(jnp.float32)

    def _score_trees(
        self,
        variables: Any,
        media_BxNxRxD: Array,
        tokens_BxT: Array,
        positions_BxT: Array,
        mask_BxTxT: Array,
        media_index_BxT: Array,
        at_BxA: Array,
        target_at_BxE: Array,
        target_BxE: Array,
    ) -> tuple[Array, Array]:
        """(log-probabilities of the scored tokens [B, E], greedy next token [B, A])."""
        logits_BxAxV = self._model.apply(
            variables,
            tokens_BxT,
            media_BxNxRxD,
            media_index_BxT,
            Context(positions_BxT, mask_BxTxT),
            at_BxA,
            method=FlamingoModel.decode,
        )
        assert isinstance(logits_BxAxV, jax.Array)
        total_BxA = jax.nn.logsumexp(logits_BxAxV, axis=-1)
        row = jnp.arange(logits_BxAxV.shape[0])[:, None]
        picked = logits_BxAxV[row, target_at_BxE, target_BxE]
        return picked - total_BxA[row, target_at_BxE], jnp.argmax(logits_BxAxV, axis=-1)


def shut_gates(variables: Any) -> Any:
    """The same variables with every gate at zero: the language model alone, bit for bit."""

    def shut(path: tuple[Any, ...], leaf: Any) -> Any:
        return jnp.zeros_like(leaf) if path[-1].key in ("alpha_xattn", "alpha_dense") else leaf

    params = jax.tree_util.tree_map_with_path(shut, variables["params"])
    return {**variables, "params": params}


def _read(places: Places, log_probs_E: np.ndarray, best_A: np.ndarray) -> Scored:
    sums = tuple(float(log_probs_E[list(targets)].sum()) for targets in places.targets)
    return Scored(sums, all(best_A[index] == token for index, token in places.gold))
