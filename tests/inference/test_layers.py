"""The unstacked layers against the training model."""

import jax
import numpy as np
import pytest

from flamingo_jax.inference.layers import forward
from flamingo_jax.models.flamingo import FlamingoModel, causal_context
from flamingo_jax.models.xattn import media_mask
from tests.inference.conftest import N, build


@pytest.mark.parametrize(("dtype", "error"), [("float32", 1e-5), ("bfloat16", 0.3)])
def test_logits_equal_the_training_model(dtype, error):
    config, variables, weights, prompt, features = build(0.8, dtype)
    expected = jax.jit(FlamingoModel(config).apply)(
        variables, prompt.tokens_BxT, features, prompt.media_index_BxT
    )
    got, _ = jax.jit(
        lambda w, p: forward(
            config,
            w,
            p.tokens_BxT,
            p.media_BxNxRxD,
            media_mask(p.media_index_BxT, N),
            causal_context(*p.tokens_BxT.shape),
        )
    )(weights, prompt)
    np.testing.assert_allclose(got, expected, atol=error)
