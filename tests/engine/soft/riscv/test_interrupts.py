"""Interrupts: each one that is sent is handled once, busy or asleep, on one hart and on two."""

from __future__ import annotations

import pytest

from tests.engine.soft.riscv import guests
from tests.engine.soft.riscv.lab import DEVICE, PARAMETERS, WAYS, Lab, bench
from tests.engine.soft.running import answer_with_the_next

ASLEEP = pytest.mark.parametrize("asleep", [False, True], ids=["busy", "asleep"])
HARTS = pytest.mark.parametrize("harts", [1, 2])
LINES = range(1, 9)
#: sources of each hart: those of odd numbers, and of even ones
ODD, EVEN = 0b0_1010_1010, 0b1_0101_0100


def _count(way: str) -> int:
    return 10_000 if way == "native" else 1_000


def _parameters(lab: Lab, harts: int, asleep: bool, count: int, tick: int = 0) -> None:
    masks = (ODD | EVEN,) if harts == 1 else (ODD, EVEN)
    lab.write(PARAMETERS, int(asleep), count, DEVICE, tick, harts, *masks)


@WAYS
@HARTS
@ASLEEP
def test_the_timer_is_exact(harts: int, asleep: bool, way: str) -> None:
    count = _count(way)
    with bench(harts, way) as lab:
        _parameters(lab, harts, asleep, count, tick=300)
        lab.run(guests.INTERRUPTS)
        results = lab.results(8 + harts)
        assert results[1:3] == [0, harts]
        assert results[8:] == [count] * harts


@WAYS
@HARTS
@ASLEEP
def test_edges_of_devices_are_exact(harts: int, asleep: bool, way: str) -> None:
    count = _count(way)
    with bench(harts, way) as lab:
        _parameters(lab, harts, asleep, count)
        seen = answer_with_the_next(lab, lab.bus, LINES, count, DEVICE)
        lab.run(guests.INTERRUPTS)
        results = lab.results(8 + harts)
        assert results[:3] == [count, 0, harts]
        assert seen == [LINES[n % len(LINES)] for n in range(count)]
        assert sum(results[8:]) == count


@WAYS
def test_time_stands_still_while_paused(way: str) -> None:
    with bench(way=way) as lab:
        _parameters(lab, 1, True, 1, tick=2_000_000)
        lab.start(guests.INTERRUPTS)
        lab.wait_for(lambda: lab.engine.exits["hlt"] > 0)
        for _ in range(3):
            assert lab.engine.pause(5)
            before = lab.engine._lines.clock.ticks()
            assert not lab.exited.wait(0.25)
            assert lab.engine._lines.clock.ticks() == before
            lab.engine.resume()
        lab.finish()
        assert lab.results(9)[8] == 1
