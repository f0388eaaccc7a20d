"""The mixture: shapes, the same for a seed, and a place that can be gone back to."""

import dataclasses
import json
from typing import Any

import chex
import jax
import numpy as np
import pytest

from flamingo_jax.data.datasets import DatasetConfig, MixtureConfig
from flamingo_jax.data.drawings import Drawing
from flamingo_jax.data.mixture import Mixture, make_iterator
from flamingo_jax.data.tokenizer import Tokenizer
from flamingo_jax.errors import UserError

SHARES = {"category": 0.5, "instance_binding": 0.4, "same_different": 0.1}
CONFIG = MixtureConfig(
    (
        DatasetConfig("episodes", "episodes", 3, 1.0, 48, 6, 24, families=SHARES, p_next=0.5),
        DatasetConfig("names", "episodes", 2, 1.0, 72, 6, 32, families={"name": 1.0}),
        DatasetConfig("pairs", "pairs", 2, 0.5, 32, 1, 24),
        DatasetConfig("video", "video", 2, 0.5, 32, 1, 24, frames=4),
    )
)


@pytest.fixture
def mixture(drawings: list[Drawing], tokenizer: Tokenizer) -> Mixture:
    return make_iterator(CONFIG, drawings, tokenizer, seed=3)


@pytest.fixture
def in_turn(drawings: list[Drawing], tokenizer: Tokenizer) -> Mixture:
    config = dataclasses.replace(CONFIG, schedule="round_robin")
    return make_iterator(config, drawings, tokenizer, seed=3)


FIELDS = ("tokens_BxT", "loss_mask_BxT", "images_BxNxFxHxWx3", "media_index_BxT")


def same(a, b) -> bool:
    return all(
        np.array_equal(getattr(a[name], field), getattr(b[name], field))
        for name in a
        for field in FIELDS
    )


def test_shapes(mixture: Mixture) -> None:
    batches = next(mixture)
    for config in CONFIG.datasets:
        batch = batches[config.name]
        B, T, N, F = config.batch_size, config.length, config.media, config.frames
        chex.assert_shape([batch.tokens_BxT, batch.media_index_BxT, batch.loss_mask_BxT], (B, T))
        chex.assert_shape(batch.images_BxNxFxHxWx3, (B, N, F, 64, 64, 3))
        assert batch.tokens_BxT.dtype == np.int32
        assert (batch.loss_mask_BxT > 0).sum(1).max() <= config.max_answer_tokens


def test_deterministic_from_the_seed(
    mixture: Mixture, drawings: list[Drawing], tokenizer: Tokenizer
) -> None:
    again = make_iterator(CONFIG, drawings, tokenizer, seed=3)
    other = make_iterator(CONFIG, drawings, tokenizer, seed=4)
    first = next(mixture)
    assert same(first, next(again))
    assert not same(first, next(other))
    assert not same(first, next(mixture))


def test_place_is_plain_json_and_can_be_gone_back_to(mixture: Mixture) -> None:
    next(mixture)
    place = json.loads(json.dumps(mixture.get_state()))
    expected = [next(mixture) for _ in range(2)]
    mixture.set_state(place)
    assert all(same(batch, next(mixture)) for batch in expected)


@pytest.mark.parametrize("schedule", ["accumulate", "round_robin"])
def test_hosts_make_their_rows_of_the_same_batches(
    drawings: list[Drawing], tokenizer: Tokenizer, schedule: Any
) -> None:
    """Three steps whole, then with the rows of two hosts: together what one would have made."""
    config = dataclasses.replace(CONFIG, schedule=schedule)
    whole = make_iterator(config, drawings, tokenizer, seed=3)
    for _ in range(3):
        next(whole)
    hosts = []
    for first in (True, False):
        sizes = {dataset.name: dataset.batch_size for dataset in CONFIG.datasets}
        rows = {name: range(1) if first else range(1, size) for name, size in sizes.items()}
        hosts.append(make_iterator(config, drawings, tokenizer, 3, "train", rows))
        hosts[-1].set_state(whole.get_state())
    for _ in range(4):
        expected, parts = next(whole), [next(host) for host in hosts]
        together = {
            name: jax.tree.map(lambda *rows: np.concatenate(rows), *(part[name] for part in parts))
            for name in expected
        }
        assert same(together, expected)


@pytest.mark.slow
def test_worker_processes_change_nothing_wherever_the_run_goes_on(
    mixture: Mixture, drawings: list[Drawing], tokenizer: Tokenizer
) -> None:
    """A known trap: with workers, the restored place is silently ignored."""
    expected = [next(mixture) for _ in range(5)]
    made, place = [], {"step": 0}
    for workers, steps in ((2, 2), (1, 2), (0, 1)):
        config = dataclasses.replace(CONFIG, workers=workers)
        iterator = make_iterator(config, drawings, tokenizer, seed=3)
        iterator.set_state(place)
        made += [next(iterator) for _ in range(steps)]
        place = iterator.get_state()
    assert all(same(one, other) for one, other in zip(made, expected, strict=True))


def test_round_robin_gives_each_data_sets_batches_in_turn(
    mixture: Mixture, in_turn: Mixture
) -> None:
    names = [config.name for config in CONFIG.datasets]
    for together in [next(mixture), next(mixture)]:
        for name in names:
            one = next(in_turn)
            assert list(one) == [name]
            assert same(one, together)


@pytest.mark.parametrize("steps", [1, 4, 6])
def test_round_robins_place_is_plain_json_and_can_be_gone_back_to(
    in_turn: Mixture, drawings: list[Drawing], tokenizer: Tokenizer, steps: int
) -> None:
    for _ in range(steps):
        next(in_turn)
    place = json.loads(json.dumps(in_turn.get_state()))
    expected = [next(in_turn) for _ in range(5)]
    other = make_iterator(
        dataclasses.replace(CONFIG, schedule="round_robin"), drawings, tokenizer, seed=3
    )
    other.set_state(place)
    for batch in expected:
        again = next(other)
        assert list(again) == list(batch)
        assert same(batch, again)


def test_the_drawings_make_no_pages(drawings: list[Drawing], tokenizer: Tokenizer) -> None:
    pages = DatasetConfig("m3w", "interleaved", 1, 1.0, 256, 5, 256)
    with pytest.raises(UserError, match="Data set m3w: the drawings make no pages of interleaved"):
        make_iterator(MixtureConfig((pages,)), drawings, tokenizer, 0)


def test_long_sequences_lose_supports_and_one_that_cannot_fit_says_so(
    drawings: list[Drawing], tokenizer: Tokenizer
) -> None:
    names = DatasetConfig("names", "episodes", 4, 1.0, 30, 6, 32, families={"name": 1.0})
    batch = next(make_iterator(MixtureConfig((names,)), drawings, tokenizer, 0))["names"]
    assert batch.tokens_BxT.shape == (4, 30)
    short = DatasetConfig("pairs", "pairs", 1, 1.0, 4, 1, 24)
    with pytest.raises(UserError, match=r"pairs: .* has \d+ tokens, .* raise length from 4"):
        next(make_iterator(MixtureConfig((short,)), drawings, tokenizer, 0))
    curt = DatasetConfig("pairs", "pairs", 1, 1.0, 64, 1, 1)
    with pytest.raises(UserError, match=r"pairs: .* raise .* max_answer_tokens from 1"):
        next(make_iterator(MixtureConfig((curt,)), drawings, tokenizer, 0))


def test_texts_that_do_not_fit_are_left_out(drawings: list[Drawing], tokenizer: Tokenizer) -> None:
    """Names of 30 tokens are rare: a run must not end at the first of them."""
    tight = DatasetConfig("pairs", "pairs", 500, 1.0, 12, 1, 7)
    batch = next(make_iterator(MixtureConfig((tight,)), drawings, tokenizer, 0))["pairs"]
    scored = (batch.loss_mask_BxT > 0).sum(1)
    assert scored.max() == 7
    assert scored.min() >= 2


def test_unknown_family() -> None:
    with pytest.raises(UserError, match="no family 'nam'"):
        DatasetConfig("x", "episodes", 1, 1.0, 8, 1, 4, families={"nam": 1.0})
