"""The TFDS builder `captioned`: a few pictures and captions."""

import io
from collections.abc import Iterator
from typing import Any

import tensorflow_datasets as tfds

from tests.data.sources import files


class Captioned(tfds.core.GeneratorBasedBuilder):
    """Pictures with captions."""

    VERSION = tfds.core.Version("1.0.0")

    def _info(self) -> tfds.core.DatasetInfo:
        features: dict[str, Any] = {
            "image": tfds.features.Image(shape=(None, None, 3), encoding_format="png"),
            "caption": tfds.features.Text(),
        }
        return tfds.core.DatasetInfo(builder=self, features=tfds.features.FeaturesDict(features))

    def _split_generators(self, dl_manager: Any) -> dict[str, Any]:
        del dl_manager
        return {"train": self._generate_examples()}

    def _generate_examples(self) -> Iterator[tuple[int, dict[str, Any]]]:
        for i in range(files.COUNT):
            yield i, {"image": io.BytesIO(files.picture(i)), "caption": files.caption(i)}
