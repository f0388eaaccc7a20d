"""Stages of work, in order."""

from flamingo_jax.data.staged import Staged, finish, finish_all


def piece(name: int, done: list[tuple[int, int]], stages: int = 2) -> Staged[int]:
    for stage in range(stages - 1):
        done.append((stage, name))
        yield
    done.append((stages - 1, name))
    return 10 * name


def test_one_piece_is_done_to_its_end() -> None:
    done: list[tuple[int, int]] = []
    assert finish(piece(3, done, stages=4)) == 30
    assert done == [(stage, 3) for stage in range(4)]


def test_stages_follow_each_other_for_some_dozens_at_a_time() -> None:
    done: list[tuple[int, int]] = []
    assert finish_all([piece(name, done, stages=3) for name in range(70)]) == [
        10 * name for name in range(70)
    ]
    dozens = [range(32), range(32, 64), range(64, 70)]
    assert done == [(stage, name) for some in dozens for stage in range(3) for name in some]


def test_a_piece_may_take_more_turns_than_the_others() -> None:
    done: list[tuple[int, int]] = []
    assert finish_all([piece(1, done, stages=3), piece(2, done)]) == [10, 20]
