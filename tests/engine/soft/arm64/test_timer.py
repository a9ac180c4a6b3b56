"""The generic timer against a clock of the test's own, and the firmware's calls against a made-up machine."""

from __future__ import annotations

from vmlab.engine.soft.arm64 import psci
from vmlab.engine.soft.arm64.timer import TICK_NS, Timer
from vmlab.engine.soft.guest_clock import GuestClock


class Bench:
    def __init__(self) -> None:
        self.host = 1_000_000_000
        self.clock = GuestClock(TICK_NS, lambda: self.host)
        self.level = False
        self.due: int | None = None
        self.timer = Timer(self.clock, self._drive, self._arm)
        self.clock.go()

    def _drive(self, level: bool) -> None:
        self.level = level

    def _arm(self, deadline: int | None) -> None:
        self.due = deadline

    def wait(self, ticks: int) -> None:
        self.host += ticks * TICK_NS


def test_a_deadline() -> None:
    b = Bench()
    b.timer.write("TVAL", 100)
    assert b.due is None, "it is not enabled"
    b.timer.write("CTL", 1)
    assert b.due == b.host + 100 * TICK_NS
    assert (b.timer.read("CTL"), b.timer.read("TVAL"), b.timer.read("CVAL")) == (1, 100, 100)
    b.wait(100)
    b.timer.expired()
    assert b.level
    assert b.due is None
    assert b.timer.read("CTL") == 5
    b.wait(1)
    assert b.timer.read("TVAL") == 0xFFFF_FFFF
    b.timer.write("CVAL", 1 << 60)
    assert not b.level
    b.timer.write("TVAL", 0xFFFF_FFFF)
    assert b.level, "a negative one is over already"


def test_masked_it_says_so_and_no_more() -> None:
    b = Bench()
    b.timer.write("CTL", 3)
    assert (b.level, b.due, b.timer.read("CTL")) == (False, None, 7)
    b.timer.write("CTL", 1)
    assert b.level
    b.timer.write("CTL", 0)
    assert not b.level
    assert b.timer.read("CTL") == 0


def test_a_pause_moves_the_deadline() -> None:
    b = Bench()
    b.timer.write("CTL", 1)
    b.timer.write("TVAL", 100)
    b.wait(40)
    b.clock.stop()
    b.wait(1000)
    assert b.timer.read("TVAL") == 60
    b.clock.go()
    b.timer.update()
    assert b.due == b.host + 60 * TICK_NS
    assert b.timer.read("TVAL") == 60


def test_the_clock_never_goes_back() -> None:
    b = Bench()
    seen = [b.clock.ticks()]
    for n in range(50):
        b.host += 7 * n
        b.clock.stop()
        b.host += 13
        b.clock.go()
        seen.append(b.clock.ticks())
    assert seen == sorted(seen)


class Machine:
    def __init__(self) -> None:
        self.done: list[tuple[object, ...]] = []

    def is_on(self, affinity: int) -> bool | None:
        return {0: True, 1: False}.get(affinity)

    def turn_on(self, affinity: int, entry: int, context: int) -> None:
        self.done.append(("on", affinity, entry, context))

    def turn_off(self) -> None:
        self.done.append(("off",))

    def wait(self) -> None:
        self.done.append(("wait",))

    def system(self, event: str) -> None:
        self.done.append((event,))


def test_firmware_calls() -> None:
    machine = Machine()
    answers = {
        (0xC400_0003, (1, 0x8000_0000, 5)): 0,
        (0x8400_0003, (1, 0x8000_0000, 5)): 0,
        (0xC400_0003, (0, 0, 0)): -4,
        (0xC400_0003, (2, 0, 0)): -2,
        (0xC400_0004, (1, 0, 0)): 1,
        (0xC400_0004, (1, 1, 0)): -2,
        (0x8400_0001, (0, 0, 0)): 0,
        (0xC400_0001, (1 << 16, 0x8000_0000, 5)): 0,
        (0x8400_0002, (0, 0, 0)): 0,
        (0x8400_0009, (0, 0, 0)): 0,
        # a number of 64-bit calls that has no such variant
        (0xC400_0008, (0, 0, 0)): -1,
    }
    for (function, arguments), answer in answers.items():
        assert psci.call(machine, function, arguments) == answer, hex(function)
    assert machine.done == [
        ("on", 1, 0x8000_0000, 5),
        ("on", 1, 0x8000_0000, 5),
        ("wait",),
        ("wait",),
        ("off",),
        ("reset",),
    ]
