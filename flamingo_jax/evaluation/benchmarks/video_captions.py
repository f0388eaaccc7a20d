"""Captions of videos: VATEX and YouCook2."""

from collections.abc import Iterator
from pathlib import Path

from flamingo_jax.evaluation.benchmark import Example, File
from flamingo_jax.evaluation.benchmarks.kinds import Captioning
from flamingo_jax.evaluation.benchmarks.published import MediaFolder, read_json

_VATEX = "https://eric-xw.github.io/vatex-website/download.html"
_VATEX_FILES = {
    "train": "vatex_training_v1.0.json",
    "val": "vatex_validation_v1.0.json",
    "test": "vatex_public_test_english_v1.1.json",
}
_YOUCOOK = "http://youcook2.eecs.umich.edu/download"


class Vatex(Captioning):
    """VATEX (arXiv:1904.03493), the English captions; test is the public one."""

    name, title, task, video = "vatex", "VATEX", "video captions", True
    query, paper_query = "test", "test"
    splits = ("train", "val", "test")
    withdrawn = True
    files = (
        *(File(f"vatex/{name}", _VATEX, (split,)) for split, name in _VATEX_FILES.items()),
        File("vatex/videos/", "parts of YouTube videos, named videoID.mp4 as in the annotations"),
    )

    def examples(self, data_dir: Path, split: str) -> Iterator[Example]:
        videos = MediaFolder(self, data_dir / "vatex" / "videos")
        for row in read_json(data_dir / "vatex" / _VATEX_FILES[split]):
            name = row["videoID"]
            yield Example(name, videos.find(name), answers=tuple(row["enCap"]))


class Youcook2(Captioning):
    """YouCook2 (arXiv:1703.09788): a sentence for each step of a recipe."""

    name, title, task, video = "youcook2", "YouCook2", "captions of recipes' steps", True
    query, paper_query = "val", "val"
    splits = ("train", "val")
    withdrawn = True
    files = (
        File(
            "youcook2/youcookii_annotations_trainval.json",
            f"youcookii_annotations_trainval.tar.gz, {_YOUCOOK}",
        ),
        File("youcook2/raw_videos/", f"YouTube videos by the scripts of {_YOUCOOK}"),
    )

    def examples(self, data_dir: Path, split: str) -> Iterator[Example]:
        folder = data_dir / "youcook2"
        videos = MediaFolder(self, folder / "raw_videos")
        subset = {"train": "training", "val": "validation"}[split]
        database = read_json(folder / "youcookii_annotations_trainval.json")["database"]
        for name, video in database.items():
            if video["subset"] != subset:
                continue
            for step in video["annotations"]:
                start, end = map(float, step["segment"])
                yield Example(
                    f"{name}_{step['id']}",
                    videos.find(name, start, end),
                    answers=(step["sentence"],),
                    group=name,
                )
