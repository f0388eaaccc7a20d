"""Small data sets in each benchmark's official format, with real images and videos."""

import csv
import functools
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from flamingo_jax.data.media import encode_mp4

SIZE = 32


def write_image(path: Path, seed: int = 0) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(seed).integers(0, 256, (SIZE, SIZE, 3), np.uint8)
    Image.fromarray(pixels).save(path, "PNG" if path.suffix == ".png" else "JPEG")


@functools.cache
def video(seed: int, frames: int) -> bytes:
    first = np.random.default_rng(seed).integers(0, 256, (SIZE, SIZE, 3), np.uint8)
    return encode_mp4(np.stack([np.roll(first, n, 0) for n in range(frames)]))


def write_video(path: Path, seed: int = 0, frames: int = 10) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(video(seed, frames))


def write_json(path: Path, value: Any) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(value), encoding="utf-8")


def write_csv(path: Path, rows: Sequence[dict[str, Any]]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, rows[0])
        writer.writeheader()
        writer.writerows(rows)


def coco(root: Path, each: int = 3) -> None:
    images, annotations = [], {"train2014": [], "val2014": []}
    for number in range(3 * each):
        split = ("train", "val", "test")[number % 3]
        year = "train2014" if split == "train" else "val2014"
        name = f"COCO_{year}_{number:012d}.jpg"
        write_image(root / "coco" / year / name, number)
        captions = [f"A red square number {number}.", f"{number} squares of {split}."]
        annotations[year] += [
            {"image_id": number, "id": 10 * number + i, "caption": caption}
            for i, caption in enumerate(captions)
        ]
        images.append(
            {
                "filepath": year,
                "filename": name,
                "split": split,
                "cocoid": number,
                "imgid": number,
                "sentids": [],
                "sentences": [{"raw": caption} for caption in captions],
            }
        )
    for year, rows in annotations.items():
        write_json(root / f"coco/annotations/captions_{year}.json", {"annotations": rows})
    write_json(root / "coco/dataset_coco.json", {"images": images, "dataset": "coco"})


def flickr30k(root: Path, each: int = 3) -> None:
    images, lines = [], []
    for number in range(3 * each):
        name = f"{1000092795 + number}.jpg"
        write_image(root / "flickr30k/flickr30k-images" / name, number)
        images.append({"filename": name, "split": ("train", "val", "test")[number % 3]})
        lines += [f"{name}#{i}\tMan number {number} , saying {i} ." for i in range(5)]
    write_json(root / "flickr30k/dataset_flickr30k.json", {"images": images})
    (root / "flickr30k/results_20130124.token").write_text("\n".join(lines) + "\n")


def _ten(*answers: str) -> list[dict[str, Any]]:
    given = [answers[n % len(answers)] for n in range(10)]
    return [
        {"answer": text, "answer_confidence": "yes", "answer_id": n + 1}
        for n, text in enumerate(given)
    ]


def vqav2(root: Path, each: int = 3) -> None:
    parts = {"train": "2014", "val": "2014", "test-dev": "2015", "test": "2015"}
    for split, year in parts.items():
        questions, annotations = [], []
        for number in range(each):
            folder = f"{split.removesuffix('-dev')}{year}"
            write_image(root / f"coco/{folder}/COCO_{folder}_{number:012d}.jpg", number)
            key = {"question_id": 1000 + number, "image_id": number}
            questions.append({**key, "question": f"How many in {number}?"})
            rows = _ten(str(number), "many")
            annotations.append({**key, "answers": rows, "multiple_choice_answer": "many"})
        write_json(
            root / f"vqav2/v2_OpenEnded_mscoco_{split}{year}_questions.json",
            {"questions": questions, "data_subtype": split},
        )
        if year == "2014":
            path = root / f"vqav2/v2_mscoco_{split}2014_annotations.json"
            write_json(path, {"annotations": annotations})


def okvqa(root: Path, each: int = 3) -> None:
    for split in ("train", "val"):
        questions, annotations = [], []
        for number in range(each):
            folder = f"{split}2014"
            write_image(root / f"coco/{folder}/COCO_{folder}_{number:012d}.jpg", number)
            key = {"question_id": 2000 + number, "image_id": number}
            questions.append({**key, "question": "What sport is this?"})
            rows = [
                {**row, "raw_answer": "racing" if row["answer"] == "race" else row["answer"]}
                for row in _ten("race", "run")
            ]
            annotations.append({**key, "answers": rows})
        write_json(
            root / f"okvqa/OpenEnded_mscoco_{split}2014_questions.json", {"questions": questions}
        )
        write_json(
            root / f"okvqa/mscoco_{split}2014_annotations.json", {"annotations": annotations}
        )


def vizwiz(root: Path, each: int = 3) -> None:
    for split in ("train", "val", "test"):
        rows = []
        for number in range(each):
            name = f"VizWiz_{split}_{number:08d}.jpg"
            write_image(root / "vizwiz" / split / name, number)
            row = {"image": name, "question": "What is this? Thank you."}
            if split != "test":
                answers = [
                    {"answer": row["answer"], "answer_confidence": "maybe"}
                    for row in _ten("unanswerable", "soup", "soup")
                ]
                row |= {"answers": answers, "answer_type": "other", "answerable": 1}
            rows.append(row)
        write_json(root / f"vizwiz/Annotations/{split}.json", rows)


def textvqa(root: Path, each: int = 3) -> None:
    for split in ("train", "val", "test"):
        rows = []
        for number in range(each):
            image = f"{split}{number:x}0a1b"
            folder = "test_images" if split == "test" else "train_images"
            write_image(root / "textvqa" / folder / f"{image}.jpg", number)
            row = {"question": "what brand?", "image_id": image, "question_id": number}
            if split != "test":
                row["answers"] = ["nokia"] * 8 + ["Nokia phone", "toyota"]
            rows.append(row)
        write_json(root / f"textvqa/TextVQA_0.5.1_{split}.json", {"data": rows})


def msvdqa(root: Path, each: int = 3) -> None:
    lines = []
    for number in range(1, 3 * each + 1):
        name = f"-4wsuPCjDBc_{number}_{number + 9}"
        lines.append(f"{name} vid{number}")
        write_video(root / "msvd_qa/YouTubeClips" / f"{name}.mp4", number)
    (root / "msvd_qa/youtube_mapping.txt").write_text("\n".join(lines) + "\n")
    for part, split in enumerate(("train", "val", "test")):
        rows = [
            {"id": n, "video_id": 3 * n + part + 1, "question": "who eats?", "answer": "man"}
            for n in range(each)
        ]
        write_json(root / f"msvd_qa/{split}_qa.json", rows)


def msrvttqa(root: Path, each: int = 3) -> None:
    for part, split in enumerate(("train", "val", "test")):
        rows = []
        for n in range(each):
            number = 100 * part + n
            folder = "TestVideo" if split == "test" else "TrainValVideo"
            write_video(root / f"msrvtt_qa/{folder}/video{number}.mp4", number)
            row = {"id": n, "video_id": number, "category_id": 3}
            rows.append({**row, "question": "what is cut?", "answer": "onion"})
        write_json(root / f"msrvtt_qa/{split}_qa.json", rows)


def vatex(root: Path, each: int = 3) -> None:
    names = ("training_v1.0", "validation_v1.0", "public_test_english_v1.1")
    for part, name in enumerate(names):
        rows = []
        for n in range(each):
            video = f"Ptf_2VRj-V{part}{n}_000122_000132"
            write_video(root / f"vatex/videos/{video}.mp4", n)
            rows.append({"videoID": video, "enCap": [f"A man lifts {n} weights.", "He lifts."]})
        write_json(root / f"vatex/vatex_{name}.json", rows)


def ivqa(root: Path, each: int = 3) -> None:
    for part, split in enumerate(("train", "val", "test")):
        rows = []
        for n in range(each):
            video = f"iv_{part}-{n}"
            write_video(root / f"ivqa/videos/{video}.mp4", n, 30)
            answers = {f"answer{i}": "Rice, steamed" if i < 3 else "bowl" for i in range(1, 6)}
            question = 'What is in the "bowl"?'
            rows.append({"video_id": video, "start": 1, "end": 2, "question": question, **answers})
        write_csv(root / f"ivqa/{split}.csv", rows)


def youcook2(root: Path, each: int = 3) -> None:
    database = {}
    for part, subset in enumerate(("training", "validation")):
        for n in range(each):
            name = f"yc{part}-{n}"
            write_video(root / f"youcook2/raw_videos/{subset}/113/{name}.mp4", n, 40)
            steps = [
                {"segment": [i, i + 1.5], "id": i, "sentence": f"stir {i + 1} eggs"}
                for i in range(2)
            ]
            database[name] = {"subset": subset, "recipe_type": "113", "annotations": steps}
    write_json(root / "youcook2/youcookii_annotations_trainval.json", {"database": database})


def star(root: Path, each: int = 3) -> None:
    for split in ("train", "val", "test"):
        rows = []
        for n in range(each):
            video = f"{split.upper()}{n}"
            write_video(root / f"star/Charades_v1_480/{video}.mp4", n, 30)
            words = ("The cup.", "The bag.", "The book.", "The door.")
            row = {
                "question_id": f"Interaction_T1_{n}",
                "question": "Which object was opened by the person?",
                "video_id": video,
                "start": 0.5,
                "end": 2.5,
                "choices": [{"choice_id": i, "choice": word} for i, word in enumerate(words)],
            }
            rows.append(row if split == "test" else {**row, "answer": words[n % 4]})
        write_json(root / f"star/STAR_{split}.json", rows)


def _next(root: Path, kind: str, each: int, answer: Callable[[int], dict[str, Any]]) -> None:
    paths = {}
    for part, split in enumerate(("train", "val", "test")):
        rows = []
        for n in range(each):
            video = f"{4924794333 + 10 * part + n}"
            paths[video] = f"1010/{video}"
            write_video(root / f"nextqa/NExTVideo/1010/{video}.mp4", n)
            row = {"video": video, "frame_count": 10, "width": SIZE, "height": SIZE}
            question = "why did the baby, in the chair, smile"
            rows.append({**row, "question": question, "qid": n, **answer(n)})
        write_csv(root / f"nextqa/{kind}/{split}.csv", rows)
    write_json(root / "nextqa/map_vid_vidorID.json", paths)


def nextqa(root: Path, each: int = 3) -> None:
    kinds = ("CW", "DC", "DB")
    answers = ("play with toy", "two", "yes")
    _next(root, "oe", each, lambda n: {"answer": answers[n % 3], "type": kinds[n % 3]})
    write_json(root / "nextqa/oe/add_reference_answer_test.json", {"4924794353": {"0": "happy"}})


def nextqa_mc(root: Path, each: int = 3) -> None:
    choices = {f"a{n}": word for n, word in enumerate(("cry", "sleep", "run", "happy", "eat"))}
    _next(root, "mc", each, lambda n: {"answer": n % 5, "type": "CW", **choices})


def visdial(root: Path, each: int = 3) -> None:
    questions = [f"is it number {n}" for n in range(20)]
    answers = [f"answer {n}" for n in range(150)]
    for split in ("train", "val"):
        dialogs = []
        for n in range(each):
            number = 100 + n
            turns = [
                {
                    "question": turn + n,
                    "answer": 2 * turn,
                    "answer_options": list(range(turn, turn + 100)),
                    "gt_index": turn,
                }
                for turn in range(10)
            ]
            dialogs.append({"image_id": number, "caption": f"a photo {n}", "dialog": turns})
            path = root / f"visdial/VisualDialog_val2018/VisualDialog_val2018_{number:012d}.jpg"
            if split == "train":
                year = ("train2014", "val2014")[n % 2]  # of COCO's both
                path = root / f"coco/{year}/COCO_{year}_{number:012d}.jpg"
            write_image(path, n)
        data = {"dialogs": dialogs, "questions": questions, "answers": answers}
        value = {"version": "1.0", "split": split, "data": data}
        write_json(root / f"visdial/visdial_1.0_{split}.json", value)
    (root / "coco/val2014").mkdir(parents=True, exist_ok=True)
    dense = [
        {"image_id": 100 + n, "round_id": n + 2, "gt_relevance": [1.0, 0.4, *[0.0] * 98]}
        for n in range(each - 1)
    ]
    write_json(root / "visdial/visdial_1.0_val_dense_annotations.json", dense)


def hatefulmemes(root: Path, each: int = 3) -> None:
    for part, split in enumerate(("train", "dev_seen", "dev_unseen", "test_seen", "test_unseen")):
        lines = []
        for n in range(each):
            name = f"{part}{n:04d}"
            write_image(root / f"hateful_memes/img/{name}.png", n)
            row = {"id": int(name), "img": f"img/{name}.png", "label": n % 2}
            lines.append(
                json.dumps({**row, "text": f'when you\u2028see "{n}"'}, ensure_ascii=False)
            )
        (root / f"hateful_memes/{split}.jsonl").write_text("\n".join(lines), encoding="utf-8")


def rareact(root: Path, each: int = 3) -> None:
    actions = (("wash", "egg"), ("cut", "keyboard"), ("wash", "keyboard"), ("fry", "eggs"))
    rows = []
    for n in range(4 * each):
        verb, noun = actions[n % 4]
        video = f"ra-{n // 2}"
        write_video(root / f"rareact/videos/{video}.mp4", n // 2, 30)
        row = {"id": n, "video_id": video, "start": n % 2, "end": n % 2 + 1, "class_id": n % 4}
        rows.append({**row, "verb": verb, "noun": noun, "annotation": (1, 1, 0, 3, 2, 1, 4)[n % 7]})
    write_csv(root / "rareact/rareact.csv", rows)


def imagenet(root: Path, each: int = 3) -> None:
    names = {
        "n01440764": "tench, Tinca tinca",
        "n02012849": "crane",
        "n03126707": "crane",
    }
    lines = [f"{number} {name}" for number, name in names.items()]
    solution = []
    for part, number in enumerate(names):
        for n in range(each):
            write_image(root / f"imagenet/train/{number}/{number}_{n}.JPEG", n)
            image = f"ILSVRC2012_val_{3 * n + part + 1:08d}"
            write_image(root / f"imagenet/val/{image}.JPEG", n)
            solution.append({"ImageId": image, "PredictionString": f"{number} 85 1 499 272 "})
    write_csv(root / "imagenet/LOC_val_solution.csv", solution)
    (root / "imagenet/LOC_synset_mapping.txt").write_text("\n".join(lines) + "\n")


def kinetics700(root: Path, each: int = 3) -> None:
    labels = ("abseiling", "playing piano", "zumba")
    for split in ("train", "val"):
        rows = []
        for n in range(3 * each):
            row = {"label": labels[n % 3], "youtube_id": f"{split}_k-{n}"}
            rows.append({**row, "time_start": n, "time_end": n + 10, "split": split})
            name = f"{row['youtube_id']}_{n:06d}_{n + 10:06d}.mp4"
            folder = split if split == "val" else f"train/{row['label']}"
            write_video(root / "kinetics700" / folder / name, n)
        write_csv(root / f"kinetics700/annotations/{split}.csv", rows)


MAKERS: dict[str, Callable[..., None]] = {
    maker.__name__: maker
    for maker in (
        *(okvqa, vqav2, coco, msvdqa, vatex, vizwiz, flickr30k, msrvttqa, ivqa, youcook2, star),
        *(visdial, textvqa, nextqa, nextqa_mc, hatefulmemes, rareact, imagenet, kinetics700),
    )
}
"""By the benchmarks' names: each writes a data set below a data folder, `each` examples a split."""
