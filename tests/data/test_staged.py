"""Halves of work, in order."""

from flamingo_jax.data.staged import Staged, finish, finish_all


def piece(name: int, done: list[tuple[int, int]], halves: int = 2) -> Staged[int]:
    for half in range(halves - 1):
        done.append((half, name))
        yield
    done.append((halves - 1, name))
    return 10 * name


def test_one_piece_is_done_to_its_end() -> None:
    done: list[tuple[int, int]] = []
    assert finish(piece(3, done, halves=4)) == 30
    assert done == [(half, 3) for half in range(4)]


def test_first_halves_come_first_for_some_dozens_at_a_time() -> None:
    done: list[tuple[int, int]] = []
    assert finish_all([piece(name, done) for name in range(70)]) == [
        10 * name for name in range(70)
    ]
    dozens = [range(32), range(32, 64), range(64, 70)]
    assert done == [(half, name) for some in dozens for half in (0, 1) for name in some]


def test_a_piece_may_take_more_turns_than_the_others() -> None:
    done: list[tuple[int, int]] = []
    assert finish_all([piece(1, done, halves=3), piece(2, done)]) == [10, 20]
