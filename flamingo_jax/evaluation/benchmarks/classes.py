"""Classification: HatefulMemes, RareAct, ImageNet and Kinetics700."""

import json
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import numpy as np

from flamingo_jax.evaluation.benchmark import Answer, Example, File, Score
from flamingo_jax.evaluation.benchmarks.kinds import (
    Classification,
    check_answered,
    mean_score,
)
from flamingo_jax.evaluation.benchmarks.published import (
    MediaFolder,
    Published,
    read_csv,
    read_lines,
)
from flamingo_jax.evaluation.metrics import mean_weighted_average_precision, roc_auc

_MEMES = "https://hatefulmemeschallenge.com"
_RAREACT = "https://github.com/antoine77340/RareAct"
_KAGGLE = "https://www.kaggle.com/c/imagenet-object-localization-challenge"
_CVDF = "https://github.com/cvdfoundation/kinetics-dataset"


class HatefulMemes(Published):
    """HatefulMemes (arXiv:2005.04790): the words of a meme are given."""

    name, title, task = "hatefulmemes", "HatefulMemes", "hateful or not"
    metric, open_ended = "ROC AUC", False
    query, paper_query = "test_seen", "test_seen"
    splits = ("train", "dev_seen", "dev_unseen", "test_seen", "test_unseen")
    files = (
        *(File(f"hateful_memes/{split}.jsonl", _MEMES, (split,)) for split in splits),
        File("hateful_memes/img/", _MEMES),
    )

    def examples(self, data_dir: Path, split: str) -> Iterator[Example]:
        folder = data_dir / "hateful_memes"
        images = MediaFolder(self, folder / "img")
        for row in map(json.loads, read_lines(folder / f"{split}.jsonl")):
            yield Example(
                str(row["id"]),
                images.find(Path(row["img"]).stem),
                row["text"],
                answers=(("no", "yes")[row["label"]],) if "label" in row else (),
                candidates=("yes", "no"),
            )

    def prompt(self, example: Example) -> str:
        """As arXiv:2204.14198v1, §4.1.3."""
        return f'is an image with written: "{example.question}" on it. Is it hateful? Answer:'

    def score(self, examples: Sequence[Example], answers: Sequence[Answer]) -> Score:
        check_answered(examples, answers)
        labels = [example.answers[0] == "yes" for example in examples]
        scores = [answer.log_probs[0] - answer.log_probs[1] for answer in answers]
        return Score(roc_auc(labels, scores))


class RareAct(Published):
    """RareAct (arXiv:2008.01018): unusual actions, by how probable their captions are."""

    name, title, task, video = "rareact", "RareAct", "unusual actions", True
    metric, open_ended = "mWAP", False
    support, query, paper_query = None, "test", "test"
    splits = ("test",)
    withdrawn = True
    files = (
        File("rareact/rareact.csv", _RAREACT),
        File("rareact/videos/", "YouTube videos, named video_id.mp4 as in the annotations"),
    )

    def examples(self, data_dir: Path, split: str) -> Iterator[Example]:
        rows = read_csv(data_dir / "rareact" / "rareact.csv")
        videos = MediaFolder(self, data_dir / "rareact" / "videos")
        actions = {int(row["class_id"]): (row["verb"], row["noun"]) for row in rows}
        captions = tuple(_caption(*actions[number]) for number in sorted(actions))
        for row in rows:
            shown = videos.find(row["video_id"], float(row["start"]), float(row["end"]))
            yield Example(
                row["id"],
                shown,
                f"{row['verb']} {row['noun']}",
                answers=(_caption(row["verb"], row["noun"]),),
                candidates=captions,
                kind=row["annotation"],
                group=row["video_id"],
            )

    def prompt(self, example: Example) -> str:
        """`Caption: a person cuts a keyboard` (arXiv:2204.14198v1, §4.1.3)."""
        return "Caption:"

    def score(self, examples: Sequence[Example], answers: Sequence[Answer]) -> Score:
        check_answered(examples, answers)
        names = {example.answers[0]: example.question for example in examples}
        columns = [n for n, caption in enumerate(examples[0].candidates) if caption in names]
        captions = [examples[0].candidates[n] for n in columns]
        value = mean_weighted_average_precision(
            np.array([answer.log_probs for answer in answers])[:, columns],
            [tuple(names[caption].split(" ", 1)) for caption in captions],
            [captions.index(example.answers[0]) for example in examples],
            [int(example.kind) for example in examples],
            [example.group for example in examples],
        )
        return Score(value)


def _caption(verb: str, noun: str) -> str:
    ending = "es" if verb.endswith(("s", "sh", "ch", "x", "z", "o")) else "s"
    third = f"{verb[:-1]}ies" if verb.endswith(("ry", "ly", "ny", "ty")) else verb + ending
    several = noun.endswith("s")
    article = "" if several else "an " if noun[0] in "aeiou" else "a "
    return f"a person {third} {article}{noun}"


class ImageNet(Classification):
    """ImageNet 2012 (arXiv:1409.0575); a class goes by the first of its names that no other has."""

    name, title, task = "imagenet", "ImageNet", "objects"
    query, paper_query = "val", "val"
    splits = ("train", "val")
    files = (
        File("imagenet/LOC_synset_mapping.txt", _KAGGLE),
        File("imagenet/LOC_val_solution.csv", _KAGGLE, ("val",)),
        File(
            "imagenet/train/", f"{_KAGGLE} or https://image-net.org, a folder a class", ("train",)
        ),
        File("imagenet/val/", f"{_KAGGLE} or https://image-net.org", ("val",)),
    )

    def examples(self, data_dir: Path, split: str) -> Iterator[Example]:
        folder = data_dir / "imagenet"
        names = class_names(read_lines(folder / "LOC_synset_mapping.txt"))
        images = MediaFolder(self, folder / split)
        candidates = tuple(names.values())
        if split == "train":
            labels = {path.stem: path.parent.name for path in sorted(images.paths())}
        else:
            rows = read_csv(folder / "LOC_val_solution.csv")
            labels = {row["ImageId"]: row["PredictionString"].split()[0] for row in rows}
        for stem, label in labels.items():
            yield Example(stem, images.find(stem), answers=(names[label],), candidates=candidates)


_CLEARER = {"n03126707": ("construction crane",)}
"""Names in the place of those given: both the bird and the machine are `crane` and nothing else."""


def class_names(lines: Iterable[str]) -> dict[str, str]:
    """Names by WordNet number, of lines such as `n01440764 tench, Tinca tinca`."""
    given = {
        number: _CLEARER.get(number) or tuple(name.strip() for name in names.split(","))
        for number, names in (line.strip().split(" ", 1) for line in lines)
    }
    used = Counter(names[0] for names in given.values())
    return {
        number: names[0] if used[names[0]] == 1 else ", ".join(names)
        for number, names in given.items()
    }


class Kinetics700(Classification):
    """Kinetics-700-2020 (arXiv:2010.10864): the mean of top-1 and top-5 accuracy."""

    name, title, task, video = "kinetics700", "Kinetics700", "actions", True
    metric = "mean of top-1 and top-5 accuracy"
    query, paper_query = "val", "val"
    splits = ("train", "val")
    withdrawn = True
    files = (
        File("kinetics700/annotations/train.csv", f"k700-2020, {_CVDF}"),
        File("kinetics700/annotations/val.csv", f"k700-2020, {_CVDF}", ("val",)),
        File("kinetics700/train/", f"k700-2020, {_CVDF}", ("train",)),
        File("kinetics700/val/", f"k700-2020, {_CVDF}", ("val",)),
    )

    def examples(self, data_dir: Path, split: str) -> Iterator[Example]:
        folder = data_dir / "kinetics700"
        labels = {row["label"] for row in read_csv(folder / "annotations" / "train.csv")}
        candidates = tuple(sorted(labels))
        videos = MediaFolder(self, folder / split)
        for row in read_csv(folder / "annotations" / f"{split}.csv"):
            start, end = int(float(row["time_start"])), int(float(row["time_end"]))
            name = f"{row['youtube_id']}_{start:06d}_{end:06d}"
            yield Example(name, videos.find(name), answers=(row["label"],), candidates=candidates)

    def score(self, examples: Sequence[Example], answers: Sequence[Answer]) -> Score:
        return mean_score(examples, answers, _top_1_and_5)


def _top_1_and_5(example: Example, answer: Answer) -> float:
    order = np.argsort(-np.array(answer.log_probs), kind="stable")
    right = [example.candidates[n] in example.answers for n in order[:5]]
    return (right[0] + any(right)) / 2
