"""Damaged files of every source: a record is used or skipped with a reason, and nothing else.

More than 2,000 files, each with bytes changed, cut out, put in or missing at the end.
"""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from flamingo_jax.data.bad_records import REASONS, BadRecord
from flamingo_jax.data.clips import read_clip
from flamingo_jax.data.documents import Medium
from flamingo_jax.data.layouts import Limits, lay_out_page, lay_out_pair
from flamingo_jax.data.pictures import read_picture
from flamingo_jax.data.sources.base import Source
from flamingo_jax.data.sources.opening import open_source
from flamingo_jax.data.staged import finish
from flamingo_jax.data.tokenizer import Tokenizer
from flamingo_jax.errors import UserError
from tests.data.sources import files

CASES = 160
LIMITS = Limits(32, 3, 32, 1.0, 0.5)
SETTINGS = settings(
    max_examples=CASES,
    deadline=None,
    derandomize=True,
    suppress_health_check=list(HealthCheck),
    database=None,
)


@st.composite
def damages(draw: st.DrawFn) -> list[tuple[str, float, bytes]]:
    """Some of: what happens, where in the file, and with what bytes."""
    kinds = st.sampled_from(["change", "insert", "delete", "cut", "zero"])
    return draw(
        st.lists(
            st.tuples(kinds, st.floats(0, 1), st.binary(min_size=1, max_size=9)),
            min_size=1,
            max_size=4,
        )
    )


def damaged(content: bytes, changes: list[tuple[str, float, bytes]]) -> bytes:
    for kind, share, given_bytes in changes:
        place, size = int(share * len(content)), len(given_bytes)
        rest = content[place:]
        if kind == "change":
            rest = given_bytes + rest[size:]
        elif kind == "insert":
            rest = given_bytes + rest
        elif kind == "delete":
            rest = rest[size * 7 :]
        elif kind == "cut":
            rest = b""
        else:
            rest = bytes(min(len(rest), size * 50)) + rest[size * 50 :]
        content = content[:place] + rest
    return content


def use_all(source: Source, tokenizer: Tokenizer) -> list[str]:
    """What becomes of each record, as in training: used, or the reason why not."""
    gives, rng, found = source.schema.gives, np.random.default_rng(0), []

    def decode(medium: Medium) -> np.ndarray:
        if gives == "videos":
            return read_clip(medium.content, 2, 16, "pad", rng=rng)
        return read_picture(medium.content, 16, "pad")[None]

    for i in range(min(len(source), 50)):
        try:
            document = source[i]
            if gives == "pages":
                finish(lay_out_page(document, tokenizer, LIMITS, decode, rng))
            else:
                finish(lay_out_pair(document, tokenizer, LIMITS, decode, rng))
            found.append("used")
        except BadRecord as error:
            found.append(error.reason if str(error) else "no words")
    assert set(found) <= {"used", *REASONS}
    return found


def memory(field: str) -> int:
    """Bytes of this process: `VmRSS` of now, or `VmHWM` at the most."""
    [found] = re.findall(rf"{field}:\s+(\d+) kB", Path("/proc/self/status").read_text())
    return int(found) * 1024


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A folder; no damaged file may have taken a gigabyte by the end."""
    Path("/proc/self/clear_refs").write_text("5")  # forgets the peaks of earlier tests
    before = memory("VmRSS")
    yield tmp_path_factory.mktemp("fuzz")
    assert memory("VmHWM") - before < 2**30


@pytest.mark.slow
@pytest.mark.parametrize(
    "make", [*files.PAGES, *files.PAIRS, *files.VIDEOS], ids=lambda make: make.__name__
)
def test_damaged_files(make: files.Make, folders: Path, tokenizer: Tokenizer) -> None:
    folder = make(folders / make.__name__)
    paths = sorted(path for path in folder.rglob("*") if path.is_file())
    whole = {path: path.read_bytes() for path in paths}
    before = use_all(open_source(folder), tokenizer)
    assert before == ["used"] * files.COUNT
    outcomes: set[str] = set()
    told: list[UserError] = []

    @SETTINGS
    @given(st.sampled_from(paths), damages())
    def run(path: Path, changes: list[tuple[str, float, bytes]]) -> None:
        path.write_bytes(damaged(whole[path], changes))
        try:
            outcomes.update(use_all(open_source(folder), tokenizer))
        except UserError as error:
            told.append(error)
        finally:
            path.write_bytes(whole[path])

    run()
    assert all(str(folders) in str(error) for error in told)
    assert not any(isinstance(error, BadRecord) for error in told)
    assert "used" in outcomes
    assert told or len(outcomes) > 1


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner),
    max_leaves=4,
)


@pytest.mark.parametrize(
    "row",
    [
        files.mmc4_row(0, True),
        {
            "texts": ["a", None],
            "images": [None, "b"],
            "metadata": "[null]",
            "general_metadata": "{}",
        },
        {"image": "a.png", "caption": "b"},
    ],
    ids=["mmc4", "obelics", "table"],
)
def test_fields_of_other_types(row: dict[str, Any], tmp_path: Path, tokenizer: Tokenizer) -> None:
    path = tmp_path / "rows.jsonl"

    def inside(value: Any) -> Any:
        """A field's value, or one with something else in it."""
        if isinstance(value, list) and value:
            changed = st.tuples(st.integers(0, len(value) - 1), inside(value[0]))
            return JSON | changed.map(lambda c: [*value[: c[0]], c[1], *value[c[0] + 1 :]])
        if isinstance(value, dict):
            changed = st.sampled_from(sorted(value)).flatmap(
                lambda name: inside(value[name]).map(lambda v: {**value, name: v})
            )
            return JSON | changed
        return JSON

    @SETTINGS
    @given(inside(row))
    def run(other: Any) -> None:
        path.write_text(f"{json.dumps(row)}\n{json.dumps(other)}\n")
        assert len(use_all(open_source(path), tokenizer)) == 2

    run()
