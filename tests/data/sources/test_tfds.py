"""TFDS data sets: which feature is the caption."""

import io
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorflow_datasets as tfds

from flamingo_jax.data.bad_records import BadRecord
from flamingo_jax.data.documents import Document
from flamingo_jax.data.sources.opening import open_source
from flamingo_jax.errors import UserError
from tests.data.sources import files

LABEL = tfds.features.ClassLabel(names=["daisy", "rose"])


class Flowers(tfds.core.GeneratorBasedBuilder):
    """A picture, and more features of it."""

    VERSION = tfds.core.Version("1.0.0")

    def __init__(self, features: dict[str, Any], example: dict[str, Any], **options: Any) -> None:
        self._features, self._example = features, example
        super().__init__(file_format="array_record", **options)

    def _info(self) -> tfds.core.DatasetInfo:
        image = tfds.features.Image(shape=(None, None, 3), encoding_format="png")
        features = tfds.features.FeaturesDict({"image": image, **self._features})
        return tfds.core.DatasetInfo(builder=self, features=features)

    def _split_generators(self, dl_manager: Any) -> dict[str, Any]:
        del dl_manager
        return {"train": self._generate_examples()}

    def _generate_examples(self) -> Iterator[tuple[int, dict[str, Any]]]:
        yield 0, {"image": io.BytesIO(files.picture(0)), **self._example}


def prepared(folder: Path, features: dict[str, Any], example: dict[str, Any]) -> Path:
    """A data set of one picture, as TFDS writes it."""
    tfds.disable_progress_bar()
    build: Any = Flowers
    build(features, example, data_dir=folder).download_and_prepare()
    return folder / "flowers"


def only(path: Path) -> Document:
    source = open_source(path)
    assert (source.schema.format, len(source)) == ("TFDS", 1)
    return source[0]


@pytest.mark.parametrize(
    "name",
    [
        *("file_name", "image/filename", "image/file_name", "filename", "path"),
        *("id", "image_id", "image/id", "url", "image_url"),
    ],
)
def test_names_of_files_are_no_captions(tmp_path: Path, name: str) -> None:
    features = {name: tfds.features.Text(), "label": LABEL}
    path = prepared(tmp_path, features, {name: "image_06734.jpg", "label": 1})
    assert only(path).items[1] == "rose"


def test_a_data_set_of_names_alone_has_no_caption(tmp_path: Path) -> None:
    path = prepared(tmp_path, {"file_name": tfds.features.Text()}, {"file_name": "a.jpg"})
    with pytest.raises(UserError, match=r"a text or a class label, are needed"):
        open_source(path)


def test_captions_in_a_list_with_their_numbers(tmp_path: Path) -> None:
    """As coco_captions has them."""
    told = tfds.features.Sequence({"id": np.int64, "text": np.str_})
    features = {"image/filename": tfds.features.Text(), "captions": told}
    said = [{"id": 3, "text": "A red rose."}, {"id": 4, "text": "A flower."}]
    name = "COCO_train2014_000000000009.jpg"
    path = prepared(tmp_path, features, {"image/filename": name, "captions": said})
    document = only(path)
    assert document.items[1] == "A red rose."
    medium = document.items[0]
    assert not isinstance(medium, str)
    assert medium.name == name


def test_a_plain_string_is_a_text(tmp_path: Path) -> None:
    features = {"caption": np.str_, "number": np.int64, "label": LABEL}
    path = prepared(tmp_path, features, {"caption": "A red rose.", "number": 1, "label": 0})
    assert only(path).items[1] == "A red rose."


def test_a_label_that_is_not_known_is_no_caption(tmp_path: Path) -> None:
    path = prepared(tmp_path, {"label": LABEL}, {"label": -1})
    with pytest.raises(BadRecord, match="class label -1 has no name") as error:
        only(path)
    assert error.value.reason == "empty"
