"""Rows of text files: which lines are rows."""

from pathlib import Path

import pytest

from flamingo_jax.data.bad_records import BadRecord
from flamingo_jax.data.sources.rows import JsonLines


def test_blank_lines_are_no_rows_and_all_others_are(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_bytes(b'{"a": 1}\n\n0\n\r\n\r\n1\r\n{"a": 2}\n2')
    rows = JsonLines([path])
    assert len(rows) == 5
    assert (rows[0], rows[3]) == ({"a": 1}, {"a": 2})
    for bare in (1, 2, 4):
        with pytest.raises(BadRecord, match="no JSON object"):
            rows[bare]


def test_a_file_of_nothing_has_no_rows(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_bytes(b"")
    assert len(JsonLines([path])) == 0


@pytest.mark.parametrize("blank", [b"   ", b" " * 1000, b"\t \x0b\x0c \r"])
def test_lines_of_blanks_are_no_rows(tmp_path: Path, blank: bytes) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_bytes(blank + b'\n{"a": 1}\n' + blank + b'\n   {"a": 2}\n' + blank)
    rows = JsonLines([path])
    assert [rows[i] for i in range(len(rows))] == [{"a": 1}, {"a": 2}]
