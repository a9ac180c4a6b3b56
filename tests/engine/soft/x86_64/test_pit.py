"""The 8254, without a CPU."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vmlab.engine.soft.x86_64.pit import HZ, Pit


class PitBench:
    def __init__(self) -> None:
        self.now = 10**9
        self.pulses = 0
        self.deadline: int | None = None
        self.pit = Pit(lambda: self.now, self._pulse, self._arm)

    def _pulse(self) -> None:
        self.pulses += 1

    def _arm(self, deadline: int | None) -> None:
        self.deadline = deadline

    def program(self, channel: int, mode: int, count: int) -> None:
        self.pit.write(0x43, channel << 6 | 0x30 | mode << 1)
        self.pit.write(0x40 + channel, count & 0xFF)
        self.pit.write(0x40 + channel, count >> 8)

    def pass_ticks(self, ticks: int) -> None:
        self.now += -(-ticks * 10**9 // HZ)

    def read16(self, channel: int) -> int:
        low = self.pit.read(0x40 + channel)
        return low | self.pit.read(0x40 + channel) << 8


@pytest.mark.parametrize("mode", [2, 3])
def test_pit_periodic(mode: int) -> None:
    b = PitBench()
    b.program(0, mode, 1000)
    start = b.now
    assert b.pulses == 0
    assert b.deadline == start + -(-1000 * 10**9 // HZ)
    b.now = b.deadline
    b.pit.expired()
    assert b.pulses == 1
    assert b.deadline == start + -(-2000 * 10**9 // HZ)
    b.pass_ticks(5500)
    b.pit.expired()
    assert b.deadline == start + -(-7000 * 10**9 // HZ)


def test_pit_one_shot() -> None:
    b = PitBench()
    b.program(0, 0, 500)
    assert b.deadline == b.now + -(-500 * 10**9 // HZ)
    b.pass_ticks(100)
    b.pit.write(0x43, 0)
    b.pass_ticks(100)
    assert b.read16(0) == 400  # latched
    assert b.read16(0) == 300
    b.now = b.deadline
    b.pit.write(0x43, 0xE2)  # read back the status
    assert b.pit.read(0x40) == 0xB0
    b.pit.write(0x43, 0x30)
    assert b.deadline is None


def test_pit_channel_2_by_port_61() -> None:
    b = PitBench()
    b.pit.write(0x61, 1)
    b.program(2, 0, 1193)
    assert not b.pit.read(0x61) & 0x20
    b.pass_ticks(1194)
    assert b.pit.read(0x61) & 0x21 == 0x21
    b.program(2, 2, 10)
    b.pass_ticks(9)
    assert not b.pit.read(0x61) & 0x20
    assert b.pulses == 0


def test_pit_single_bytes_and_bcd() -> None:
    b = PitBench()
    b.pit.write(0x43, 0x14)  # low byte only, mode 2
    b.pit.write(0x40, 0)
    assert b.pit.channels[0].reload == 0x10000
    b.pit.write(0x43, 0x31)
    b.pit.write(0x40, 0x34)
    b.pit.write(0x40, 0x12)
    assert b.read16(0) == 0x1234


@given(st.lists(st.tuples(st.sampled_from([0x40, 0x41, 0x42, 0x43, 0x61]), st.integers(0, 255))))
def test_pit_takes_anything(program: list[tuple[int, int]]) -> None:
    b = PitBench()
    for port, value in program:
        b.now += value * 1000
        b.pit.write(port, value)
        assert 0 <= b.pit.read(port) <= 0xFF
        if b.deadline is not None:
            b.deadline = None
            b.pit.expired()
