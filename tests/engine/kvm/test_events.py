"""Interrupt lines, the second CPU, doorbells."""

from __future__ import annotations

import itertools
import threading
import time

import pytest

from tests.engine.kvm import guests
from tests.engine.kvm.guests import MMIO
from tests.engine.kvm.rig import Rig, rig
from tests.waiting import until
from vmlab.errors import EngineError, RegisterIoEvent

pytestmark = [pytest.mark.kvm, pytest.mark.usefixtures("no_leaks")]

IRQ = 5
ISR_AT = 0x2000
SEEN = 0xE9  # the ISR writes here


def _load_irq_guest(r: Rig) -> None:
    r.memory.write(ISR_AT, guests.ISR)
    r.memory.write((0x20 + IRQ) * 4, ISR_AT.to_bytes(4, "little"))  # 0000:2000
    r.load(guests.IRQ, guests.REAL)


def _interrupts(r: Rig) -> int:
    return len(r.ports.values("w", SEEN))


def test_lines_and_pulses_wake_a_halted_guest() -> None:
    with rig() as r:
        _load_irq_guest(r)
        r.engine.start()
        assert r.done.wait(5)
        line = r.engine.irq_sink(IRQ)
        for turn in range(1, 20):
            assert line.set(True) is True
            until(lambda: _interrupts(r) == turn)  # noqa: B023
            assert line.set(True) is None, "idempotent"
            assert line.set(False) is None
            line.set(False)
        for turn in range(20, 120):
            line.pulse()
            until(lambda: _interrupts(r) == turn)  # noqa: B023
        line.close()
        line.close()
        line.pulse()
        line.set(True)
        time.sleep(0.01)
        assert _interrupts(r) == 119


def test_a_line_can_be_taken_before_the_start_and_survives_load() -> None:
    with rig() as r:
        line = r.engine.irq_sink(IRQ)
        for _ in range(3):
            r.done.clear()
            r.ports.log.clear()
            _load_irq_guest(r)
            if r.engine._started:
                r.engine.resume()
            else:
                r.engine.start()
            assert r.done.wait(5)
            line.pulse()
            until(lambda: _interrupts(r) == 1)
            line.set(True)
            until(lambda: _interrupts(r) == 2)
            line.set(False)
            r.engine.pause()


def test_lines_that_do_not_exist() -> None:
    with rig() as r:
        for gsi in (-1, 24):
            with pytest.raises(EngineError, match="lines 0 to 23"):
                r.engine.irq_sink(gsi)


def test_a_second_cpu_starts_by_init_and_sipi() -> None:
    with rig(cpus=2) as r:
        cpus: set[tuple[int, int]] = set()

        def hook(kind: str, port: int, size: int, value: int) -> None:
            cpus.add((port, r.engine.current_cpu()))

        r.ports.hook = hook
        r.memory.write(guests.AP_CODE, guests.AP)
        r.load(guests.SMP)
        with pytest.raises(EngineError, match="has not been started"):
            r.engine.step(1)
        r.engine.start()
        until(lambda: len(r.ports.log) > 50)
        assert r.ports.log[0] == ("w", SEEN, 1, 0x77)
        assert cpus == {(SEEN, 1), (0xE8, 1)}
        for _ in range(100):
            r.engine.pause()
            r.engine.resume()
        r.engine.pause()
        values = r.ports.values("w", 0xE8)
        assert all((a + 1) & 0xFFFF == b for a, b in itertools.pairwise(values))
        assert r.engine.get_regs(1)["cs"] == 0x200
        assert r.engine.current_cpu() == 0
        r.ports.log.clear()
        r.load(guests.SMP)  # the second CPU waits again
        with pytest.raises(EngineError, match="has not been started"):
            r.engine.step(1)
        r.engine.resume()
        until(lambda: len(r.ports.log) > 10)
        assert r.ports.log[0] == ("w", SEEN, 1, 0x77)


def test_doorbells_count_every_write_and_take_it_off_the_bus() -> None:
    with rig() as r:
        counts: dict[str, list[int]] = {"match": [], "any": []}
        threads: set[str] = set()

        def ring(name: str, count: int) -> None:
            counts[name].append(count)
            threads.add(threading.current_thread().name)

        three = r.engine.doorbell(MMIO + 0x50, 4, 3, lambda n: ring("match", n))
        r.engine.doorbell(MMIO + 0x60, 2, None, lambda n: ring("any", n))
        r.run(guests.BELLS)
        until(lambda: sum(counts["match"]) >= 1000 and sum(counts["any"]) >= 1000)
        assert {name: sum(values) for name, values in counts.items()} == {
            "match": 1000,
            "any": 1000,
        }
        assert r.mmio.values("w", MMIO + 0x50) == [4] * 1000
        assert threads == {"vmlab-doorbells"}
        three.close()
        three.close()
        r.mmio.log.clear()
        r.done.clear()
        r.load(guests.BELLS)
        r.engine.resume()
        assert r.done.wait(10)
        until(lambda: sum(counts["any"]) >= 2000)
        assert sum(counts["match"]) == 1000
        assert r.mmio.values("w", MMIO + 0x50) == [3, 4] * 1000
        assert not r.mmio.values("w", MMIO + 0x60)


def test_a_ring_that_raises_is_logged_and_rings_again(caplog: pytest.LogCaptureFixture) -> None:
    with rig() as r:
        total = [0]

        def ring(count: int) -> None:
            total[0] += count
            raise RuntimeError("no bell")

        r.engine.doorbell(MMIO + 0x60, 2, None, ring)
        r.run(guests.BELLS)
        until(lambda: total[0] == 1000)
    assert "no bell" in caplog.text


def test_the_same_doorbell_twice_is_refused() -> None:
    with rig() as r:
        r.engine.doorbell(MMIO + 0x60, 2, None, print)
        with pytest.raises(
            RegisterIoEvent, match=r"failed to register IO event: 2 bytes at 0xd0000060"
        ):
            r.engine.doorbell(MMIO + 0x60, 2, None, print)


def test_close_while_the_guest_rings() -> None:
    for _ in range(10):
        with rig() as r:
            rung = threading.Event()
            bell = r.engine.doorbell(MMIO, 4, None, lambda n: rung.set())  # noqa: B023
            r.load(guests.COUNT)
            r.engine.start()
            assert rung.wait(5)
            bell.close()
            until(lambda: r.mmio.log)
            r.engine.doorbell(MMIO, 4, None, lambda n: None)


def test_a_doorbell_that_closes_itself_and_the_engine() -> None:
    with rig() as r:
        closed = threading.Event()

        def ring(count: int) -> None:
            bell.close()
            r.engine.close()
            closed.set()

        bell = r.engine.doorbell(MMIO, 4, None, ring)
        r.load(guests.COUNT)
        r.engine.start()
        assert closed.wait(5)
