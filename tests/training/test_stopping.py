"""The first signal asks to stop, the second ends at once, and handlers are put back."""

import os
import signal
from collections.abc import Iterator

import pytest

from flamingo_jax.training.stopping import stop_signals


@pytest.fixture(autouse=True)
def usual_handler() -> Iterator[None]:
    """Python's own: what a shell starts in its background ignores SIGINT."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_first_signal_asks_and_second_ends(number: signal.Signals) -> None:
    before = signal.getsignal(number)
    with stop_signals() as asked:
        assert not asked()
        os.kill(os.getpid(), number)
        assert asked()
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), number)
    assert signal.getsignal(number) is before


def test_a_signal_after_the_last_question_is_not_lost() -> None:
    def last_step() -> None:
        with stop_signals() as asked:
            assert not asked()
            os.kill(os.getpid(), signal.SIGINT)

    before = signal.getsignal(signal.SIGINT)
    with pytest.raises(KeyboardInterrupt):
        last_step()
    assert signal.getsignal(signal.SIGINT) is before


def test_an_error_goes_before_a_signal() -> None:
    def last_step() -> None:
        with stop_signals():
            os.kill(os.getpid(), signal.SIGINT)
            raise ValueError("other")

    with pytest.raises(ValueError, match="other"):
        last_step()
