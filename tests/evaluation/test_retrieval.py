"""RICES: order, ties, exclusion, and the features' file."""

from pathlib import Path

import numpy as np
import pytest

from flamingo_jax.errors import UserError
from flamingo_jax.evaluation.benchmark import Example, Media
from flamingo_jax.evaluation.latents import LatentStore
from flamingo_jax.evaluation.retrieval import (
    Retrieval,
    SimilarityIndex,
    load_features,
    save_features,
)
from tests.evaluation.tiny import SIZE, tiny_handle

FEATURES = np.array([[1, 0], [1, 1], [0, 2], [-1, 0], [3, 0.3]], np.float32)
NONE = np.zeros(5, bool)


def test_the_most_similar_comes_last_whatever_the_lengths() -> None:
    index = SimilarityIndex(FEATURES)
    assert index.nearest(np.array([5.0, 0.0]), 5, NONE) == [3, 2, 1, 4, 0]
    assert index.nearest(np.array([5.0, 0.0]), 2, NONE) == [4, 0]


def test_of_equals_the_first_counts_as_more_similar() -> None:
    index = SimilarityIndex(FEATURES[[0, 1, 0, 0]])
    assert index.nearest(np.array([1.0, 0.0]), 3, np.zeros(4, bool)) == [3, 2, 0]


def test_what_may_not_be_shown_is_left_out() -> None:
    index, excluded = SimilarityIndex(FEATURES), np.array([True, False, False, False, True])
    assert index.nearest(np.array([1.0, 0.0]), 3, excluded) == [3, 2, 1]
    with pytest.raises(UserError, match="4 shots are asked for, but there are 3 supports"):
        index.nearest(np.array([1.0, 0.0]), 4, excluded)


def test_features_are_found_again_by_content(tmp_path: Path) -> None:
    features = {bytes(range(16)): FEATURES[0], bytes(16): FEATURES[1]}
    path = tmp_path / "new" / "features.npz"
    assert load_features(path) == {}
    save_features(path, features)
    found = load_features(path)
    assert list(found) == list(features)
    np.testing.assert_array_equal(np.stack(list(found.values())), FEATURES[:2])
    path.write_bytes(path.read_bytes()[:-40])
    with pytest.raises(UserError, match="damaged: delete it"):
        load_features(path)


def clip(name: str, start: float = 0.0) -> Example:
    return Example(f"{name} {start}", (Media(Path(name), start, start + 1),))


def pixels(medium: Media) -> np.ndarray:
    seed = [int(medium.path.name), int(medium.start or 0)]
    return np.random.default_rng(seed).integers(0, 256, (1, SIZE, SIZE, 3), np.uint8)


def test_queries_are_encoded_together_and_see_no_part_of_their_own_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    handle = tiny_handle()
    supports = [clip(str(n), start) for n in range(3) for start in (0.0, 1.0)]
    queries = [clip(str(n), 5.0) for n in range(4)]
    alone = Retrieval(LatentStore(handle, pixels), tmp_path, handle.weights.vision)
    expected = [list(alone.chooser(supports, 4)(query)) for query in queries]
    latents = LatentStore(handle, pixels)
    kept, encoded = latents._keep, []
    monkeypatch.setattr(latents, "_keep", lambda c, m: encoded.append(len(c)) or kept(c, m))
    together = Retrieval(latents, tmp_path, handle.weights.vision)
    choose = together.chooser(supports, 4)
    together.expect(queries)
    assert encoded == [4]
    assert [list(choose(query)) for query in queries] == expected
    assert encoded == [4]  # the supports' features are on disk
    assert latents._coming == {}
    for query, chosen in zip(queries, expected, strict=True):
        assert query.media[0].path not in {support.media[0].path for support in chosen}
