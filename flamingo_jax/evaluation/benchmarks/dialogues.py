"""Dialogues about images: VisDial."""

from collections.abc import Iterator, Sequence
from pathlib import Path

from flamingo_jax.evaluation.benchmark import Answer, Example, File, Media, Score
from flamingo_jax.evaluation.benchmarks.images import COCO_IMAGES
from flamingo_jax.evaluation.benchmarks.kinds import mean_score
from flamingo_jax.evaluation.benchmarks.published import MediaFolder, Published, read_json
from flamingo_jax.evaluation.metrics import ndcg

_SOURCE = "https://visualdialog.org/data"


class VisDial(Published):
    """VisDial 1.0 (arXiv:1611.08669): the next answer among 100.

    The turns that were annotated densely are asked; of a training dialogue the last turn.
    """

    name, title, task = "visdial", "VisDial", "dialogues about images"
    metric, open_ended = "NDCG", False
    query, paper_query = "val", "val"
    splits = ("train", "val")
    files = (
        *(
            File(f"visdial/visdial_1.0_{split}.json", _SOURCE, (split,))
            for split in ("train", "val")
        ),
        File("visdial/visdial_1.0_val_dense_annotations.json", _SOURCE, ("val",)),
        File("visdial/VisualDialog_val2018/", f"VisualDialog_val2018.zip, {_SOURCE}", ("val",)),
        *(File(file.path, file.source, ("train",)) for file in COCO_IMAGES),
    )

    def examples(self, data_dir: Path, split: str) -> Iterator[Example]:
        folder = data_dir / "visdial"
        data = read_json(folder / f"visdial_1.0_{split}.json")["data"]
        coco, rounds = data_dir / "coco", {}
        folders = (coco / "train2014", coco / "val2014")
        if split == "val":
            folders = (folder / "VisualDialog_val2018",)
            dense = read_json(folder / "visdial_1.0_val_dense_annotations.json")
            rounds = {row["image_id"]: row for row in dense}
        images = MediaFolder(self, *folders)
        for dialogue in data["dialogs"]:
            asked = rounds.get(dialogue["image_id"])
            if split == "train" or asked:
                shown = _image(images, dialogue["image_id"], split)
                yield _example(data, dialogue, asked, shown)

    def prompt(self, example: Example) -> str:
        """Caption, earlier turns, question (arXiv:2204.14198v1, §4.1.3)."""
        return f"{example.context} Question: {example.question} Answer:"

    def score(self, examples: Sequence[Example], answers: Sequence[Answer]) -> Score:
        return mean_score(examples, answers, _ndcg)


def _ndcg(example: Example, answer: Answer) -> float:
    return ndcg(answer.log_probs, example.relevance)


def _image(images: MediaFolder, number: int, split: str) -> tuple[Media, ...]:
    if split == "val":
        return images.find(f"VisualDialog_val2018_{number:012d}")
    name = f"COCO_train2014_{number:012d}"
    other = f"COCO_val2014_{number:012d}"
    return images.find(other if other in images else name)


def _example(data: dict, dialogue: dict, asked: dict | None, shown: tuple[Media, ...]) -> Example:
    questions, answers, turns = data["questions"], data["answers"], dialogue["dialog"]
    at = asked["round_id"] - 1 if asked else len(turns) - 1
    earlier = (
        f"Question: {questions[turn['question']]} Answer: {answers[turn['answer']]}"
        for turn in turns[:at]
    )
    turn = turns[at]
    return Example(
        str(dialogue["image_id"]),
        shown,
        questions[turn["question"]],
        context=" ".join((dialogue["caption"], *earlier)),
        answers=(answers[turn["answer"]],),
        candidates=tuple(answers[option] for option in turn["answer_options"]),
        relevance=tuple(asked["gt_relevance"]) if asked else (),
    )
