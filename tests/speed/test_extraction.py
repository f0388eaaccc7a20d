"""The speed of the extraction is measured on pages that it keeps."""

from flamingo_jax.speed.extraction import extraction_speed


def test_rows() -> None:
    rows = extraction_speed(pages=4)
    assert [row["stage"] for row in rows] == ["parse", "read", "extract", "beam"]
    assert rows[0]["share_of_parsing"] == 1
    assert all(row["pages_per_s"] > 0 for row in rows)
