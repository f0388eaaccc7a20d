"""The drawings and their split: nothing held out may be seen in training."""

import shutil
from pathlib import Path

import numpy as np
import pytest

from flamingo_jax.data.colours import dominant_colour
from flamingo_jax.data.drawings import SPLITS, Drawing, load_drawings
from flamingo_jax.data.openmoji import builder
from flamingo_jax.data.openmoji.catalogue import CATEGORIES, base_of, split_of
from flamingo_jax.errors import UserError


def test_no_base_is_in_two_splits(drawings: list[Drawing]) -> None:
    by_split = {split: {d.base for d in drawings if d.split == split} for split in SPLITS}
    assert not by_split["train"] & by_split["test"]
    assert not by_split["train"] & by_split["validation"]
    assert not by_split["validation"] & by_split["test"]
    share = len(by_split["test"]) / sum(len(bases) for bases in by_split.values())
    assert 0.13 < share < 0.17


def test_no_picture_is_in_two_splits(drawings: list[Drawing]) -> None:
    seen: dict[bytes, str] = {}
    for drawing in drawings:
        assert seen.setdefault(drawing.image.tobytes(), drawing.split) == drawing.split


def test_english_names_without_skin_tone_are_in_one_split(drawings: list[Drawing]) -> None:
    """An independent look at variants: names that differ in skin tone or gender words alone."""
    splits: dict[str, set[str]] = {}
    tones = ("medium-light", "medium-dark", "light", "dark", "medium")
    for drawing in drawings:
        name = drawing.names["en"]
        for tone in tones:
            name = name.replace(f" {tone} skin tone", "")
        if drawing.category == "people":
            words = [w for w in name.split() if w not in ("man", "woman", "person")]
            if words and words != name.split():
                splits.setdefault(" ".join(words), set()).add(drawing.split)
        else:
            splits.setdefault(name, set()).add(drawing.split)
    mixed = {name for name, found in splits.items() if len(found) > 1}
    assert not mixed


def test_all_categories_and_shapes(drawings: list[Drawing]) -> None:
    assert {drawing.category for drawing in drawings} == set(CATEGORIES.values())
    assert {drawing.image.shape for drawing in drawings} == {(64, 64, 3)}
    assert all(drawing.names["en"] for drawing in drawings)


@pytest.mark.parametrize(
    ("code", "base"),
    [
        ("1F44B-1F3FD", "1F44B"),
        ("1F469-1F3FE-200D-1F680", "1F9D1-200D-1F680"),
        ("1F3C3-200D-2640", "1F3C3"),
        ("1F468-200D-1F9B0", "1F9D1"),
        ("1F468-200D-1F469-200D-1F466", "1F46A"),
        ("1F469-1F3FB-200D-2764-200D-1F48B-200D-1F468-1F3FF", "1F48F"),
        ("1F1E9-1F1EA", "1F1E9-1F1EA"),
    ],
)
def test_base(code: str, base: str) -> None:
    assert base_of(tuple(code.split("-"))) == base


def test_bases_drawn_alike_are_one() -> None:
    same = builder.merged_bases([("a", _png(0)), ("b", _png(1)), ("c", _png(0)), ("d", _png(1))])
    assert same == {"a": "a", "b": "b", "c": "a", "d": "b"}


def _png(value: int) -> bytes:
    import io

    from PIL import Image

    buffer = io.BytesIO()
    Image.new("RGB", (2, 2), (value, 0, 0)).save(buffer, "PNG")
    return buffer.getvalue()


def test_split_is_by_hash() -> None:
    found = [split_of(str(i)) for i in range(4000)]
    assert 0.13 < found.count("test") / 4000 < 0.17
    assert 0.05 < found.count("validation") / 4000 < 0.09


def test_a_drawing_that_cannot_be_rendered_is_counted(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    entries = builder.catalogue()[:3]
    monkeypatch.setattr(builder, "catalogue", lambda: entries)
    real = builder.render

    def render(path: str) -> bytes:
        if path == str(entries[1].svg):
            raise ValueError("damaged")
        return real(path)

    monkeypatch.setattr(builder, "render", render)
    assert [entry.code for entry, _ in builder.rendered()] == [entries[0].code, entries[2].code]
    assert "1 drawings could not be rendered" in caplog.text


@pytest.fixture(scope="module")
def few(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[Drawing]]:
    """A data set of every thirtieth drawing, and what is read from it."""
    folder = tmp_path_factory.mktemp("few")
    with pytest.MonkeyPatch.context() as patch:
        entries = builder.catalogue()[::30]
        patch.setattr(builder, "catalogue", lambda: entries)
        return folder, load_drawings(folder)


def records(folder: Path, split: str) -> Path:
    (path,) = folder.rglob(f"*-{split}.array_record*")
    return path


def test_damaged_records_are_left_out_and_counted(
    few: tuple[Path, list[Drawing]], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    folder, drawings = shutil.copytree(few[0], tmp_path / "data"), few[1]
    path = records(folder, "train")
    content = bytearray(path.read_bytes())
    middle = len(content) // 2
    content[middle : middle + 64] = bytes(64)
    path.write_bytes(content)
    read = load_drawings(folder)
    assert 0 < len(drawings) - len(read) <= 3
    assert f"{len(drawings) - len(read)} damaged records" in caplog.text
    images = {drawing.code: drawing.image for drawing in drawings}
    assert all((drawing.image == images[drawing.code]).all() for drawing in read)


@pytest.mark.parametrize("kind", ["truncated", "zeroed", "deleted"])
@pytest.mark.parametrize("name", ["*-train.array_record*", "dataset_info.json"])
def test_a_damaged_file_says_what_to_do(
    few: tuple[Path, list[Drawing]], tmp_path: Path, name: str, kind: str
) -> None:
    folder = shutil.copytree(few[0], tmp_path / "data")
    (path,) = folder.rglob(name)
    content = path.read_bytes()
    path.write_bytes({"truncated": content[:100], "zeroed": bytes(len(content))}.get(kind, b""))
    if kind == "deleted":
        path.unlink()
    with pytest.raises(UserError, match="delete that folder and run again") as caught:
        load_drawings(folder)
    assert "\n" not in str(caught.value)
    assert str(folder) in str(caught.value)


def test_a_killed_writers_leftovers_go(few: tuple[Path, list[Drawing]], tmp_path: Path) -> None:
    folder = shutil.copytree(few[0], tmp_path / "data")
    leftover = folder / "openmoji" / "1.0.0.incompleteABC123"
    shutil.copytree(folder / "openmoji" / "1.0.0", leftover)
    assert len(load_drawings(folder)) == len(few[1])
    assert not leftover.exists()


@pytest.mark.parametrize(
    ("rgb", "word"), [((220, 30, 30), "red"), ((40, 90, 220), "blue"), ((120, 70, 30), "brown")]
)
def test_colour(rgb: tuple[int, int, int], word: str) -> None:
    image = np.full((64, 64, 3), 255, np.uint8)
    image[10:50, 10:50] = rgb
    assert dominant_colour(image) == word
    assert dominant_colour(np.full((64, 64, 3), 255, np.uint8)) is None
