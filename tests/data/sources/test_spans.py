"""Records read out of files by their places."""

import os
from pathlib import Path

import numpy as np
import pytest

from flamingo_jax.data.bad_records import BadRecord
from flamingo_jax.data.sources.spans import Spans

CONTENT = bytes(range(256)) * 8


def spans_of(path: Path, *spans: tuple[int, int]) -> Spans:
    path.write_bytes(CONTENT)
    return Spans([path], lambda _: np.array(spans, np.int64))


def test_a_file_system_may_give_less_at_a_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    spans, whole = spans_of(tmp_path / "a", (3, 1000), (1500, 548)), os.pread
    monkeypatch.setattr(os, "pread", lambda file, size, at: whole(file, min(size, 300), at))
    assert spans.read(0) == CONTENT[3:1003]
    assert spans.read(1) == CONTENT[1500:]


def test_what_ends_too_soon_is_told_and_no_file_stays_open(tmp_path: Path) -> None:
    spans = spans_of(tmp_path / "a", (2000, 49), (0, 10))
    before = len(os.listdir("/proc/self/fd")) if Path("/proc/self/fd").exists() else 0
    for _ in range(3):
        with pytest.raises(BadRecord, match="ends in the middle of the record"):
            spans.read(0)
    assert spans.read(1) == CONTENT[:10]
    (tmp_path / "a").unlink()
    with pytest.raises(BadRecord, match="No such file"):
        spans.read(1)
    if before:
        assert len(os.listdir("/proc/self/fd")) == before
