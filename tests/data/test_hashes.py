"""Files of perceptual hashes."""

import io
from pathlib import Path

import imagehash
import pytest
from PIL import ExifTags, Image, ImageOps

from flamingo_jax.data.hashes import perceptual_hash, read_hashes, write_hashes
from flamingo_jax.errors import UserError
from tests.data.web.pages import picture


def test_a_file_of_hashes(tmp_path: Path) -> None:
    shown = [Image.open(io.BytesIO(picture(seed))) for seed in (1, 2)]
    path = tmp_path / "hashes.txt"
    path.write_text(f"# VQA\n{imagehash.phash(shown[0])} a b.png\n\n{imagehash.phash(shown[1])}\n")
    assert read_hashes(path).tolist() == [perceptual_hash(image) for image in shown]
    path.write_text("0123456789abcdef\nphoto.png\n")
    with pytest.raises(UserError, match=r"line 2: 'photo\.png' is no perceptual hash"):
        read_hashes(path)
    with pytest.raises(UserError, match="cannot be read as perceptual hashes"):
        read_hashes(tmp_path / "none")


def test_a_turned_photo_is_hashed_as_it_is_seen(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = 6
    path = tmp_path / "a.jpg"
    path.write_bytes(picture(1, 400, 300, "JPEG", exif=exif))
    write_hashes([path], tmp_path / "hashes")
    upright = ImageOps.exif_transpose(Image.open(path))
    assert read_hashes(tmp_path / "hashes").tolist() == [int(str(imagehash.phash(upright)), 16)]


def test_what_is_written_is_read(tmp_path: Path) -> None:
    names = [tmp_path / f"a {seed}.jpg" for seed in range(3)]
    for seed, name in enumerate(names):
        name.write_bytes(picture(seed, kind="JPEG"))
    assert write_hashes(names, tmp_path / "hashes") == 3
    expected = [int(str(imagehash.phash(Image.open(name))), 16) for name in names]
    assert read_hashes(tmp_path / "hashes").tolist() == expected
    names[1].write_bytes(b"damaged")
    with pytest.raises(UserError, match=r"a 1\.jpg cannot be decoded"):
        write_hashes(names, tmp_path / "other")
