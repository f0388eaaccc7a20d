"""Questions about videos: MSVDQA, MSRVTTQA, iVQA, NextQA and STAR."""

import dataclasses
from collections.abc import Iterator, Sequence
from pathlib import Path

from flamingo_jax.evaluation.benchmark import Answer, Example, File, Score
from flamingo_jax.evaluation.benchmarks.kinds import (
    Choices,
    ExactAnswers,
    QuestionAnswering,
    mean_score,
)
from flamingo_jax.evaluation.benchmarks.published import (
    MediaFolder,
    read_csv,
    read_json,
    read_lines,
)
from flamingo_jax.evaluation.metrics import wups

_XU = "https://github.com/xudejing/video-question-answering"
_NEXT_OE = "https://github.com/doc-doc/NExT-OE"
_NEXT_MC = "https://github.com/doc-doc/NExT-QA"
_IVQA = "https://github.com/antoyang/just-ask"
_STAR = "https://bobbywu.com/STAR"
_SPLITS = ("train", "val", "test")


class MsvdQa(ExactAnswers):
    """MSVD-QA (Xu et al., ACM Multimedia 2017, 10.1145/3123266.3123427)."""

    name, title, task, video = "msvdqa", "MSVDQA", "questions about videos", True
    query, paper_query = "test", "test"
    splits = _SPLITS
    withdrawn = True
    files = (
        *(File(f"msvd_qa/{split}_qa.json", f"MSVD-QA.zip, {_XU}", (split,)) for split in _SPLITS),
        File("msvd_qa/youtube_mapping.txt", f"MSVD-QA.zip, {_XU}"),
        File(
            "msvd_qa/YouTubeClips/",
            "YouTubeClips.tar, https://www.cs.utexas.edu/~ml/clamp/videoDescription",
        ),
    )

    def examples(self, data_dir: Path, split: str) -> Iterator[Example]:
        folder = data_dir / "msvd_qa"
        pairs = (line.split() for line in read_lines(folder / "youtube_mapping.txt"))
        names = {number: name for name, number in pairs}
        videos = MediaFolder(self, folder / "YouTubeClips")
        for row in read_json(folder / f"{split}_qa.json"):
            yield _answered(row, videos, names[f"vid{row['video_id']}"])


class MsrvttQa(ExactAnswers):
    """MSRVTT-QA (Xu et al., ACM Multimedia 2017, 10.1145/3123266.3123427)."""

    name, title, task, video = "msrvttqa", "MSRVTTQA", "questions about videos", True
    query, paper_query = "test", "test"
    splits = _SPLITS
    withdrawn = True
    _VIDEOS = "MSR-VTT (CVPR 2016), such as https://www.robots.ox.ac.uk/~maxbain/frozen-in-time"
    files = (
        *(
            File(f"msrvtt_qa/{split}_qa.json", f"MSRVTT-QA.zip, {_XU}", (split,))
            for split in _SPLITS
        ),
        File("msrvtt_qa/TrainValVideo/", _VIDEOS, ("train", "val")),
        File("msrvtt_qa/TestVideo/", _VIDEOS, ("test",)),
    )

    def examples(self, data_dir: Path, split: str) -> Iterator[Example]:
        folder = data_dir / "msrvtt_qa"
        part = "TestVideo" if split == "test" else "TrainValVideo"
        videos = MediaFolder(self, folder / part)
        for row in read_json(folder / f"{split}_qa.json"):
            yield _answered(row, videos, f"video{row['video_id']}")


def _answered(row: dict, videos: MediaFolder, name: str) -> Example:
    return Example(
        str(row["id"]),
        videos.find(name),
        row["question"],
        answers=(row["answer"],),
        group=str(row["video_id"]),
    )


class Ivqa(QuestionAnswering):
    """iVQA (arXiv:2012.00451): five answers to each question about a part of a video."""

    name, title, task, video = "ivqa", "iVQA", "questions about instructions", True
    metric = "iVQA accuracy"
    query, paper_query = "test", "test"
    splits = _SPLITS
    withdrawn = True
    files = (
        *(File(f"ivqa/{split}.csv", _IVQA, (split,)) for split in _SPLITS),
        File("ivqa/videos/", "YouTube videos, named video_id.mp4 as in the annotations"),
    )

    def examples(self, data_dir: Path, split: str) -> Iterator[Example]:
        videos = MediaFolder(self, data_dir / "ivqa" / "videos")
        for number, row in enumerate(read_csv(data_dir / "ivqa" / f"{split}.csv")):
            yield Example(
                str(number),
                videos.find(row["video_id"], float(row["start"]), float(row["end"])),
                row["question"],
                answers=tuple(row[f"answer{n}"] for n in range(1, 6)),
                group=row["video_id"],
            )

    def score(self, examples: Sequence[Example], answers: Sequence[Answer]) -> Score:
        """Half of the mark for one annotator's answer, all of it for that of two or more."""
        return mean_score(examples, answers, _agreement)


def _agreement(example: Example, answer: Answer) -> float:
    text = answer.text.strip().lower()
    return min(1.0, sum(text == given.strip().lower() for given in example.answers) / 2)


_NEXT_VIDEOS = (
    File("nextqa/map_vid_vidorID.json", f"dataset/nextqa of {_NEXT_MC}"),
    File("nextqa/NExTVideo/", f"raw videos, {_NEXT_MC}"),
)


class NextQa(QuestionAnswering):
    """NExT-QA (arXiv:2105.08276) with generated answers."""

    name, title, task, video = "nextqa", "NextQA", "questions about time and cause", True
    metric = "WUPS"
    query, paper_query = "test", "test"
    splits = _SPLITS
    files = (
        *(
            File(f"nextqa/oe/{split}.csv", f"dataset/nextqa of {_NEXT_OE}", (split,))
            for split in _SPLITS
        ),
        File(
            "nextqa/oe/add_reference_answer_test.json",
            f"dataset/nextqa of {_NEXT_OE}",
            ("test",),
        ),
        *_NEXT_VIDEOS,
    )

    def examples(self, data_dir: Path, split: str) -> Iterator[Example]:
        folder = data_dir / "nextqa" / "oe"
        further = {}
        if split == "test":
            further = read_json(folder / "add_reference_answer_test.json")
        for row, example in _next_questions(self, data_dir, folder / f"{split}.csv"):
            second = further.get(row["video"], {}).get(row["qid"])
            answers = (row["answer"], second) if second is not None else (row["answer"],)
            yield dataclasses.replace(example, answers=answers)

    def score(self, examples: Sequence[Example], answers: Sequence[Answer]) -> Score:
        """WUPS, or equality where a count or a yes or no is asked for."""
        return mean_score(examples, answers, _next_score)


def _next_score(example: Example, answer: Answer) -> float:
    return wups(answer.text, example.answers, exact=example.kind in ("DB", "DC"))


class NextQaChoices(Choices):
    """NExT-QA (arXiv:2105.08276) with five answers to choose among."""

    name, title, video = "nextqa_mc", "NextQA (choices)", True
    task = "questions about time and cause"
    query, paper_query = "test", "none: Flamingo generates the answers"
    splits = _SPLITS
    files = (
        *(
            File(f"nextqa/mc/{split}.csv", f"dataset/nextqa of {_NEXT_MC}", (split,))
            for split in _SPLITS
        ),
        *_NEXT_VIDEOS,
    )

    def examples(self, data_dir: Path, split: str) -> Iterator[Example]:
        table = data_dir / "nextqa" / "mc" / f"{split}.csv"
        for row, example in _next_questions(self, data_dir, table):
            choices = tuple(row[f"a{n}"] for n in range(5))
            answer = choices[int(row["answer"])]
            yield dataclasses.replace(example, answers=(answer,), candidates=choices)


def _next_questions(
    benchmark: NextQa | NextQaChoices, data_dir: Path, table: Path
) -> Iterator[tuple[dict[str, str], Example]]:
    """Rows and their examples, without the answers."""
    paths = read_json(data_dir / "nextqa" / "map_vid_vidorID.json")
    videos = MediaFolder(benchmark, data_dir / "nextqa" / "NExTVideo")
    for row in read_csv(table):
        shown = videos.find(paths[row["video"]].rsplit("/", 1)[-1])
        yield (
            row,
            Example(
                f"{row['video']}_{row['qid']}",
                shown,
                row["question"],
                kind=row["type"],
                group=row["video"],
            ),
        )


class Star(Choices):
    """STAR (Wu et al., NeurIPS 2021 Datasets): four answers about a situation in a video."""

    name, title, task, video = "star", "STAR", "questions about situations", True
    query, paper_query = "val", "test"
    splits = _SPLITS
    files = (
        *(File(f"star/STAR_{split}.json", _STAR, (split,)) for split in _SPLITS),
        File("star/Charades_v1_480/", "https://prior.allenai.org/projects/charades"),
    )

    def examples(self, data_dir: Path, split: str) -> Iterator[Example]:
        videos = MediaFolder(self, data_dir / "star" / "Charades_v1_480")
        for row in read_json(data_dir / "star" / f"STAR_{split}.json"):
            yield Example(
                row["question_id"],
                videos.find(row["video_id"], float(row["start"]), float(row["end"])),
                row["question"],
                answers=(row["answer"],) if row.get("answer") else (),
                candidates=tuple(choice["choice"] for choice in row["choices"]),
                group=row["video_id"],
            )
