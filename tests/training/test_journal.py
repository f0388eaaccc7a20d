"""Logs survive a kill: rows after the step resumed from, and half-written lines, are dropped."""

from pathlib import Path

from flamingo_jax.training.journal import Journal, read_rows


def test_rows_are_read_back(tmp_path: Path) -> None:
    journal = Journal(tmp_path, 0)
    journal.metrics(1, {"loss": 2.5, "gates": {"alpha_xattn": [0.1, 0.2]}})
    journal.timing(1, {"seconds": 0.5})
    journal.close()
    rows = read_rows(tmp_path / "metrics.jsonl")
    assert rows == [{"step": 1, "loss": 2.5, "gates": {"alpha_xattn": [0.1, 0.2]}}]
    assert read_rows(tmp_path / "timing.jsonl") == [{"step": 1, "seconds": 0.5}]
    assert list((tmp_path / "tensorboard").iterdir())


def test_resuming_drops_later_and_half_written_rows(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    path.write_text('{"step": 1, "loss": 3.0}\n{"step": 2, "loss": 2.0}\n{"step": 3, "lo')
    journal = Journal(tmp_path, 1)
    journal.metrics(2, {"loss": 1.5})
    journal.close()
    assert read_rows(path) == [{"step": 1, "loss": 3.0}, {"step": 2, "loss": 1.5}]


def test_no_file_is_no_rows(tmp_path: Path) -> None:
    assert read_rows(tmp_path / "metrics.jsonl") == []
