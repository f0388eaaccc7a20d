"""Pairs of a page's figures and captions, and pages that training leaves out."""

from pathlib import Path

import pytest

from flamingo_jax.data.datasets import DatasetConfig
from flamingo_jax.data.documents import Document, Medium
from flamingo_jax.data.figures import captioned_figures
from flamingo_jax.data.shards import write_index, write_shard
from flamingo_jax.data.staged import finish
from flamingo_jax.data.tokenizer import Tokenizer
from flamingo_jax.errors import UserError
from tests.data.sources import files
from tests.data.test_records import dataset, many, numbers, records

A, B = Medium("a.png", b"a"), Medium("b.png", b"b")


def found(*items: str | Medium) -> list[tuple[str | Medium, ...]]:
    return [pair.items for pair in captioned_figures(Document("page", items))]


@pytest.mark.parametrize(
    ("caption", "text"),
    [
        ("Figure 3. A cat", "A cat"),
        ("Figure\u00a017.12.\u00a0A cat, asleep", "A cat, asleep"),
        ("Fig. 2: A cat", "A cat"),
        ("Figure 1-b \u2013 of two\nlines", "\u2013 of two\nlines"),
    ],
)
def test_a_caption_is_a_paragraph_with_a_number(caption: str, text: str) -> None:
    assert found(f"Some text.\n\n{caption}", A) == [(A, text)]
    assert found(A, f"{caption}\n\nSome text.") == [(A, text)]


@pytest.mark.parametrize("text", ["See Figure 3. There", "Figure it out", "Figure 3.", "A cat"])
def test_other_text_is_no_caption(text: str) -> None:
    assert found(text, A, text) == []


def test_a_caption_goes_to_one_figure_on_the_side_that_the_page_has() -> None:
    assert found("Figure 1. a", A, "Figure 2. b", B) == [(A, "a"), (B, "b")]
    assert found(A, "Figure 1. a", B, "Figure 2. b") == [(A, "a"), (B, "b")]
    assert found(A, B, "Figure 2. b") == [(B, "b")]
    assert found() == []


def manual(folder: Path, pages: int) -> Path:
    """Extracted pages, every third without a caption."""
    made = []
    for number in range(pages):
        text = "Nothing." if number % 3 == 2 else f"Figure {number}. {files.caption(number)}"
        made.append(Document(str(number), (text, Medium("a.png", files.picture(number)))))
    folder.mkdir()
    write_index(folder, [write_shard(folder / "00000.array_record", made)], {"pages": pages})
    return folder


def test_pairs_of_pages_are_their_captioned_figures(tmp_path: Path, tokenizer: Tokenizer) -> None:
    made = records(dataset(manual(tmp_path / "pages", 9)), tokenizer)
    examples = [finish(made[i]) for i in range(9)]
    assert {number for number in numbers(made, tokenizer, range(9))} == {0, 1, 3, 4, 6, 7}
    assert all(problems == [] for _, problems in examples)


def test_pages_without_any_caption_are_told_of(tmp_path: Path, tokenizer: Tokenizer) -> None:
    made = records(dataset(files.extracted(tmp_path / "pages")), tokenizer)
    with pytest.raises(UserError, match="has a figure with a caption to make pairs of: set its"):
        finish(made[0])


@pytest.mark.parametrize(("count", "every"), [(17, 4), (16, 4), (6, 2), (5, 5), (12, 0)])
def test_what_is_held_out_is_in_no_epoch(
    tmp_path: Path, tokenizer: Tokenizer, count: int, every: int
) -> None:
    made = records(dataset(many(tmp_path / "set", count), held_out=every), tokenizer)
    out = list(range(0, count, every)) if every else []
    kept = sorted(set(range(count)) - set(out))
    for epoch in range(2):
        numbered = numbers(made, tokenizer, range(len(kept) * epoch, len(kept) * (epoch + 1)))
        assert sorted(numbered) == kept
    held = list(made.held_out(100))
    assert [record for record, _ in held] == out
    texts = [tokenizer.decode(arrays["tokens_BxT"].tolist()) for _, arrays in held]
    assert all(files.caption(record) in text for record, text in zip(out, texts, strict=True))
    assert [record for record, _ in made.held_out(2)] == out[:2]


def test_what_is_held_out_is_the_same_again_and_without_what_is_damaged(
    tmp_path: Path, tokenizer: Tokenizer
) -> None:
    config = dataset(many(tmp_path / "set", 12, (4,)), held_out=2)
    first, second = (list(records(config, tokenizer).held_out(100)) for _ in range(2))
    assert [record for record, _ in first] == [0, 2, 6, 8, 10]
    for (_, one), (_, other) in zip(first, second, strict=True):
        assert all((one[field] == other[field]).all() for field in one)


def test_more_to_hold_out_than_there_is(tmp_path: Path, tokenizer: Tokenizer) -> None:
    config = dataset(many(tmp_path / "set", 3), held_out=4)
    with pytest.raises(UserError, match=r"held_out is 4, but .* has 3 records: lower it"):
        records(config, tokenizer)
    with pytest.raises(UserError, match="held_out is for data sets with a path"):
        DatasetConfig("a", "pairs", 1, 1.0, 8, 1, 8, held_out=2)
