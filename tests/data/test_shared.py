"""Blocks of shared memory are used again, and never while somebody looks at them."""

import subprocess
import sys
import textwrap
from collections.abc import Iterator
from multiprocessing.shared_memory import SharedMemory
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from flamingo_jax.data.shared import Receiver, Sender


class Line:
    """A sender and a receiver; what lies between two processes is left out."""

    def __init__(self) -> None:
        self.sender, self.receiver, self.blocks = Sender(), Receiver(), 0

    def send(self, rows: list[dict[str, Any]]) -> dict[str, np.ndarray]:
        parcel, new = self.sender.stack(rows)
        self.blocks += new is not None
        return self.receiver.open(parcel, new)

    def unlink(self) -> None:
        """What grain does with a block that it has carried over."""
        for block in self.sender._blocks:
            block.unlink_on_del()


@pytest.fixture
def line() -> Iterator[Line]:
    line = Line()
    yield line
    line.unlink()


def rows(count: int, seed: int = 0) -> list[dict[str, Any]]:
    draw = np.random.default_rng(seed)
    return [
        {
            "image": draw.integers(0, 256, (5, 7, 3), np.uint8),
            "seen": draw.random((9,)) < 0.5,
            "weight": draw.random((2, 3), np.float32),
            "none": np.zeros((0, 4), np.int32),
        }
        for _ in range(count)
    ]


def same(batch: dict[str, np.ndarray], made: list[dict[str, Any]]) -> bool:
    return list(batch) == list(made[0]) and all(
        array.dtype == made[0][field].dtype
        and np.array_equal(array, np.stack([row[field] for row in made]))
        for field, array in batch.items()
    )


def test_a_batch_arrives_as_it_was_stacked(line: Line) -> None:
    batch = line.send(rows(3))
    assert same(batch, rows(3))
    assert all(array.ctypes.data % 64 == 0 for array in batch.values())


def test_a_block_is_used_again_when_its_batch_is_gone(line: Line) -> None:
    for seed in range(4):
        batch = line.send(rows(3, seed))
        assert same(batch, rows(3, seed))
        del batch
    assert line.blocks == 1


def test_a_block_is_left_alone_while_a_view_of_it_is_seen(line: Line) -> None:
    batch = line.send(rows(3))
    view = batch["image"][1:][:, ::2]
    del batch
    for seed in range(1, 4):
        line.send(rows(3, seed))
    np.testing.assert_array_equal(view, np.stack([row["image"] for row in rows(3)])[1:, ::2])
    assert line.blocks == 2
    del view
    kept = [line.send(rows(3)), line.send(rows(3, 1))]
    assert line.blocks == 2
    assert same(kept[0], rows(3))
    assert same(kept[1], rows(3, 1))


def test_a_batch_goes_into_the_smallest_block_that_holds_it(line: Line) -> None:
    both = [line.send(rows(8)), line.send(rows(2))]
    del both
    small = line.send(rows(1))
    large = line.send(rows(7))
    assert line.blocks == 2
    assert same(small, rows(1))
    assert same(large, rows(7))


@pytest.mark.slow
def test_workers_leave_nothing_behind_and_say_nothing(tmp_path: Path) -> None:
    """Neither batches that are still held when the process ends nor those on their way."""
    script = tmp_path / "run.py"
    script.write_text(
        textwrap.dedent("""
        from pathlib import Path
        from flamingo_jax.data.datasets import DatasetConfig, MixtureConfig
        from flamingo_jax.data.mixture import make_iterator
        from flamingo_jax.data.tokenizer import Tokenizer
        from flamingo_jax.speed.data import write_shards
        from flamingo_jax.checkpoints import smollm2

        if __name__ == "__main__":
            here = Path(__file__).parent
            write_shards(here / "shards")
            smollm2.write_tokenizer(smollm2.find_gguf(), here / "words.json")
            words = Tokenizer.load(here / "words.json")
            pairs = DatasetConfig("pairs", "pairs", 4, 1.0, 32, 1, 32, path=str(here / "shards"))
            config = MixtureConfig((pairs,), workers=2)
            batches = make_iterator(config, [], words, 0, image_size=32)
            held = [next(batches) for _ in range(5)]
            assert len(held) == 5
            print(*(block.name for block in batches._received._blocks.values()))
        """)
    )
    done = subprocess.run([sys.executable, script], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    assert "shared_memory" not in done.stderr
    names = done.stdout.split()
    assert names
    for name in names:
        with pytest.raises(FileNotFoundError):
            SharedMemory(name)
