"""The value that crosses the door from data to training."""

import numpy as np
from flax import struct


@struct.dataclass
class Batch:
    """Sequences of text and media, as NumPy arrays.

    Axes: B batch, T text tokens, N media, F frames, H and W pixels.

    Attributes:
      tokens_BxT: int32.
      loss_mask_BxT: float32 weight of predicting token t from the tokens before it; 0 for none.
      images_BxNxFxHxWx3: uint8; media that a sequence lacks are zeros.
      media_index_BxT: int32, 1-based medium that token t may see, 0 for none (φ of
        arXiv:2204.14198, §2.3).
    """

    tokens_BxT: np.ndarray
    loss_mask_BxT: np.ndarray
    images_BxNxFxHxWx3: np.ndarray
    media_index_BxT: np.ndarray
