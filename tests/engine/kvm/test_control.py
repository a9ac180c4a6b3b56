"""Pause, resume, park, step, close: from every thread, in every state, without a lost access."""

from __future__ import annotations

import os
import random
import signal
import threading
import time
from pathlib import Path

import pytest

from tests.engine.kvm import guests
from tests.engine.kvm.guests import CODE, MMIO
from tests.engine.kvm.rig import Rig, consecutive, park_in, rig
from tests.waiting import until
from vmlab.errors import ConfigError, EngineError

pytestmark = [pytest.mark.kvm, pytest.mark.usefixtures("no_leaks")]


def _fds() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


@pytest.mark.parametrize("code", [guests.ECHO, guests.PORT_ECHO], ids=["mmio", "port"])
def test_500_pauses_lose_and_double_nothing(code: bytes) -> None:
    numbers = iter(range(1 << 40))
    with rig() as r:
        r.mmio.answer = r.ports.answer = lambda address, size: next(numbers) & 0xFFFFFFFF
        r.load(code)
        r.engine.start()
        dice = random.Random(1)
        for turn in range(500):
            time.sleep(dice.choice((0, 0, 0.0002, 0.001)))
            r.engine.pause()
            log = r.mmio.log or r.ports.log
            seen = len(log)
            if turn % 10 == 0:
                r.engine.get_regs()
                time.sleep(0.001)
            assert len(log) == seen, "an access while paused"
            r.engine.resume()
        r.engine.pause()
        log = r.mmio.log or r.ports.log
        reads = [value for kind, _, _, value in log if kind == "r"]
        writes = [value for kind, _, _, value in log if kind == "w"]
        assert consecutive(reads)
        assert len(reads) > 500
        assert writes == reads[: len(writes)]
        assert len(reads) - len(writes) <= 1


def test_pausers_and_resumers_at_once() -> None:
    """No deadlock, and the counter that the guest writes has neither gaps nor repeats."""
    with rig() as r:
        r.load(guests.COUNT)
        r.engine.start()
        end = time.monotonic() + 1.0

        def worker(call: str) -> None:
            while time.monotonic() < end:
                getattr(r.engine, call)()

        calls = ["pause", "resume", "request_pause", "resume", "pause"]
        threads = [threading.Thread(target=worker, args=(call,)) for call in calls]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(20)
            assert not thread.is_alive()
        r.engine.resume()
        before = len(r.mmio.log)
        until(lambda: len(r.mmio.log) > before + 10)
        r.engine.pause()
        assert consecutive(r.mmio.values("w", MMIO))


@pytest.mark.parametrize("kind", ["mmio", "port"])
def test_request_pause_in_an_access_stops_right_after_it(kind: str) -> None:
    with rig() as r:
        bus = r.mmio if kind == "mmio" else r.ports
        bus.hook = lambda k, *_: r.engine.request_pause() if k == "w" else None
        r.load(guests.COUNT if kind == "mmio" else guests.PORT_ECHO)
        r.engine.start()
        for turn in range(1, 50):
            until(lambda: len(bus.values("w", MMIO if kind == "mmio" else 0x510)) >= turn)  # noqa: B023
            r.engine.pause()
            time.sleep(0.0005)
            assert len([e for e in bus.log if e[0] == "w"]) == turn
            rip = r.engine.get_regs()["rip"]
            assert rip == CODE + (3 if kind == "mmio" else 6)
            r.engine.resume()


def test_pause_from_another_thread_while_the_guest_spins_without_exits() -> None:
    with rig() as r:
        r.load(b"\xeb\xfe")
        r.engine.start()
        time.sleep(0.02)
        started = time.monotonic()
        r.engine.pause()
        assert time.monotonic() - started < 1
        assert r.engine.get_regs()["rip"] == CODE
        assert r.engine.exits == {"intr": 1}


def test_a_halted_guest_can_be_paused_and_closed() -> None:
    with rig() as r:
        r.load(guests.HALT)
        r.engine.start()
        time.sleep(0.02)
        r.engine.pause()
        r.engine.resume()
        time.sleep(0.02)


def test_registers_set_while_paused_are_the_guests() -> None:
    with rig() as r:
        r.load(guests.COUNT)
        r.engine.start()
        until(lambda: len(r.mmio.log) > 10)
        with pytest.raises(EngineError, match="while paused only"):
            r.engine.get_regs()
        with pytest.raises(EngineError, match="while paused only"):
            r.engine.set_regs(0, {"rax": 1})
        r.engine.pause()
        seen = len(r.mmio.log)
        r.engine.set_regs(0, {"rax": 1000, "rip": CODE})
        with pytest.raises(EngineError, match="no general register is called 'eax'"):
            r.engine.set_regs(0, {"eax": 1})
        r.engine.resume()
        until(lambda: len(r.mmio.log) > seen)
        assert r.mmio.log[seen][3] == 1001


def test_park_blocks_the_access_until_resume() -> None:
    with rig() as r:
        answers: list[bool] = []

        def hook(kind: str, address: int, size: int, value: int) -> None:
            if value & 0xFF == 0x20:
                answers.append(r.engine.park())

        r.mmio.hook = hook
        r.load(guests.COUNT)
        r.engine.start()
        until(lambda: r.mmio.log and r.mmio.log[-1][3] & 0xFF == 0x20)
        r.engine.pause()
        assert r.engine.get_regs()["rax"] & 0xFF == 0x20
        with pytest.raises(EngineError, match="inside a device access"):
            r.engine.set_regs(0, {"rax": 1})
        seen = len(r.mmio.log)
        time.sleep(0.01)
        assert (len(r.mmio.log), answers) == (seen, [])
        assert r.engine.step()  # to the end of that access, and no further
        assert (len(r.mmio.log), answers) == (seen, [True])
        r.engine.resume()
        until(lambda: len(r.mmio.log) > seen)
        until(lambda: answers == [True] or len(answers) > 1)
        assert consecutive(r.mmio.values("w", MMIO))


@pytest.mark.parametrize("way", ["close", "load"])
def test_park_is_given_up_by_close_and_by_load(way: str) -> None:
    with rig() as r:
        answers: list[bool] = []
        r.mmio.hook = lambda *_: answers.append(r.engine.park())
        r.load(guests.COUNT)
        r.engine.start()
        until(lambda: r.mmio.log)
        r.engine.pause()
        if way == "close":
            r.engine.close()
            assert answers == [False]
            return
        r.load(guests.COUNT)
        assert answers == [False]
        assert r.engine.get_regs()["rip"] == CODE
        r.mmio.hook = None
        r.engine.resume()
        until(lambda: len(r.mmio.log) > 5)


def test_pause_again_while_a_parked_access_wakes() -> None:
    with rig() as r:
        r.mmio.hook = park_in(r)
        r.load(guests.COUNT)
        r.engine.start()
        for turn in range(1, 100):
            until(lambda: len(r.mmio.log) >= turn)  # noqa: B023
            r.engine.pause()
            assert len(r.mmio.log) == turn
            r.engine.resume()


def test_everything_from_a_thread_that_is_not_main() -> None:
    def life() -> None:
        with rig() as r:
            r.load(guests.COUNT)
            r.engine.start()
            until(lambda: len(r.mmio.log) > 10)
            for _ in range(50):
                r.engine.pause()
                r.engine.resume()
            counts.append(len(r.mmio.log))

    counts: list[int] = []
    thread = threading.Thread(target=life)
    thread.start()
    thread.join(20)
    assert counts


def test_other_signals_do_not_disturb() -> None:
    """A signal to the process lets the guest go on, with Python's handler run on the main thread."""
    heard: list[int] = []
    old = signal.signal(signal.SIGUSR1, lambda number, frame: heard.append(number))
    try:
        with rig() as r:
            r.load(b"\xeb\xfe")
            r.engine.start()
            (thread,) = [t for t in threading.enumerate() if t.name == "vmlab-vcpu0"]
            assert thread.ident is not None
            for _ in range(20):
                signal.pthread_kill(thread.ident, signal.SIGUSR1)
                os.kill(os.getpid(), signal.SIGUSR1)
                time.sleep(0.002)
            r.engine.pause()
            assert r.engine.get_regs()["rip"] == CODE
    finally:
        signal.signal(signal.SIGUSR1, old)
    assert heard


@pytest.mark.parametrize("state", ["created", "loaded", "running", "paused", "halted", "stopped"])
def test_close_in_every_state(state: str) -> None:
    with rig(cpus=2) as r:
        if state != "created":
            code = {"halted": guests.HALT, "stopped": guests.FAULT}.get(state, guests.COUNT)
            r.load(code)
        if state not in ("created", "loaded"):
            r.engine.start()
            if state == "stopped":
                assert r.stopped.wait(5)
            time.sleep(0.005)
        if state == "paused":
            r.engine.pause()
        r.engine.close()
        r.engine.close()
        for call in (r.engine.start, r.engine.resume, r.engine.get_regs, r.engine.step):
            with pytest.raises(EngineError, match="closed"):
                call()
        with pytest.raises(EngineError, match="closed"):
            r.load(guests.COUNT)
        with pytest.raises(EngineError, match="closed"):
            r.engine.irq_sink(5)
        with pytest.raises(EngineError, match="closed"):
            r.engine.doorbell(MMIO, 4, None, print)
        r.engine.pause()
        r.engine.request_pause()


def test_calls_out_of_order_say_so() -> None:
    with rig() as r:
        with pytest.raises(EngineError, match="call load first"):
            r.engine.start()
        with pytest.raises(EngineError, match="call load first"):
            r.engine.step()
        with pytest.raises(EngineError, match="call start"):
            r.engine.resume()
        with pytest.raises(EngineError, match="own thread"):
            r.engine.park()
        r.load(guests.COUNT)
        r.engine.start()
        with pytest.raises(EngineError, match="resume it"):
            r.engine.start()
        with pytest.raises(EngineError, match="pause the engine"):
            r.load(guests.COUNT)


def test_calls_that_would_wait_for_themselves() -> None:
    errors: list[str] = []

    def hook(*_: object) -> None:
        for name in ("pause", "close", "step"):
            try:
                getattr(r.engine, name)()
            except EngineError as error:
                errors.append(str(error))
        r.engine.request_pause()

    with rig() as r:
        r.mmio.hook = hook
        r.load(guests.COUNT)
        r.engine.start()
        until(lambda: len(errors) >= 3)
    assert all("on a vCPU's own thread" in text for text in errors)


@pytest.mark.parametrize("cpus", [0, -1, 100_000])
def test_impossible_numbers_of_cpus(cpus: int) -> None:
    with pytest.raises(ConfigError, match="CPUs here, not"):
        Rig(cpus)


def test_50_engines_leave_nothing() -> None:
    def once() -> None:
        with rig(cpus=2) as r:
            r.load(guests.COUNT)
            r.engine.irq_sink(5).pulse()
            r.engine.doorbell(MMIO + 0x50, 4, None, lambda n: None)
            r.engine.start()
            until(lambda: r.mmio.log)
            r.engine.pause()
            r.load(guests.COUNT)

    once()
    fds, threads = _fds(), threading.active_count()
    for _ in range(50):
        once()
    assert _fds() == fds
    assert threading.active_count() == threads
