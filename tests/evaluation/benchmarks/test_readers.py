"""Every reader on a small data set in its official format."""

import logging
from pathlib import Path

import pytest

from flamingo_jax.data.media import decode_media
from flamingo_jax.errors import UserError
from flamingo_jax.evaluation.benchmark import Example
from flamingo_jax.evaluation.benchmarks import BENCHMARKS
from flamingo_jax.evaluation.benchmarks.classes import class_names
from tests.evaluation.benchmarks.official import MAKERS


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> Path:
    """One data folder with all benchmarks, as `--benchmark=all` has it."""
    root = tmp_path_factory.mktemp("data")
    for name in ("coco", *MAKERS):
        MAKERS[name](root)
    return root


def last(data: Path, name: str, split: str | None = None) -> Example:
    benchmark = BENCHMARKS[name]
    return benchmark.read(data, split or benchmark.query)[-1]


def test_all_of_the_paper_are_there():
    assert len(BENCHMARKS) == 18 + 1  # NextQA twice: with generated answers and with choices
    assert set(MAKERS) == set(BENCHMARKS)


@pytest.mark.parametrize("name", BENCHMARKS)
def test_splits_can_be_read_and_their_media_decoded(name, data):
    benchmark = BENCHMARKS[name]
    assert {benchmark.query, benchmark.support} - {None} <= set(benchmark.splits)
    seen = {}
    for split in benchmark.splits:
        examples = benchmark.read(data, split)
        assert len({example.id for example in examples}) == len(examples) >= 2
        for example in examples:
            assert [shown.path.is_file() for shown in example.media] == [True]
            if not benchmark.open_ended:
                assert set(example.answers) <= set(example.candidates)
                assert len(set(example.candidates)) == len(example.candidates) > 1
        assert decode_media(examples[-1].media[0].path).shape[1:] == (32, 32, 3)
        seen[split] = {shown.path for example in examples for shown in example.media}
    if benchmark.support:
        assert not seen[benchmark.support] & seen[benchmark.query]
        assert all(e.answers for e in benchmark.read(data, benchmark.support))
    assert all(e.answers for e in benchmark.read(data, benchmark.query))


def test_coco(data):
    example = last(data, "coco")
    assert example.answers == ("A red square number 8.", "8 squares of test.")
    assert example.media[0].path == data / "coco/val2014/COCO_val2014_000000000008.jpg"
    assert BENCHMARKS["coco"].prompt(example) == "Output:"
    assert last(data, "coco", "train").media[0].path.parent.name == "train2014"


def test_flickr30k(data):
    example = last(data, "flickr30k")
    assert example.id == "1000092803"
    assert example.answers == tuple(f"Man number 8 , saying {i} ." for i in range(5))


def test_vqav2(data):
    example = last(data, "vqav2")
    assert (example.id, example.group) == ("1002", "2")
    assert example.answers == ("2", "many") * 5
    assert BENCHMARKS["vqav2"].prompt(example) == "Question: How many in 2? Answer:"
    hidden = last(data, "vqav2", "test-dev")
    assert hidden.answers == ()
    assert hidden.media[0].path.parent.name == "test2015"


def test_okvqa_has_the_stems_that_the_official_evaluation_compares_with(data):
    assert last(data, "okvqa").answers == ("race", "run") * 5


def test_vizwiz(data):
    example = last(data, "vizwiz")
    assert example.answers.count("soup") == 6
    assert BENCHMARKS["vizwiz"].shown_answer(example) == "soup"
    assert last(data, "vizwiz", "test").answers == ()


def test_textvqa_keeps_validation_images_with_the_training_ones(data):
    example = last(data, "textvqa")
    assert example.media[0].path.parent.name == "train_images"
    assert example.answers == ("nokia",) * 8 + ("Nokia phone", "toyota")


def test_msvdqa_finds_videos_through_the_mapping(data):
    example = last(data, "msvdqa")
    assert example.group == "9"
    assert example.media[0].path.stem == "-4wsuPCjDBc_9_18"


def test_msrvttqa(data):
    assert last(data, "msrvttqa").media[0].path.parent.name == "TestVideo"
    assert last(data, "msrvttqa", "val").media[0].path.stem == "video102"


def test_vatex(data):
    assert last(data, "vatex").answers == ("A man lifts 2 weights.", "He lifts.")


def test_parts_of_videos_have_their_seconds(data):
    ivqa, star, cook = last(data, "ivqa"), last(data, "star"), last(data, "youcook2")
    assert (ivqa.media[0].start, ivqa.media[0].end) == (1, 2)
    assert (star.media[0].start, star.media[0].end) == (0.5, 2.5)
    assert (cook.media[0].start, cook.media[0].end) == (1, 2.5)
    assert ivqa.question == 'What is in the "bowl"?'
    assert ivqa.answers == ("Rice, steamed", "Rice, steamed", "bowl", "bowl", "bowl")
    assert (cook.id, cook.group, cook.answers) == ("yc1-2_1", "yc1-2", ("stir 2 eggs",))


def test_star(data):
    example = last(data, "star")
    assert example.answers == ("The book.",)
    assert example.candidates == ("The cup.", "The bag.", "The book.", "The door.")
    assert last(data, "star", "test").answers == ()


def test_nextqa_has_the_test_sets_second_answers(data):
    first, *_, third = BENCHMARKS["nextqa"].read(data, "test")
    assert first.answers == ("play with toy", "happy")
    assert (third.answers, third.kind) == (("yes",), "DB")
    assert first.question == "why did the baby, in the chair, smile"
    assert BENCHMARKS["nextqa"].read(data, "val")[0].answers == ("play with toy",)


def test_nextqa_choices(data):
    example = last(data, "nextqa_mc")
    assert example.answers == ("run",)
    assert example.candidates == ("cry", "sleep", "run", "happy", "eat")


def test_visdial_asks_the_densely_annotated_round(data):
    example = BENCHMARKS["visdial"].read(data, "val")[1]
    assert BENCHMARKS["visdial"].prompt(example) == (
        "a photo 1 Question: is it number 1 Answer: answer 0 "
        "Question: is it number 2 Answer: answer 2 Question: is it number 3 Answer:"
    )
    assert example.answers == ("answer 4",)
    assert example.candidates[:2] == ("answer 2", "answer 3")
    assert len(example.candidates) == len(example.relevance) == 100
    support = last(data, "visdial", "train")
    assert support.context.count("Answer:") == 9
    folders = {e.media[0].path.parent.name for e in BENCHMARKS["visdial"].read(data, "train")}
    assert folders == {"train2014", "val2014"}


def test_hatefulmemes(data):
    benchmark = BENCHMARKS["hatefulmemes"]
    first, second, _ = benchmark.read(data, "test_seen")
    assert (first.answers, second.answers) == (("no",), ("yes",))
    assert benchmark.prompt(second) == (
        'is an image with written: "when you\u2028see "1"" on it. Is it hateful? Answer:'
    )


def test_rareact(data):
    examples = BENCHMARKS["rareact"].read(data, "test")
    assert examples[0].candidates == (
        "a person washes an egg",
        "a person cuts a keyboard",
        "a person washes a keyboard",
        "a person fries eggs",
    )
    assert (examples[3].kind, examples[3].group) == ("3", "ra-1")
    assert BENCHMARKS["rareact"].support is None


def test_imagenet_tells_classes_of_one_name_apart(data):
    example = last(data, "imagenet")
    assert example.candidates == ("tench", "crane", "construction crane")
    assert example.answers == ("construction crane",)
    train = BENCHMARKS["imagenet"].read(data, "train")
    assert [e.answers[0] for e in train[:4]] == ["tench", "tench", "tench", "crane"]


def test_classes_of_one_first_name_have_all_of_theirs():
    lines = ["n03710637 maillot\n", "n03710721 maillot, tank suit\n", "n01440764 tench, Tinca\n"]
    assert list(class_names(lines).values()) == ["maillot", "maillot, tank suit", "tench"]


def test_kinetics700(data):
    example = last(data, "kinetics700")
    assert example.answers == ("zumba",)
    assert example.candidates == ("abseiling", "playing piano", "zumba")


@pytest.mark.parametrize("name", BENCHMARKS)
def test_a_missing_file_shows_the_layout(name, tmp_path):
    benchmark = BENCHMARKS[name]
    for file in benchmark.files:
        split = file.splits[0] if file.splits else benchmark.query
        root = tmp_path / file.path.replace("/", "-")
        MAKERS["coco"](root, 1)
        MAKERS[name](root, 1)
        path = root / file.path
        path.rename(root / "kept elsewhere")
        with pytest.raises(UserError) as caught:
            benchmark.read(root, split)
        message = str(caught.value)
        assert message.startswith(f"{name} needs {path}, which is not there.\nExpected below")
        for other in benchmark.files:
            assert other.path.rstrip("/").rsplit("/", 1)[-1] in message
            assert other.source in message


def test_a_misplaced_file_is_found(data, tmp_path):
    MAKERS["textvqa"](tmp_path)
    path = tmp_path / "textvqa" / "TextVQA_0.5.1_val.json"
    path.rename(tmp_path / path.name)
    with pytest.raises(UserError, match=rf"it lies at {tmp_path / path.name}: move it"):
        BENCHMARKS["textvqa"].read(tmp_path, "val")


def test_a_missing_image_is_named(tmp_path):
    MAKERS["vizwiz"](tmp_path)
    (tmp_path / "vizwiz/val/VizWiz_val_00000001.jpg").unlink()
    with pytest.raises(UserError, match="VizWiz_val_00000001, which is not in"):
        BENCHMARKS["vizwiz"].read(tmp_path, "val")


def test_withdrawn_videos_are_left_out_and_counted(tmp_path, caplog):
    MAKERS["youcook2"](tmp_path)
    (tmp_path / "youcook2/raw_videos/validation/113/yc1-0.mp4").unlink()
    with caplog.at_level(logging.WARNING, "flamingo_jax"):
        kept = BENCHMARKS["youcook2"].read(tmp_path, "val")
    assert [example.group for example in kept] == ["yc1-1"] * 2 + ["yc1-2"] * 2
    assert "2 of 6 examples of the split val are left out" in caplog.text
    for path in (tmp_path / "youcook2/raw_videos/validation/113").iterdir():
        path.unlink()
    with pytest.raises(UserError, match=r"no example of the split 'val' with its media"):
        BENCHMARKS["youcook2"].read(tmp_path, "val")


def test_damaged_files_are_named(tmp_path):
    MAKERS["star"](tmp_path)
    path = tmp_path / "star/STAR_val.json"
    path.write_text('[{"question": ')
    with pytest.raises(UserError, match=r"STAR_val.json cannot be read"):
        BENCHMARKS["star"].read(tmp_path, "val")
    path.write_text('[{"question": "what?"}]')
    with pytest.raises(UserError, match=r"star \(val\) .* official format .*question_id"):
        BENCHMARKS["star"].read(tmp_path, "val")
    path.write_bytes(b"\xff\xfe[]")
    with pytest.raises(UserError, match=r"STAR_val.json cannot be read"):
        BENCHMARKS["star"].read(tmp_path, "val")


def test_an_unknown_split_is_refused(data):
    with pytest.raises(UserError, match="coco has no split 'test2015': choose one of train, val"):
        BENCHMARKS["coco"].read(data, "test2015")
