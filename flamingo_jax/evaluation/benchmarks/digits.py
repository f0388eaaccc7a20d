"""Handwritten digits: a benchmark that needs no download, to try the suite on something real."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from flamingo_jax.checkpoints.files import new_folder
from flamingo_jax.evaluation.benchmark import Example, Media
from flamingo_jax.evaluation.benchmarks.kinds import Classification
from flamingo_jax.evaluation.benchmarks.published import read_json

_WORDS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
_TRAIN = 1000  # the first; the writers of the rest are others


class Digits(Classification):
    """scikit-learn's digits (UCI's Optical Recognition of Handwritten Digits, its test part).

    The pictures, 8 x 8 pixels enlarged, dark on white, are written below the data folder when they
    are first read.
    """

    name, title, task = "digits", "Digits", "handwritten digits"
    query, paper_query = "test", "test"
    splits = ("train", "test")
    files = ()

    def read(self, data_dir: Path, split: str) -> list[Example]:
        """See `Benchmark.read`."""
        if not (data_dir / "digits").is_dir():
            with new_folder(data_dir / "digits") as folder:
                write(folder)
        return super().read(data_dir, split)

    def examples(self, data_dir: Path, split: str) -> Iterator[Example]:
        labels = read_json(data_dir / "digits" / "labels.json")
        chosen = range(_TRAIN) if split == "train" else range(_TRAIN, len(labels))
        for number in chosen:
            shown = Media(data_dir / "digits" / f"{number:04d}.png")
            word = _WORDS[labels[number]]
            yield Example(str(number), (shown,), answers=(word,), candidates=_WORDS)


def write(folder: Path) -> None:
    """Writes NUMBER.png, 64 x 64 pixels, for each digit, and labels.json."""
    from sklearn import datasets

    digits: Any = datasets.load_digits()
    for number, image in enumerate(digits.images):
        grey = np.round(255 - image * (255 / 16)).astype(np.uint8)
        picture = Image.fromarray(grey).resize((64, 64), Image.Resampling.BICUBIC)
        picture.save(folder / f"{number:04d}.png")
    (folder / "labels.json").write_text(json.dumps(digits.target.tolist()), encoding="utf-8")
