"""Questions about images: VQAv2, OKVQA, VizWiz and TextVQA, all scored by VQA accuracy."""

import re
from collections.abc import Iterator, Sequence
from pathlib import Path

from flamingo_jax.evaluation.benchmark import Answer, Example, File, Score
from flamingo_jax.evaluation.benchmarks.images import COCO_IMAGES
from flamingo_jax.evaluation.benchmarks.kinds import QuestionAnswering, mean_score
from flamingo_jax.evaluation.benchmarks.published import MediaFolder, read_json
from flamingo_jax.evaluation.metrics import okvqa_stems, vqa_accuracy

_VQA = "https://visualqa.org/download.html"
_OKVQA = "https://okvqa.allenai.org/download.html"
_VIZWIZ = "https://vizwiz.org/tasks-and-datasets/vqa"
_TEXTVQA = "https://textvqa.org/dataset"


class VqaAccuracy(QuestionAnswering):
    """Ten answers to each question."""

    metric = "VQA accuracy"

    def postprocess(self, text: str) -> str:
        """What stands before a next question or answer, and before a comma.

        As OpenFlamingo does (arXiv:2308.01390).
        """
        return re.split("Question|Answer|Short|, ", text, maxsplit=1)[0].strip()

    def score(self, examples: Sequence[Example], answers: Sequence[Answer]) -> Score:
        return mean_score(
            examples, answers, lambda example, answer: vqa_accuracy(answer.text, example.answers)
        )


class Vqav2(VqaAccuracy):
    """VQAv2 (arXiv:1612.00837). The answers of the test splits are known to its server alone."""

    name, title, task = "vqav2", "VQAv2", "questions about images"
    query, paper_query = "val", "test-dev"
    splits = ("train", "val", "test-dev", "test")
    files = (
        *(
            File(f"vqav2/v2_OpenEnded_mscoco_{part}_questions.json", f"questions, {_VQA}", (split,))
            for split, part in (
                ("train", "train2014"),
                ("val", "val2014"),
                ("test-dev", "test-dev2015"),
                ("test", "test2015"),
            )
        ),
        File("vqav2/v2_mscoco_train2014_annotations.json", f"annotations, {_VQA}", ("train",)),
        File("vqav2/v2_mscoco_val2014_annotations.json", f"annotations, {_VQA}", ("val",)),
        File(COCO_IMAGES[0].path, COCO_IMAGES[0].source, ("train",)),
        File(COCO_IMAGES[1].path, COCO_IMAGES[1].source, ("val",)),
        File("coco/test2015/", f"test2015.zip, {_VQA}", ("test-dev", "test")),
    )

    def examples(self, data_dir: Path, split: str) -> Iterator[Example]:
        year = "2015" if split.startswith("test") else "2014"
        folder, known = data_dir / "vqav2", {}
        if year == "2014":
            rows = read_json(folder / f"v2_mscoco_{split}2014_annotations.json")["annotations"]
            known = {row["question_id"]: [a["answer"] for a in row["answers"]] for row in rows}
        questions = read_json(folder / f"v2_OpenEnded_mscoco_{split}{year}_questions.json")
        yield from _coco_questions(self, data_dir, split, year, questions["questions"], known)


class Okvqa(VqaAccuracy):
    """OKVQA (arXiv:1906.00067).

    The annotations have each answer twice, as written (`raw_answer`) and stemmed (`answer`). The
    official evaluation compares with the stems, so that supports show them too, and what the model
    writes is stemmed.
    """

    name, title, task = "okvqa", "OKVQA", "questions that need knowledge"
    query, paper_query = "val", "val"
    splits = ("train", "val")
    files = (
        *(
            File(path.format(split), f"{name}, {_OKVQA}", (split,))
            for split in ("train", "val")
            for path, name in (
                ("okvqa/OpenEnded_mscoco_{}2014_questions.json", "questions"),
                ("okvqa/mscoco_{}2014_annotations.json", "annotations"),
            )
        ),
        File(COCO_IMAGES[0].path, COCO_IMAGES[0].source, ("train",)),
        File(COCO_IMAGES[1].path, COCO_IMAGES[1].source, ("val",)),
    )

    def examples(self, data_dir: Path, split: str) -> Iterator[Example]:
        folder = data_dir / "okvqa"
        rows = read_json(folder / f"mscoco_{split}2014_annotations.json")["annotations"]
        known = {row["question_id"]: [a["answer"] for a in row["answers"]] for row in rows}
        questions = read_json(folder / f"OpenEnded_mscoco_{split}2014_questions.json")
        yield from _coco_questions(self, data_dir, split, "2014", questions["questions"], known)

    def postprocess(self, text: str) -> str:
        """As of all such questions, then the stems of what is left."""
        return okvqa_stems(super().postprocess(text))


def _coco_questions(
    benchmark: VqaAccuracy,
    data_dir: Path,
    split: str,
    year: str,
    questions: Sequence[dict],
    known: dict[int, list[str]],
) -> Iterator[Example]:
    """Questions about images called `COCO_<split and year>_<number of twelve digits>`."""
    part = f"{split.removesuffix('-dev')}{year}"
    images = MediaFolder(benchmark, data_dir / "coco" / part)
    for row in questions:
        shown = images.find(f"COCO_{part}_{int(row['image_id']):012d}")
        answers = known[row["question_id"]] if known else []
        yield Example(
            str(row["question_id"]),
            shown,
            row["question"],
            answers=tuple(answers),
            group=str(row["image_id"]),
        )


class Vizwiz(VqaAccuracy):
    """VizWiz (arXiv:1802.08218), photographs by blind people with spoken questions."""

    name, title, task = "vizwiz", "VizWiz", "questions of blind people"
    query, paper_query = "val", "test-dev"
    splits = ("train", "val", "test")
    files = tuple(
        File(path.format(split), f"{name}, {_VIZWIZ}", (split,))
        for split in ("train", "val", "test")
        for path, name in (
            ("vizwiz/Annotations/{}.json", "annotations"),
            ("vizwiz/{}/", "images"),
        )
    )

    def examples(self, data_dir: Path, split: str) -> Iterator[Example]:
        folder = data_dir / "vizwiz"
        images = MediaFolder(self, folder / split)
        for row in read_json(folder / f"Annotations/{split}.json"):
            stem = row["image"].rsplit(".", 1)[0]
            shown = images.find(stem)
            answers = tuple(answer["answer"] for answer in row.get("answers", ()))
            yield Example(stem, shown, row["question"], answers=answers)


class Textvqa(VqaAccuracy):
    """TextVQA (arXiv:1904.08920), without the text that was recognised for it."""

    name, title, task = "textvqa", "TextVQA", "questions about text in images"
    query, paper_query = "val", "val"
    splits = ("train", "val", "test")
    files = (
        *(
            File(f"textvqa/TextVQA_0.5.1_{split}.json", _TEXTVQA, (split,))
            for split in ("train", "val", "test")
        ),
        File("textvqa/train_images/", f"images of train and val, {_TEXTVQA}", ("train", "val")),
        File("textvqa/test_images/", f"images of test, {_TEXTVQA}", ("test",)),
    )

    def examples(self, data_dir: Path, split: str) -> Iterator[Example]:
        folder = data_dir / "textvqa"
        images = MediaFolder(self, folder / f"{'test' if split == 'test' else 'train'}_images")
        for row in read_json(folder / f"TextVQA_0.5.1_{split}.json")["data"]:
            shown = images.find(row["image_id"])
            yield Example(
                str(row["question_id"]),
                shown,
                row["question"],
                answers=tuple(row.get("answers", ())),
                group=row["image_id"],
            )
