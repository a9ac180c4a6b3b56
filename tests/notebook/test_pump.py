"""The one thread behind all views."""

from __future__ import annotations

import gc
import logging
import time
import weakref

import pytest

from tests.waiting import until
from vmlab.notebook.meter import BARS, Meter, two_digits
from vmlab.notebook.pump import Pump


class Seen:
    """A view that counts."""

    def __init__(self, watched: bool = True, error: Exception | None = None) -> None:
        self.watched, self.error = watched, error
        self.looks: list[float] = []
        self.flushes: list[float] = []

    def refresh(self) -> bool:
        self.looks.append(time.monotonic())
        if self.error is not None:
            raise self.error
        return False

    def flush(self) -> None:
        self.flushes.append(time.monotonic())


def test_it_looks_ten_times_a_second_at_most_and_only_at_what_is_seen() -> None:
    pump, seen, hidden = Pump(), Seen(), Seen(watched=False)
    pump.add(seen)
    pump.add(hidden)
    time.sleep(0.65)
    pump.remove(seen)
    pump.remove(hidden)
    assert 2 <= len(seen.looks) <= 8
    gaps = [b - a for a, b in zip(seen.looks, seen.looks[1:], strict=False)]
    assert min(gaps) > 0.08
    assert not hidden.looks


def test_it_ends_with_the_last_view_and_begins_again() -> None:
    pump = Pump()
    assert not pump.alive
    for _ in range(3):
        one = Seen()
        pump.add(one)
        assert pump.alive
        pump.remove(one)
        until(lambda: not pump.alive, "the end of the thread")


def test_a_view_that_is_collected_is_forgotten() -> None:
    pump, one = Pump(), Seen()
    pump.add(one)
    until(lambda: one.looks, "a look")
    found, one = weakref.ref(one), None  # type: ignore[assignment]
    until(lambda: (gc.collect(), found() is None)[1], "collected")
    until(lambda: not pump.alive, "the end of the thread")


def test_one_that_raises_does_not_stop_the_others(caplog: pytest.LogCaptureFixture) -> None:
    pump, bad, good = Pump(), Seen(error=RuntimeError("no")), Seen()
    with caplog.at_level(logging.CRITICAL):
        pump.add(bad)
        pump.add(good)
        until(lambda: len(good.looks) >= 3 and len(bad.looks) >= 3, "looks at both")
    pump.remove(bad)
    pump.remove(good)
    until(lambda: not pump.alive, "the end of the thread")


def test_output_goes_at_once_and_a_flood_is_gathered() -> None:
    pump, one = Pump(), Seen(watched=False)
    pump.add(one)
    time.sleep(0.05)
    start = time.monotonic()
    pump.poke(one)
    until(lambda: one.flushes, "the flush")
    assert one.flushes[0] - start < 0.09
    one.flushes.clear()
    end = time.monotonic() + 0.3
    while time.monotonic() < end:
        pump.poke(one)
        time.sleep(0.0005)
    assert 1 <= len(one.flushes) <= 31
    pump.remove(one)


def test_a_poke_of_a_view_that_is_gone_does_nothing() -> None:
    pump, one = Pump(), Seen()
    pump.poke(one)
    assert not pump.alive


def test_a_steady_rate_is_a_steady_number() -> None:
    meter = Meter()
    shown = set()
    for step in range(100):
        meter.take(step / 10, step * 5, (step - 1) / 10)
        if step > 20:
            shown.add(meter.rate)
    assert shown == {50}
    assert list(meter.bars)[-5:] == [50] * 5


def test_what_has_stopped_is_zero_after_a_second_and_quiet_after_the_past_is_over() -> None:
    meter, now = Meter(), 0.0
    meter.take(now, 0, 0.0)
    meter.take(0.1, 100, now)
    assert meter.rate > 0
    assert not meter.quiet
    for step in range(2, 13):
        meter.take(step / 10, 100, (step - 1) / 10)
    assert meter.rate == 0
    assert not meter.quiet
    for step in range(13, 13 + BARS * 6):
        meter.take(step / 10, 100, (step - 1) / 10)
    assert meter.quiet


def test_one_access_after_a_long_silence_is_no_burst() -> None:
    meter = Meter()
    meter.take(0.0, 0, 0.0)
    # looked at all the time, told of nothing
    meter.take(500.0, 1, 499.9)
    assert meter.rate == 2
    meter.take(500.6, 1, 500.5)
    assert list(meter.bars)[-3:] == [0, 2, 0]
    meter.take(501.2, 1, 501.1)
    assert meter.rate == 0


def test_a_device_that_counts_from_zero_again() -> None:
    meter = Meter()
    meter.take(0.0, 1000, 0.0)
    meter.take(0.1, 3, 0.0)
    assert meter.rate == 0


def test_two_digits() -> None:
    values = [0, 0.04, 0.26, 7.26, 9.96, 42.4, 956, 38_499]
    assert [two_digits(one) for one in values] == [0, 0, 0.3, 7.3, 10, 42, 960, 38_000]
