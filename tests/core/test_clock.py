"""The machine's time."""

from __future__ import annotations

import itertools
import logging
import sys
import threading
import time
from collections.abc import Iterator
from functools import partial
from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vmlab.core.clock import SWEEP, Clock

MS = 1_000_000
SOON = 2.0


@pytest.fixture
def clock() -> Iterator[Clock]:
    made = Clock()
    yield made
    made.close()


def test_time_stands_still_until_the_start_and_while_paused(clock: Clock) -> None:
    assert clock.now() == clock.now() == 0
    assert not clock.running
    clock.resume()
    assert clock.running
    start = time.monotonic_ns()
    while clock.now() < MS:
        assert time.monotonic_ns() - start < SOON * 1e9
    clock.pause()
    stopped = clock.now()
    time.sleep(0.005)
    assert clock.now() == stopped >= MS
    clock.resume()
    assert stopped <= clock.now() < stopped + SOON * 1e9


def test_resuming_and_pausing_twice_is_once(clock: Clock) -> None:
    clock.resume()
    before = clock.now()
    clock.resume()
    assert clock.now() >= before
    clock.pause()
    stopped = clock.now()
    clock.pause()
    assert clock.now() == stopped


def test_time_never_runs_backwards_around_a_pause(clock: Clock) -> None:
    stop, jumps = threading.Event(), []

    def watch() -> None:
        last = clock.now()
        while not stop.is_set():
            now = clock.now()
            if not 0 <= now - last < SOON * 1e9:
                jumps.append((last, now))
            last = now

    watchers = [threading.Thread(target=watch) for _ in range(3)]
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)  # threads change places between any two reads
    try:
        for watcher in watchers:
            watcher.start()
        for _ in range(2000):
            clock.resume()
            clock.pause()
    finally:
        sys.setswitchinterval(interval)
        stop.set()
    for watcher in watchers:
        watcher.join()
    assert not jumps


@given(at=st.lists(st.sampled_from(["pause", "resume"]), max_size=8))
def test_a_pause_between_the_two_reads_of_now(at: list[str]) -> None:
    """Whatever happens while a thread that asks for the time is held up, time does not run backwards."""
    clock, host, steps = Clock(), itertools.count(1), iter(at)

    def held_up() -> int:
        if step := next(steps, None):
            getattr(clock, step)()
        return next(host) * MS

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(
            "vmlab.core.clock.time", SimpleNamespace(monotonic_ns=lambda: next(host) * MS)
        )
        clock.resume()
        seen = []
        for _ in range(len(at) + 2):
            patch.setattr("vmlab.core.clock.time.monotonic_ns", held_up)
            seen.append(clock.now())
            patch.setattr("vmlab.core.clock.time.monotonic_ns", lambda: next(host) * MS)
            seen.append(clock.now())
    assert seen == sorted(seen)


def test_who_asks_while_a_pause_is_under_way(clock: Clock, monkeypatch: pytest.MonkeyPatch) -> None:
    """Between the pause's look at the host's time and its word."""
    seen: list[int] = []
    real = time.monotonic_ns
    asker = threading.Thread(target=lambda: seen.append(clock.now()))

    def look() -> int:
        now = real()
        if threading.current_thread() is not asker and not seen and asker.ident is None:
            asker.start()
            asker.join(0.05)
        return now

    clock.resume()
    monkeypatch.setattr("vmlab.core.clock.time", SimpleNamespace(monotonic_ns=look))
    clock.pause()
    asker.join(SOON)
    assert seen == [clock.now()]


def test_calls_come_in_order_of_their_time_then_of_their_making(clock: Clock) -> None:
    order: list[str] = []
    done = threading.Event()
    for due, name in ((3, "d"), (1, "a"), (2, "b"), (2, "c")):
        clock.call_at(due * MS, partial(order.append, name))
    clock.call_at(4 * MS, done.set)
    assert order == []
    clock.resume()
    assert done.wait(SOON)
    assert order == ["a", "b", "c", "d"]


def test_nothing_is_early(clock: Clock) -> None:
    at, done = [], threading.Event()
    clock.resume()
    due = clock.now() + 5 * MS
    clock.call_at(due, lambda: (at.append(clock.now()), done.set()))  # type: ignore[arg-type]
    assert done.wait(SOON)
    assert at[0] >= due


def test_an_earlier_call_wakes_the_waiting_thread(clock: Clock) -> None:
    done = threading.Event()
    clock.resume()
    clock.call_at(clock.now() + 3600 * 1000 * MS, lambda: None)
    clock.call_at(clock.now() + MS, done.set)
    assert done.wait(SOON)


def test_no_call_comes_while_paused(clock: Clock) -> None:
    done = threading.Event()
    clock.resume()
    clock.call_at(clock.now() + 20 * MS, done.set)
    clock.pause()
    assert not done.wait(0.03)
    clock.resume()
    assert done.wait(SOON)


def test_a_cancelled_call_does_not_come(clock: Clock) -> None:
    called, done = [], threading.Event()
    timer = clock.call_at(MS, lambda: called.append(1))
    clock.call_at(2 * MS, done.set)
    timer.cancel()
    clock.resume()
    assert done.wait(SOON)
    assert not called


def test_reset_forgets_every_call(clock: Clock) -> None:
    called, done = [], threading.Event()
    clock.call_at(MS, lambda: called.append(1))
    clock.reset()
    clock.call_at(2 * MS, done.set)
    clock.resume()
    assert done.wait(SOON)
    assert not called


def test_a_call_may_make_the_next(clock: Clock) -> None:
    times, done = [], threading.Event()

    def again() -> None:
        times.append(clock.now())
        if len(times) < 3:
            clock.call_at(times[-1] + MS, again)
        else:
            done.set()

    clock.call_at(0, again)
    clock.resume()
    assert done.wait(SOON)
    assert times == sorted(times)


def test_a_time_beyond_any_clock(clock: Clock) -> None:
    done = threading.Event()
    clock.resume()
    clock.call_at(1 << 80, lambda: None)
    clock.call_at(0, done.set)
    assert done.wait(SOON)
    late = threading.Event()
    clock.call_at(clock.now() + MS, late.set)
    assert late.wait(SOON), "the thread lives on"


def test_cancelled_calls_do_not_pile_up(clock: Clock) -> None:
    kept = [clock.call_at((1 << 62) + n, lambda: None) for n in range(10)]
    for _ in range(10_000):
        clock.call_at(1 << 62, lambda: None).cancel()
    assert len(clock._queue) <= 2 * SWEEP + len(kept)
    assert {id(timer) for timer in kept} <= {id(entry[2]) for entry in clock._queue}


def test_a_call_that_raises_is_told_and_the_clock_goes_on(clock: Clock) -> None:
    told, done = [], threading.Event()  # type: ignore[var-annotated]
    clock.on_error = told.append
    clock.call_at(0, lambda: 1 // 0)  # type: ignore[arg-type]
    clock.call_at(1, done.set)
    clock.resume()
    assert done.wait(SOON)
    assert [type(error) for error in told] == [ZeroDivisionError]


def test_without_a_listener_it_is_logged(clock: Clock, caplog: pytest.LogCaptureFixture) -> None:
    done = threading.Event()
    with caplog.at_level(logging.ERROR):
        clock.call_at(0, lambda: 1 // 0)  # type: ignore[arg-type]
        clock.call_at(1, done.set)
        clock.resume()
        assert done.wait(SOON)
    assert "ZeroDivisionError" in caplog.text


def test_an_unused_clock_has_no_thread(clock: Clock) -> None:
    clock.resume()
    clock.pause()
    clock.call_at(0, lambda: None)
    assert clock._thread is None, "paused: nothing can be due"


def test_close_ends_the_thread() -> None:
    clock = Clock()
    clock.call_at(3600 * 1000 * MS, lambda: None)
    clock.resume()
    thread = clock._thread
    assert thread is not None
    clock.close()
    assert not thread.is_alive()
    clock.close()
    clock.call_at(0, lambda: None)
    assert not clock._queue, "a closed clock keeps nothing"


def test_close_from_its_own_thread() -> None:
    clock, done = Clock(), threading.Event()

    def end() -> None:
        clock.close()
        done.set()

    clock.call_at(0, end)
    clock.resume()
    assert done.wait(SOON)
    assert clock._thread is not None
    clock._thread.join(SOON)
    assert not clock._thread.is_alive()
