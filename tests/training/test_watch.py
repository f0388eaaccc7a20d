"""Log lines for spikes, slow data and stalls; and none where all is well."""

import time

import numpy as np
import pytest

from flamingo_jax.training.watch import Watch

Log = pytest.LogCaptureFixture


def test_a_loss_that_jumps_is_told_once(caplog: Log) -> None:
    watch, draw = Watch(1.0), np.random.default_rng(0)
    for step in range(1, 61):
        watch.loss(step, 9.0 if step == 50 else 2.0 + 0.1 * draw.normal())
    (record,) = caplog.records
    assert record.getMessage().startswith("Loss spike at step 50: 9; the median of the 49 steps")


def test_a_falling_or_noisy_loss_is_no_spike(caplog: Log) -> None:
    watch, draw = Watch(1.0), np.random.default_rng(0)
    for step in range(1, 301):
        watch.loss(step, 5 / step**0.5 + abs(draw.normal(scale=0.05)))
    watch.loss(301, float("nan"))
    watch.loss(302, 0.3)
    assert not caplog.records


def test_a_device_that_waits_for_its_data(caplog: Log) -> None:
    watch = Watch(1.0)
    watch.data(0)
    watch.step(20.0, 2.0)
    watch.data(1)
    assert not caplog.records
    watch.step(20.0, 10.0)
    watch.step(20.0, 6.0)
    watch.data(3)
    assert "Slow data pipeline at step 3: the device waited 40% of the time" in caplog.text


def test_a_moment_of_waiting_is_no_slow_pipeline(caplog: Log) -> None:
    watch = Watch(1.0)
    for step in range(1, 4):
        watch.step(4.0, 4.0)
        watch.data(step)
        assert bool(caplog.records) == (step == 3)


def test_a_stall_says_where_and_once(caplog: Log) -> None:
    with Watch(0.1 / 60) as watch:
        watch.doing("making the inputs of step 4")
        time.sleep(0.5)
        assert [record.getMessage() for record in caplog.records] == [
            "Stalled: making the inputs of step 4 for 0.00167 minutes."
        ]
        watch.doing("in step 4")
    assert len(caplog.records) == 1
