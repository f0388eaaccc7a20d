"""Which texts are kept."""

from pathlib import Path

import pytest

from flamingo_jax.data.web.limits import Limits
from flamingo_jax.data.web.texts import (
    BlockList,
    check_languages,
    count_words,
    text_reason,
)
from flamingo_jax.errors import UserError
from tests.data.web.pages import TEXT

GERMAN = "Der alte Leuchtturm am Ende der Mole weist den Schiffen seit vielen Jahren den Weg."


def reason(text: str, source: str = "http://a.org/", **options) -> str | None:
    return text_reason(source, text, Limits(), **options)


def test_words() -> None:
    assert count_words("It's one-two 3, ÄÖ_x") == 7
    assert count_words("古い灯台は港") == 6
    assert count_words("") == 0


def test_length() -> None:
    assert reason(TEXT) is None
    assert reason("one two three four five six seven eight nine") == "too_little_text"
    assert reason("word " * 100_001) == "too_long"


def test_language() -> None:
    assert reason(TEXT, languages=("en",)) is None
    assert reason(GERMAN, languages=("en",)) == "language"
    assert reason(GERMAN, languages=("en", "de")) is None
    with pytest.raises(UserError, match="'english' is no language"):
        check_languages(["de", "english"])


def test_block_list(tmp_path: Path) -> None:
    path = tmp_path / "list.txt"
    path.write_text("# words\nBadword\nvery bad  thing # so\nexample.org\n\n灯台\n")
    blocked = BlockList.read(path)
    assert reason(TEXT, blocked=blocked) is None
    assert reason(f"{TEXT} A BADWORD!", blocked=blocked) == "block_list"
    assert reason(f"{TEXT} badwords", blocked=blocked) is None
    assert reason(f"{TEXT} a very\nbad thing", blocked=blocked) == "block_list"
    assert reason(f"{TEXT} very bad things", blocked=blocked) is None
    assert reason(f"{TEXT} 古い灯台は港", blocked=blocked) == "block_list"
    assert reason(TEXT, "https://www.example.org/a", blocked=blocked) == "block_list"
    assert reason(TEXT, "https://notexample.org/a", blocked=blocked) is None
    assert reason(TEXT, "http://a[b@example.org/", blocked=blocked) is None  # no host for Python
    with pytest.raises(UserError, match="cannot be read as a block list"):
        BlockList.read(tmp_path)
