"""Data sets with a path: every record once an epoch, the same wherever made; bad ones are told."""

import collections
import dataclasses
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from flamingo_jax.data.augment import augment
from flamingo_jax.data.datasets import DatasetConfig, MixtureConfig
from flamingo_jax.data.mixture import Mixture, make_iterator
from flamingo_jax.data.records import Records, open_records
from flamingo_jax.data.staged import finish
from flamingo_jax.data.tokenizer import Tokenizer
from flamingo_jax.errors import UserError
from tests.data.sources import files
from tests.data.test_mixture import same

SIZE = 16


def dataset(folder: Path, kind: Any = "pairs", **fields: Any) -> DatasetConfig:
    sizes = dict(batch_size=2, weight=1.0, length=32, media=1, max_answer_tokens=32)
    if kind == "interleaved":
        sizes |= dict(length=64, media=3, max_answer_tokens=64, p_next=0.5)
    if kind == "video":
        sizes |= dict(frames=4)
    return DatasetConfig(**{"name": kind, "kind": kind, "path": str(folder), **sizes, **fields})


@pytest.fixture
def config(tmp_path: Path) -> MixtureConfig:
    return MixtureConfig(
        (
            dataset(files.obelics(tmp_path / "pages"), "interleaved"),
            dataset(files.webdataset(tmp_path / "pairs"), batch_size=3),
            dataset(files.videos(tmp_path / "videos"), "video"),
        )
    )


def iterator(config: MixtureConfig, tokenizer: Tokenizer, **options: Any) -> Mixture:
    return make_iterator(config, [], tokenizer, 5, image_size=SIZE, **options)


def records(config: DatasetConfig, tokenizer: Tokenizer, seed: int = 5) -> Records:
    return Records(config, open_records(config), tokenizer, SIZE, seed)


def numbers(made: Records, tokenizer: Tokenizer, examples: range) -> list[int]:
    """The captions' numbers of some examples."""
    texts = [tokenizer.decode(finish(made[i])[0]["tokens_BxT"].tolist()) for i in examples]
    return [int(text.split("number")[1].split(",")[0]) for text in texts]


def many(folder: Path, count: int, bad: tuple[int, ...] = ()) -> Path:
    """A table of pairs, some with a damaged image."""
    folder.mkdir()
    rows = [{"image": f"{i}.png", "caption": files.caption(i)} for i in range(count)]
    (folder / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    for i in range(count):
        content = files.picture(i % 25)
        (folder / f"{i}.png").write_bytes(content[:40] if i in bad else content)
    return folder


def test_shapes_and_pixels(config: MixtureConfig, tokenizer: Tokenizer) -> None:
    batches = next(iterator(config, tokenizer))
    for entry in config.datasets:
        batch = batches[entry.name]
        shape = (entry.batch_size, entry.media, entry.frames, SIZE, SIZE, 3)
        assert batch.images_BxNxFxHxWx3.shape == shape
        assert batch.tokens_BxT.shape == batch.loss_mask_BxT.shape == (shape[0], entry.length)
        shown = (batch.images_BxNxFxHxWx3 > 0).any((2, 3, 4, 5)).sum(1)
        np.testing.assert_array_equal(shown, (batch.tokens_BxT == tokenizer.image_id).sum(1))
        assert ((batch.tokens_BxT == tokenizer.image_id) & (batch.loss_mask_BxT > 0)).sum() == 0
        assert batch.media_index_BxT.max() <= entry.media
    pairs = batches["pairs"]
    for row in range(3):
        number = int(tokenizer.decode(pairs.tokens_BxT[row].tolist()).split()[2].strip(","))
        colour = pairs.images_BxNxFxHxWx3[row, 0, 0, SIZE // 2, SIZE // 2]
        np.testing.assert_allclose(colour, (10 * number, 100, 200), atol=4)


def test_every_record_once_an_epoch_in_another_order_each_time(
    tmp_path: Path, tokenizer: Tokenizer
) -> None:
    made = records(dataset(many(tmp_path / "set", 17)), tokenizer)
    epochs = [numbers(made, tokenizer, range(17 * e, 17 * e + 17)) for e in range(3)]
    assert all(sorted(epoch) == list(range(17)) for epoch in epochs)
    assert len({tuple(epoch) for epoch in epochs}) == 3
    other = records(dataset(tmp_path / "set"), tokenizer, seed=6)
    assert numbers(other, tokenizer, range(17)) != epochs[0]


def test_processes_share_an_epoch(tmp_path: Path, tokenizer: Tokenizer) -> None:
    config = MixtureConfig((dataset(many(tmp_path / "set", 12), batch_size=4),))
    whole = iterator(config, tokenizer)
    hosts = [iterator(config, tokenizer, rows={"pairs": rows}) for rows in (range(3), range(3, 4))]
    seen = collections.Counter()
    for _ in range(3):
        expected, parts = next(whole)["pairs"], [next(host)["pairs"] for host in hosts]
        rows = np.concatenate([part.tokens_BxT for part in parts])
        np.testing.assert_array_equal(rows, expected.tokens_BxT)
        seen.update(map(bytes, rows))
    assert len(seen) == 12


@pytest.mark.parametrize("schedule", ["accumulate", "round_robin"])
def test_a_place_in_the_middle_of_an_epoch_can_be_gone_back_to(
    config: MixtureConfig, tokenizer: Tokenizer, schedule: Any
) -> None:
    config = dataclasses.replace(config, schedule=schedule)
    first = iterator(config, tokenizer)
    for _ in range(4):
        next(first)
    place = json.loads(json.dumps(first.get_state()))
    expected = [next(first) for _ in range(4)]
    second = iterator(config, tokenizer)
    second.set_state(place)
    assert all(same(batch, next(second)) for batch in expected)


def test_what_is_skipped_for_a_row_that_others_make_too_is_not_told(
    tmp_path: Path, tokenizer: Tokenizer
) -> None:
    config = MixtureConfig((dataset(many(tmp_path / "set", 12, (3, 7)), batch_size=4),))
    both = {"pairs": range(4)}
    whole, lead, other = (
        iterator(config, tokenizer, rows=both, told=told)
        for told in (None, {"pairs": range(3)}, {"pairs": [3]})
    )
    seen = collections.Counter()
    for _ in range(3):
        for each in (whole, lead, other):
            next(each)
        assert [*lead.skipped["pairs"], *other.skipped["pairs"]] == whole.skipped["pairs"]
        seen.update(problem.source for problem in whole.skipped["pairs"])
    assert seen


def test_a_bad_record_is_replaced_by_the_next_and_told(
    tmp_path: Path, tokenizer: Tokenizer
) -> None:
    good = records(dataset(many(tmp_path / "good", 12)), tokenizer)
    order = numbers(good, tokenizer, range(13))
    bad = (order[3], order[4], order[9])
    config = dataset(many(tmp_path / "bad", 12, bad))
    made = records(config, tokenizer)
    expected = [order[i] for i in (0, 1, 2, 5, 5, 5, 6, 7, 8, 10, 10, 11)]
    assert numbers(made, tokenizer, range(12)) == expected
    told = [problem for i in (3, 4, 9) for problem in finish(made[i])[1]]
    assert [problem.reason for problem in told] == ["corrupt_image"] * 4
    assert told[0].source == f"{config.path}/rows.jsonl#{order[3]}"
    assert told[0].medium is None
    assert not finish(made[0])[1]


def test_a_page_that_loses_an_image_is_kept(tmp_path: Path, tokenizer: Tokenizer) -> None:
    folder = files.obelics(tmp_path / "pages")
    for i in range(files.COUNT):
        (folder / "images" / f"{i}-0.png").unlink()
    mixture = iterator(MixtureConfig((dataset(folder, "interleaved"),)), tokenizer)
    batch = next(mixture)["interleaved"]
    assert ((batch.tokens_BxT == tokenizer.image_id).sum(1) == 1).all()
    problems = mixture.skipped["interleaved"]
    assert [(p.reason, p.share) for p in problems] == [("missing_media", 0.5)] * 2
    assert {str(p.medium)[-6:] for p in problems} == {"-0.png"}


@pytest.mark.parametrize("workers", [0, pytest.param(1, marks=pytest.mark.slow)])
def test_where_nothing_can_be_used_the_run_stops(
    tmp_path: Path, tokenizer: Tokenizer, workers: int
) -> None:
    folder = many(tmp_path / "set", 5, tuple(range(5)))
    mixture = iterator(MixtureConfig((dataset(folder),), workers=workers), tokenizer)
    message = r"Data set pairs: none of 5 records of .* in a row can be used \(corrupt_image 5\)"
    with pytest.raises(UserError, match=message):
        next(mixture)


@pytest.mark.slow
def test_workers_change_nothing_and_tell_of_what_they_skip(
    config: MixtureConfig, tmp_path: Path, tokenizer: Tokenizer
) -> None:
    (Path(str(config.datasets[2].path)) / "1.webm").write_bytes(b"\x1aE\xdf\xa3 no")
    alone = iterator(config, tokenizer)
    expected = [(next(alone), alone.skipped) for _ in range(5)]
    assert any(skipped["video"] for _, skipped in expected)
    ahead = iterator(dataclasses.replace(config, workers=2), tokenizer)
    for batches, skipped in expected:
        assert same(batches, next(ahead))
        assert ahead.skipped == skipped


@pytest.mark.parametrize(
    ("make", "kind", "message"),
    [
        (files.obelics, "video", r"holds pages \(OBELICS\), .* to 'interleaved' or 'pairs'"),
        (files.webdataset, "video", r"holds pairs \(WebDataset\).* to 'pairs' or 'interleaved'"),
        (files.videos, "pairs", r"holds videos \(table\), of which none is made of kind 'pairs'"),
    ],
)
def test_a_source_of_another_kind(
    make: files.Make, kind: str, message: str, tmp_path: Path, tokenizer: Tokenizer
) -> None:
    entry = dataset(make(tmp_path / "set"), kind)
    with pytest.raises(UserError, match=f"^Data set {kind}: .*{message}"):
        iterator(MixtureConfig((entry,)), tokenizer)


def test_a_missing_path_and_episodes_of_files(tokenizer: Tokenizer, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"^Data set pairs: There is no file or folder"):
        iterator(MixtureConfig((dataset(tmp_path / "nothing"),)), tokenizer)
    with pytest.raises(UserError, match=r"Data set x: episodes are made of drawings, not of a/b"):
        DatasetConfig("x", "episodes", 1, 1.0, 8, 1, 8, families={"name": 1.0}, path="a/b")


def test_images_are_changed_only_where_the_text_allows_it() -> None:
    rng = np.random.default_rng(0)
    frames = rng.integers(0, 256, (2, 8, 8, 3), np.uint8)

    def changed(text: str, flip: bool, colour: bool) -> tuple[bool, bool]:
        """Whether some of many drawn were mirrored, and of other colours."""
        mirrored = recoloured = False
        for seed in range(20):
            found = augment(frames, text, flip, colour, np.random.default_rng(seed))
            assert found.shape == frames.shape
            assert found.dtype == np.uint8
            if np.array_equal(found, frames[:, :, ::-1]):
                mirrored = True
            elif not np.array_equal(found, frames):
                recoloured = True
        return mirrored, recoloured

    assert changed("a dog", False, False) == (False, False)
    assert changed("a dog", True, False) == (True, False)
    assert changed("a dog on the left", True, False) == (False, False)
    assert changed("a dog", False, True) == (False, True)
    assert changed("a Red dog", False, True) == (False, False)
