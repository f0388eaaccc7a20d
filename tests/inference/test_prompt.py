"""Prompts and images as users give them."""

import io

import numpy as np
import pytest
from PIL import Image

from flamingo_jax.data.sequences import last_media
from flamingo_jax.errors import UserError
from flamingo_jax.inference.prompt import check_lengths, media_index, read_media, read_prompt
from tests.inference.conftest import SIZE

RED = np.zeros((SIZE, SIZE, 3), np.uint8) + np.array([255, 0, 0], np.uint8)


def test_tokens_and_media(tokenizer):
    prompt = read_prompt("<image>a b<|endofchunk|><image>c", [RED, RED], tokenizer, SIZE)
    assert prompt.tokens == (0, 1, 3, 4, 2, 1, 5)
    assert [frames.shape for frames in prompt.media] == [(1, SIZE, SIZE, 3)] * 2
    assert media_index(np.array(prompt.tokens), (1,)).tolist() == last_media(prompt.tokens, 1)


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP", "GIF"])
@pytest.mark.parametrize("as_bytes", [True, False])
def test_files(tmp_path, kind, as_bytes):
    path = tmp_path / "picture"
    Image.fromarray(RED).save(path, kind)
    frames = read_media(path.read_bytes() if as_bytes else str(path), SIZE)
    assert frames.shape == (1, SIZE, SIZE, 3)
    assert np.abs(frames[0].astype(int) - RED).max() <= 3


def test_transparency_is_white():
    clear = Image.new("RGBA", (SIZE, SIZE), (0, 0, 0, 0))
    assert (read_media(clear, SIZE) == 255).all()


def test_a_wide_image_gets_white_borders():
    fitted = read_media(np.zeros((10, 20, 3), np.uint8), SIZE)[0]
    assert (fitted[: SIZE // 4] == 255).all()
    assert (fitted[SIZE // 4 : -SIZE // 4] == 0).all()


def test_frames():
    assert read_media([RED, Image.fromarray(RED), RED], SIZE).shape == (3, SIZE, SIZE, 3)
    assert read_media(np.stack([RED, RED]), SIZE).shape == (2, SIZE, SIZE, 3)


def test_counts_differ(tokenizer):
    with pytest.raises(UserError, match="2 <image> markers but 1 images"):
        read_prompt("<image>a<image>b", [RED], tokenizer, SIZE)


def test_unreadable_files(tmp_path):
    broken = tmp_path / "broken.png"
    broken.write_bytes(b"not an image")
    for path in (broken, tmp_path / "missing.png"):
        with pytest.raises(UserError, match=path.name):
            read_media(path, SIZE)
    with pytest.raises(UserError):
        read_media(io.BytesIO(b"").getvalue(), SIZE)


@pytest.mark.parametrize(
    "array", [np.zeros((4, 4, 3)), np.zeros((4, 4), np.uint8), np.zeros((0, 4, 3), np.uint8)]
)
def test_wrong_arrays(array):
    with pytest.raises(UserError, match="uint8"):
        read_media(array, SIZE)


def test_not_an_image():
    with pytest.raises(UserError, match="path"):
        read_media(7, SIZE)  # pyright: ignore[reportArgumentType]


def test_over_long_prompt(tokenizer):
    prompt = read_prompt("a b c", [], tokenizer, SIZE)
    check_lengths([prompt], [6], 10)
    with pytest.raises(UserError, match=r"Prompt 2 has 4 tokens and 7 .* max_tokens is 10"):
        check_lengths([prompt, prompt], [6, 7], 10)


@pytest.mark.parametrize(("size", "box"), [((2000, 3), (0, 3, 8, 4)), ((1, 500), (4, 0, 5, 8))])
def test_a_hair_of_an_image_keeps_one_pixel(size, box):
    (fitted,) = read_media(Image.new("RGB", size), SIZE)
    left, top, right, bottom = box
    expected = np.full((SIZE, SIZE, 3), 255, np.uint8)
    expected[max(top, 0) : bottom, left:right] = 0
    assert (fitted == 0).all(-1).sum() == SIZE
    assert fitted.shape == expected.shape


def test_a_pil_image_is_turned_as_its_exif_says():
    exif, buffer = Image.Exif(), io.BytesIO()
    exif[0x0112] = 6  # shown a quarter turn clockwise
    picture = Image.new("RGB", (SIZE, SIZE))
    picture.paste((255, 0, 0), (0, 0, SIZE // 2, SIZE))
    picture.save(buffer, "PNG", exif=exif)
    (fitted,) = read_media(Image.open(buffer), SIZE)
    assert (fitted[: SIZE // 2] == (255, 0, 0)).all()
    assert (fitted[SIZE // 2 :] == 0).all()


def test_sixteen_bits_become_eight():
    grey = Image.fromarray(np.full((SIZE, SIZE), 100 * 257, np.uint16))
    assert (read_media(grey, SIZE) == 100).all()
