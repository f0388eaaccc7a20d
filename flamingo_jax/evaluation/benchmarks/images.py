"""Captions of images: COCO and Flickr30K."""

from collections.abc import Iterator
from pathlib import Path

from flamingo_jax.evaluation.benchmark import Example, File
from flamingo_jax.evaluation.benchmarks.kinds import Captioning
from flamingo_jax.evaluation.benchmarks.published import MediaFolder, grouped, read_json, read_lines

_KARPATHY = "caption_datasets.zip of https://cs.stanford.edu/people/karpathy/deepimagesent"
_COCO = "https://cocodataset.org/#download"
COCO_IMAGES = (
    File("coco/train2014/", f"train2014.zip, {_COCO}"),
    File("coco/val2014/", f"val2014.zip, {_COCO}"),
)


class Coco(Captioning):
    """COCO captions (arXiv:1504.00325) in the splits of Karpathy and Fei-Fei (arXiv:1412.2306)."""

    name, title, task = "coco", "COCO", "image captions"
    query, paper_query = "test", "test (Karpathy)"
    splits = ("train", "val", "test")
    files = (
        File("coco/dataset_coco.json", _KARPATHY),
        File("coco/annotations/captions_train2014.json", f"annotations_trainval2014.zip, {_COCO}"),
        File("coco/annotations/captions_val2014.json", f"annotations_trainval2014.zip, {_COCO}"),
        *COCO_IMAGES,
    )

    def examples(self, data_dir: Path, split: str) -> Iterator[Example]:
        folder = data_dir / "coco"
        captions = grouped(
            (row["image_id"], row["caption"])
            for years in ("train2014", "val2014")
            for row in read_json(folder / f"annotations/captions_{years}.json")["annotations"]
        )
        images = MediaFolder(self, folder / "train2014", folder / "val2014")
        for image in read_json(folder / "dataset_coco.json")["images"]:
            if image["split"] == split:
                shown = images.find(image["filename"].rsplit(".", 1)[0])
                yield Example(
                    str(image["cocoid"]),
                    shown,
                    answers=tuple(captions[image["cocoid"]]),
                )


class Flickr30k(Captioning):
    """Flickr30K (TACL 2014, Q14-1006) in the splits of Karpathy and Fei-Fei."""

    name, title, task = "flickr30k", "Flickr30K", "image captions"
    query, paper_query = "test", "test (Karpathy)"
    splits = ("train", "val", "test")
    _SOURCE = "form on https://shannon.cs.illinois.edu/DenotationGraph"
    files = (
        File("flickr30k/dataset_flickr30k.json", _KARPATHY),
        File("flickr30k/results_20130124.token", f"flickr30k.tar.gz, {_SOURCE}"),
        File("flickr30k/flickr30k-images/", f"flickr30k-images.tar, {_SOURCE}"),
    )

    def examples(self, data_dir: Path, split: str) -> Iterator[Example]:
        folder = data_dir / "flickr30k"
        captions = grouped(map(_caption, read_lines(folder / "results_20130124.token")))
        images = MediaFolder(self, folder / "flickr30k-images")
        for image in read_json(folder / "dataset_flickr30k.json")["images"]:
            if image["split"] == split:
                stem = image["filename"].rsplit(".", 1)[0]
                shown = images.find(stem)
                yield Example(stem, shown, answers=tuple(captions[stem]))


def _caption(line: str) -> tuple[str, str]:
    """Image and caption of a line such as `1000092795.jpg#0<tab>Two young guys …`."""
    name, caption = line.split("\t", 1)
    return name.split("#")[0].rsplit(".", 1)[0], caption.strip()
