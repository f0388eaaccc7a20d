"""Evaluation images that were trained on, found by perceptual hash."""

from pathlib import Path

import imagehash
import numpy as np
from PIL import Image

from flamingo_jax.data.hashes import read_hashes
from flamingo_jax.evaluation import overlap
from flamingo_jax.evaluation.benchmark import Example, Media


def picture(seed: int) -> Image.Image:
    """Smooth noise, which survives compression."""
    draw = np.random.default_rng(seed).integers(0, 256, (6, 6, 3), np.uint8)
    return Image.fromarray(draw).resize((96, 96), Image.Resampling.BICUBIC)


def test_a_hash_is_imagehashs_and_survives_size_and_compression(tmp_path: Path) -> None:
    image = picture(0)
    value = overlap.medium_hash(np.asarray(image)[None])
    assert f"{value:016x}" == str(imagehash.phash(image))
    image.resize((64, 64)).save(tmp_path / "small.jpg", quality=80)
    small = overlap.medium_hash(np.asarray(Image.open(tmp_path / "small.jpg"))[None])
    assert (value ^ small).bit_count() <= overlap.DISTANCE
    other = overlap.medium_hash(np.asarray(picture(1))[None])
    assert (value ^ other).bit_count() > overlap.DISTANCE


def test_near_is_every_pair_within_the_distance() -> None:
    draw = np.random.default_rng(0)
    known = draw.integers(0, 2**63, 50, np.uint64)
    flips = [0, 1, 0b11, 0b111, 2**63 + 1, 2**63 + 3]
    asked = np.array([known[i] ^ np.uint64(flip) for i, flip in enumerate(flips)], np.uint64)
    expected = [min((int(a) ^ int(k)).bit_count() for k in known) <= 2 for a in asked]
    assert expected == [True, True, True, False, True, False]
    assert overlap.near(asked, known).tolist() == expected
    assert overlap.near(asked, np.zeros(0, np.uint64)).tolist() == [False] * 6


def test_queries_whose_images_were_trained_on_are_counted_once() -> None:
    one, two, three = (Media(Path(name)) for name in ("1", "2", "3"))
    queries = [Example("a", (one,)), Example("b", (two, three)), Example("c", (one, two))]
    found = overlap.overlap("x", queries, {one: 8, two: 2**40 - 1, three: 9}, np.array([8], "u8"))
    assert (found.queries, found.shared, found.examples) == (3, 3, ("a", "b", "c"))
    found = overlap.overlap("x", queries, {one: 255, two: 2**40, three: 8}, np.array([8], "u8"))
    assert (found.shared, found.examples) == (2, ("b", "c"))
    assert found.training_images == 1


def test_files_of_hashes_are_read_as_they_are_written(tmp_path: Path) -> None:
    path = tmp_path / "hashes.txt"
    overlap.write_hashes(path, {Media(Path("x/a.png")): 2**63, Media(Path("b.png")): 7})
    assert path.read_text() == "8000000000000000 a.png\n0000000000000007 b.png\n"
    assert read_hashes(path).tolist() == [2**63, 7]


def test_a_folder_without_drawings_has_no_hashes(tmp_path: Path) -> None:
    assert len(overlap.drawing_hashes(tmp_path)) == 0
