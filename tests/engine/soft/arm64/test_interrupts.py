"""Interrupts: each one that is sent is handled once, busy or asleep."""

from __future__ import annotations

import pytest

from tests.engine.soft.arm64 import guests
from tests.engine.soft.arm64.lab import DEVICE, GICS, READY, WAYS, bench
from tests.engine.soft.running import answer_with_the_next

ASLEEP = pytest.mark.parametrize("asleep", [False, True], ids=["busy", "asleep"])
TIMER = 27
LINES = range(40, 48)


def _count(way: str) -> int:
    return 10_000 if way == "native" else 1_000


@WAYS
@GICS
@ASLEEP
def test_the_timer_is_exact(gic: int, asleep: bool, way: str) -> None:
    count = _count(way)
    with bench(gic=gic, way=way) as lab:
        lab.enable(TIMER)
        lab.interrupts(count, asleep, tick=2_000)
        lab.run(guests.INTERRUPTS)
        handled, spurious, turns = lab.results(3)
        assert (handled, spurious) == (count, 0)
        assert asleep or lab.results(9)[8] == turns


@WAYS
@GICS
@ASLEEP
def test_edges_of_devices_are_exact(gic: int, asleep: bool, way: str) -> None:
    count = _count(way)
    with bench(gic=gic, way=way) as lab:
        lab.enable(*LINES)
        lab.interrupts(count, asleep)
        seen = answer_with_the_next(lab, lab.bus, LINES, count, DEVICE)
        lab.run(guests.INTERRUPTS)
        handled, spurious, turns = lab.results(3)
        assert (handled, spurious) == (count, 0)
        assert seen == [LINES[n % len(LINES)] for n in range(count)]
        assert asleep or lab.results(9)[8] == turns


@WAYS
@GICS
def test_a_level_is_up_until_the_device_lowers_it(gic: int, way: str) -> None:
    with bench(gic=gic, way=way) as lab:
        lab.enable(50, edge=False)
        lab.interrupts(200, asleep=True)
        sink = lab.engine.irq_sink(50)
        left = [0]

        def on_write(address: int, _size: int, _value: int) -> None:
            # two interrupts of each: the line stays up over the first
            left[0] += 1
            if address == DEVICE and left[0] % 2:
                sink.set(False)
            if address == READY or not left[0] % 2 or left[0] < 200:
                sink.set(True)

        lab.bus.on_write = on_write
        lab.run(guests.INTERRUPTS)
        assert lab.results(2) == [200, 0]


def test_a_pulse_on_a_pending_line_is_not_taken() -> None:
    with bench() as lab:
        sink = lab.engine.irq_sink(40)
        lab.engine._gic.write_mmio(0, 0x09FF_FC08, 4, 0xAAAA_AAAA)  # edges
        assert sink.pulse()
        assert not sink.pulse()


@WAYS
def test_time_stands_still_while_paused(way: str) -> None:
    with bench(way=way) as lab:
        lab.enable(TIMER)
        lab.interrupts(1, asleep=True, tick=62_500_000 // 5)
        lab.start(guests.INTERRUPTS)
        lab.wait_for(lambda: lab.engine.exits["hlt"] > 0)
        for _ in range(3):
            assert lab.engine.pause(5)
            before = lab.engine._gic.clock.ticks()
            assert not lab.exited.wait(0.25)
            assert lab.engine._gic.clock.ticks() == before
            lab.engine.resume()
        lab.finish()
        assert lab.results(2) == [1, 0]


@WAYS
def test_several_cpus(way: str) -> None:
    cpus, turns = 4, 2_000
    with bench(cpus, way=way) as lab:
        lab.write(0x8004_0080, cpus, turns)
        lab.run(guests.SMP)
        total, interrupts, _, off, unknown, wrong = lab.results(6)
        assert (total, interrupts) == (cpus * turns, cpus - 1)
        assert (off, unknown, wrong) == (1, (1 << 64) - 2, 0)
        assert not lab.stops
