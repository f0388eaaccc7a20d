"""What a training step takes of a data set, and at which positions its loss is computed."""

import jax
import numpy as np
from flax import struct

from flamingo_jax.data.batch import Batch
from flamingo_jax.errors import UserError

HostOrDevice = jax.Array | np.ndarray


@struct.dataclass
class Inputs:
    """What the training step takes of one data set.

    Attributes:
      tokens_BxT: int32.
      media_index_BxT: int32, 1-based medium each token sees, 0 for none.
      at_BxA: int32 positions from which the scored tokens are predicted.
      targets_BxA: int32 scored tokens.
      weights_BxA: float32 weight of each, 0 for padding.
      features_BxNxFxPxC: float32 output of the frozen vision encoder; or, in its place,
      images_BxNxFxHxWx3: uint8, which the step itself encodes.
    """

    tokens_BxT: HostOrDevice
    media_index_BxT: HostOrDevice
    at_BxA: HostOrDevice
    targets_BxA: HostOrDevice
    weights_BxA: HostOrDevice
    features_BxNxFxPxC: HostOrDevice | None = None
    images_BxNxFxHxWx3: HostOrDevice | None = None


def select_answers(batch: Batch, most: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Where a batch's scored tokens are predicted: (at_BxA, targets_BxA, weights_BxA).

    Args:
      batch: tokens with their loss mask.
      most: A, a fixed number of scored tokens a sequence, so that the step compiles once.

    Raises:
      UserError: a sequence has more than `most` scored tokens.
    """
    mask = np.asarray(batch.loss_mask_BxT)
    counts = (mask > 0).sum(-1)
    if counts.max(initial=0) > most:
        raise UserError(
            f"A sequence has {counts.max()} scored tokens, max_answer_tokens is {most}: raise it."
        )
    token_BxA = np.argsort(mask <= 0, axis=-1, kind="stable")[:, :most]
    weights = np.take_along_axis(mask, token_BxA, axis=-1)
    targets = np.take_along_axis(np.asarray(batch.tokens_BxT), token_BxA, axis=-1)
    return np.maximum(token_BxA - 1, 0), targets, weights
