"""An array in a file: exactly its values, never a byte beyond its region."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from flamingo_jax.checkpoints.mapped import Mapped
from flamingo_jax.errors import UserError

FLOAT = np.dtype("<f4")
START = 12  # bytes before the region
COUNT = 24  # values in it


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Values 0 to 23, between bytes that belong to no one."""
    path = tmp_path_factory.mktemp("mapped") / "file"
    path.write_bytes(b"\xff" * START + np.arange(COUNT, dtype=FLOAT).tobytes() + b"\xff" * 8)
    return path


def mapped(path: Path, shape: tuple, strides: tuple | None = None, offset: int = 0) -> Mapped:
    return Mapped(path, "weight", FLOAT, shape, START, COUNT * FLOAT.itemsize, strides, offset)


@given(
    st.lists(st.tuples(st.integers(0, 5), st.integers(0, 9)), max_size=4), st.integers(0, COUNT + 2)
)
def test_any_view_is_read_as_numpy_sees_it_or_refused(
    path: Path, axes: list[tuple[int, int]], offset: int
) -> None:
    shape, strides = tuple(n for n, _ in axes), tuple(step for _, step in axes)
    indices = offset + sum(np.ix_(*(np.arange(n) * step for n, step in axes)), np.zeros(shape, int))
    last = indices.max() if indices.size else offset - 1
    if last >= COUNT or indices.size > COUNT:
        with pytest.raises(UserError, match=r"file.*'weight'|'weight'.*file"):
            mapped(path, shape, strides, offset).read()
    else:
        array = mapped(path, shape, strides, offset).read()
        np.testing.assert_array_equal(array, indices.astype(FLOAT))
        assert array.flags.c_contiguous
        assert array.dtype == FLOAT


@pytest.mark.parametrize(
    ("shape", "strides", "offset"),
    [
        ((25,), None, 0),
        ((24,), None, 1),
        ((2,), (24,), 0),
        ((2,), (1 << 61,), 0),
        ((2,), (-1,), 4),
        ((2,), (1,), -1),
        ((-2, -2), (1, 1), 0),
        ((2,), (1, 1), 0),
        ((2.0,), (1,), 0),
        ((2,), ("1",), 0),
        ((1,) * 33, None, 0),
        ((1 << 70,), None, 0),
    ],
)
def test_what_lies_outside_is_refused_before_it_is_read(
    path: Path, shape: tuple, strides: tuple | None, offset: int
) -> None:
    with pytest.raises(UserError, match=r"file is damaged: tensor 'weight' lies outside"):
        mapped(path, shape, strides, offset)


def test_a_repeated_region_takes_no_memory(path: Path) -> None:
    vast = mapped(path, (1 << 40, 1 << 20), (0, 0))
    with pytest.raises(UserError, match="claims more values than the file has"):
        vast.read()


@pytest.mark.parametrize("strides", [(6, 1), (1, 4)])
@pytest.mark.parametrize("left", [0, 40])
def test_a_file_cut_short_after_opening(tmp_path: Path, path: Path, strides, left: int) -> None:
    copy = tmp_path / "copy"
    copy.write_bytes(path.read_bytes())
    array = mapped(copy, (4, 6), strides)
    copy.write_bytes(path.read_bytes()[:left])
    with pytest.raises(UserError, match=r"'weight' of .*copy cannot be read"):
        array.read()
    copy.unlink()
    with pytest.raises(UserError, match=r"'weight' of .*copy cannot be read"):
        array.read()
