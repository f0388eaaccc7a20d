"""The loss on held-out records: against one sequence at a time, and with images put in by hand."""

import dataclasses
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from flamingo_jax.data.datasets import MixtureConfig
from flamingo_jax.data.records import Records, open_records
from flamingo_jax.data.tokenizer import Tokenizer
from flamingo_jax.evaluation.held_out import held_out_losses, held_out_table
from flamingo_jax.models.flamingo import FlamingoModel
from tests.data.test_records import SIZE, dataset, many
from tests.tiny_job import CONFIG

MODEL = FlamingoModel(CONFIG.model)
P, C = 4, CONFIG.vision.features


def features(images: np.ndarray) -> np.ndarray:
    """The image's mean colour in each of a few positions."""
    mean = images.mean(axis=(-3, -2))[..., None, :] / 255
    return np.concatenate([mean, *[mean * k for k in (2, 3)]], -1)[..., :C].repeat(P, -2)


@pytest.fixture(scope="module")
def variables() -> dict:
    """Random ones, of which only the shapes of the inputs matter."""
    tokens, seen = jnp.ones((1, 4), int), jnp.ones((1, 4), int)
    inputs = (tokens, jnp.ones((1, 1, 1, P, C)), seen, jnp.zeros((1, 1), int))
    return jax.jit(MODEL.init)(jax.random.key(0), *inputs)


@pytest.mark.slow
def test_each_example_by_itself(tmp_path: Path, tokenizer: Tokenizer, variables: dict) -> None:
    config = dataset(many(tmp_path / "set", 22), held_out=2)
    mixture = MixtureConfig((config, dataclasses.replace(config, name="all", held_out=0)))
    rows = held_out_losses(MODEL, variables, features, mixture, tokenizer, SIZE, seed=3)
    assert [(row.dataset, row.images) for row in rows] == [
        ("pairs", images) for images in ("true", "other", "blank")
    ]
    source = open_records(config)
    made = [arrays for _, arrays in Records(config, source, tokenizer, SIZE, 3).held_out(99)]
    images = [arrays["images_BxNxFxHxWx3"] for arrays in made]
    shown = {
        "true": images,
        "other": [images[(i + 5) % 11] for i in range(11)],
        "blank": [np.full_like(image, 255) for image in images],
    }

    @jax.jit
    def log_probs(tokens: jax.Array, seen: jax.Array, index: jax.Array) -> jax.Array:
        at = jnp.arange(tokens.shape[0])[None]
        logits = MODEL.apply(variables, tokens[None], seen[None], index[None], at)
        return jax.nn.log_softmax(jnp.asarray(logits)[0])

    for row in rows:
        losses = []
        for arrays, seen in zip(made, shown[row.images], strict=True):
            tokens, weights = arrays["tokens_BxT"], arrays["loss_mask_BxT"][1:]
            found = log_probs(tokens, features(seen), arrays["media_index_BxT"])
            nll = -np.asarray(found)[np.arange(len(weights)), tokens[1:]]
            losses.append((nll * weights).sum() / weights.sum())
        assert row.loss == pytest.approx(np.mean(losses), rel=1e-4)
        assert row.examples == row.records == 11
        assert row.ci95[0] < row.loss < row.ci95[1]
    own, other, blank = rows
    assert (own.more, own.more_ci95) == (0.0, (0.0, 0.0))
    assert blank.more == pytest.approx(blank.loss - own.loss, abs=1e-5)
    assert other.more == pytest.approx(other.loss - own.loss, abs=1e-5) != 0
    text = held_out_table([dataclasses.asdict(row) for row in rows])
    assert len(text.splitlines()) == 2
    assert f"{own.loss:.3f}" in text
    assert f"{blank.more:+.3f}" in text


def test_nothing_that_can_be_used(
    tmp_path: Path, tokenizer: Tokenizer, variables: dict, caplog: pytest.LogCaptureFixture
) -> None:
    mixture = MixtureConfig((dataset(many(tmp_path / "set", 4, (0, 2)), held_out=2),))
    assert held_out_losses(MODEL, variables, features, mixture, tokenizer, SIZE, 3) == []
    assert "Data set pairs: no record that is held out can be used." in caplog.text
