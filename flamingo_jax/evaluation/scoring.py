"""Log-likelihoods and greedy answers of packed prompts, with one compiled function.

Axes: as in `tree`, with R latents a medium, D width, P grid positions, C feature channels,
V vocabulary.
"""

import dataclasses
import functools
from collections.abc import Iterable, Mapping, Sequence

import jax
import jax.numpy as jnp
import numpy as np
from tqdm import tqdm

from flamingo_jax.evaluation.tree import Limits, PackedTrees, Places, Request, pack, to_arrays
from flamingo_jax.inference.handle import Flamingo, resample
from flamingo_jax.inference.layers import Weights, forward
from flamingo_jax.models.decoder import Context
from flamingo_jax.models.flamingo import FlamingoConfig
from flamingo_jax.models.xattn import media_mask

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


class MediaLatents:
    """The resampler's output for media by key; that of the last call is kept."""

    def __init__(self, handle: Flamingo, features: Mapping[int, np.ndarray]) -> None:
        """`features`: features_FxPxC float32 of each medium's key."""
        self._config = handle.config
        self._resampler = handle.weights.resampler
        self._features = features
        self._kept: dict[int, np.ndarray] = {}

    def __call__(self, keys: Sequence[Sequence[int]], batch: int, media: int) -> np.ndarray:
        """Latents of the keys of each row, padded to [B = batch, N = media, R, D]."""
        self._keep(dict.fromkeys(key for row in keys for key in row))
        size = self._config.resampler
        shape = (batch, media, size.num_latents, size.width)
        latents = np.zeros(shape, jnp.dtype(self._config.dtype))
        for b, row in enumerate(keys):
            for slot, key in enumerate(row):
                latents[b, slot] = self._kept[key]
        return latents

    def _keep(self, wanted: Iterable[int]) -> None:
        wanted = list(wanted)
        kept = {key: self._kept[key] for key in wanted if key in self._kept}
        new = [key for key in wanted if key not in kept]
        for start in range(0, len(new), _MEDIA_CHUNK):
            part = new[start : start + _MEDIA_CHUNK]
            chunk = np.stack([self._features[key] for key in part])
            chunk = np.pad(chunk, [(0, _MEDIA_CHUNK - len(part)), (0, 0), (0, 0), (0, 0)])
            found = np.asarray(resample(self._config, self._resampler, chunk))
            kept.update(zip(part, found, strict=False))
        self._kept = kept


class Scorer:
    """Scores requests with a loaded model."""

    def __init__(self, handle: Flamingo, limits: Limits, batch: int) -> None:
        """`limits`: of a tree. `batch`: B, trees run at once."""
        self._config, self._weights = handle.config, handle.weights
        self._end = handle.text.eoc_id
        self._limits = limits
        self._batch = batch

    def __call__(
        self,
        requests: Iterable[Request],
        latents: MediaLatents,
        title: str | None = None,
    ) -> list[Scored]:
        """Scores requests in order.

        Args:
          requests: those that share much, such as an episode's, one after another.
          latents: of the media.
          title: of the progress bar; None for no bar.

        Raises:
          UserError: a request does not fit the limits.
        """
        trees, placed = pack(requests, self._limits, self._end)
        log_probs, best = [], []
        starts = range(0, len(trees), self._batch)
        for start in tqdm(starts, title, unit="batch", disable=title is None, leave=False):
            packed = to_arrays(trees[start : start + self._batch], self._limits)
            scored, greedy = self._run(packed, latents)
            log_probs.extend(np.asarray(scored))
            best.extend(np.asarray(greedy))
        return [_read(place, log_probs[tree], best[tree]) for tree, place in placed]

    def _run(self, packed: PackedTrees, latents: MediaLatents) -> tuple[Array, Array]:
        media_BxNxRxD = latents(packed.media_keys, self._batch, self._limits.media)
        arrays = [
            np.pad(array, [(0, self._batch - len(array))] + [(0, 0)] * (array.ndim - 1))
            for name, array in vars(packed).items()
            if name != "media_keys"
        ]
        return _score_trees(self._config, self._weights, media_BxNxRxD, *arrays)


@functools.partial(jax.jit, static_argnames="config")
def _score_trees(
    config: FlamingoConfig,
    weights: Weights,
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
    logits_BxAxV, _ = forward(
        config,
        weights,
        tokens_BxT,
        media_BxNxRxD,
        media_mask(media_index_BxT, media_BxNxRxD.shape[1], config.xattn.sees),
        Context(positions_BxT, mask_BxTxT),
        at_BxA=at_BxA,
    )
    total_BxA = jax.nn.logsumexp(logits_BxAxV, axis=-1)
    row = jnp.arange(logits_BxAxV.shape[0])[:, None]
    picked = logits_BxAxV[row, target_at_BxE, target_BxE]
    return picked - total_BxA[row, target_at_BxE], jnp.argmax(logits_BxAxV, axis=-1)


def _read(places: Places, log_probs_E: np.ndarray, best_A: np.ndarray) -> Scored:
    sums = tuple(float(log_probs_E[list(targets)].sum()) for targets in places.targets)
    return Scored(sums, all(best_A[index] == token for index, token in places.gold))
