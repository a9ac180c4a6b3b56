"""The PL031."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from vmlab.devices.arm.pl031 import Pl031
from vmlab.testing import DeviceHarness, ManualClock

DR, MR, LR, CR, IMSC, RIS, MIS, ICR = range(0, 0x20, 4)
MOMENT = 2_000_000_000


class Host:
    """A clock of the host's, in seconds since 1970."""

    def __init__(self) -> None:
        self.time = MOMENT + 0.25
        self.clock = ManualClock()
        self.device = Pl031(lambda: self.time)
        self.harness = DeviceHarness(self.device, clock=self.clock)

    def pass_seconds(self, seconds: float) -> None:
        self.time += seconds
        self.clock.advance(round(seconds * 1e6))

    def __getitem__(self, register: int) -> int:
        return self.device.read(register, 4)

    def __setitem__(self, register: int, value: int) -> None:
        self.device.write(register, 4, value)


@pytest.fixture
def rtc() -> Iterator[Host]:
    made = Host()
    yield made
    made.harness.close()


def test_the_time(rtc: Host) -> None:
    assert rtc[DR] == MOMENT
    rtc.pass_seconds(0.75)
    assert rtc[DR] == MOMENT + 1
    assert rtc[CR] == 1


def test_a_guest_sets_it(rtc: Host) -> None:
    rtc[LR] = 5
    assert rtc[DR] == 5
    rtc.pass_seconds(2)
    assert rtc[DR] == 7
    rtc.device.reset()
    assert rtc[DR] == MOMENT + 2


def test_past_the_last_second(rtc: Host) -> None:
    rtc[LR] = 0xFFFF_FFFF
    rtc.pass_seconds(1)
    assert rtc[DR] == 0


def test_the_alarm(rtc: Host) -> None:
    rtc[IMSC] = 1
    rtc[MR] = rtc[DR] + 3
    rtc.pass_seconds(2.5)
    assert not rtc[RIS]
    rtc.pass_seconds(0.25)
    assert (rtc[RIS], rtc[MIS]) == (1, 1)
    assert rtc.device.irq.level
    rtc[ICR] = 1
    assert not rtc.device.irq.level
    rtc.pass_seconds(10)
    assert not rtc[RIS], "once"


def test_an_alarm_that_is_masked(rtc: Host) -> None:
    rtc[MR] = rtc[DR] + 1
    rtc.pass_seconds(1)
    assert (rtc[RIS], rtc[MIS]) == (1, 0)
    assert not rtc.device.irq.level
    rtc[IMSC] = 1
    assert rtc.device.irq.level


def test_an_alarm_for_now_and_one_for_the_past(rtc: Host) -> None:
    rtc[MR] = rtc[DR] - 1
    rtc.pass_seconds(5)
    assert not rtc[RIS]
    rtc[MR] = rtc[DR]
    assert rtc[RIS]


def test_a_host_that_sets_its_clock_back(rtc: Host) -> None:
    rtc[MR] = rtc[DR] + 2
    rtc.time -= 100
    rtc.pass_seconds(2)
    assert not rtc[RIS], "it is not yet that time"
    rtc.pass_seconds(100)
    assert rtc[RIS]


def test_a_new_alarm_takes_the_place_of_the_old_one(rtc: Host) -> None:
    rtc[MR] = rtc[DR] + 2
    rtc[MR] = rtc[DR] + 5
    rtc.pass_seconds(3)
    assert not rtc[RIS]
    assert len(rtc.clock.pending) == 1
