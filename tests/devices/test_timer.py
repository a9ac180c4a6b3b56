"""The teaching timer, on a clock that moves when told."""

from __future__ import annotations

import pickle
import threading
from collections.abc import Iterator

import pytest

from vmlab.core.clock import Clock
from vmlab.devices.timer import ID_VALUE, SHORTEST_US, Timer
from vmlab.testing import ManualClock

ID, CTRL, PERIOD, STATUS, TICKS, COUNT, OVERRUN = range(0, 0x1C, 4)
ENABLE, IRQ_ENABLE, PERIODIC = 1, 2, 4
EXPIRED = 1


class Guest:
    """A plugged timer as its guest sees it."""

    def __init__(self) -> None:
        self.device = Timer()
        self.clock = ManualClock()
        self.device.clock = self.clock
        self.device.attached()

    def __getitem__(self, register: int) -> int:
        return self.device.read(register, 4)

    def __setitem__(self, register: int, value: int) -> None:
        self.device.write(register, 4, value)

    def start(self, period: int, control: int = ENABLE | IRQ_ENABLE | PERIODIC) -> None:
        self[PERIOD] = period
        self[CTRL] = control

    def acknowledge(self) -> None:
        self[STATUS] = EXPIRED

    @property
    def line(self) -> bool:
        return self.device.irq.level

    @property
    def edges(self) -> int:
        return self.device.irq.raised


@pytest.fixture
def guest() -> Guest:
    return Guest()


def test_the_id(guest: Guest) -> None:
    assert guest[ID] == ID_VALUE
    assert ID_VALUE == 0x544D_4C56
    guest[ID] = 0
    assert guest[ID] == ID_VALUE


def test_one_shot(guest: Guest) -> None:
    guest.start(1000, ENABLE | IRQ_ENABLE)
    assert (guest[CTRL], guest[COUNT], guest[STATUS]) == (ENABLE | IRQ_ENABLE, 1000, 0)
    guest.clock.advance(999)
    assert (guest[COUNT], guest[STATUS], guest.line) == (1, 0, False)
    guest.clock.advance(1)
    assert guest.line
    assert (guest[STATUS], guest[TICKS], guest[COUNT]) == (EXPIRED, 1, 0)
    assert guest[CTRL] == IRQ_ENABLE, "ENABLE clears itself"
    guest.acknowledge()
    assert not guest.line
    guest.clock.advance(100_000)
    assert (guest[TICKS], guest[OVERRUN], guest.edges) == (1, 0, 1)
    assert not guest.clock.pending


def test_periodic(guest: Guest) -> None:
    guest.start(500)
    for tick in range(1, 6):
        guest.clock.advance(500)
        assert guest.line
        assert guest[TICKS] == tick
        guest.acknowledge()
        assert not guest.line
    assert guest.edges == 5
    assert guest[OVERRUN] == 0


def test_periods_do_not_drift_when_the_host_is_late(guest: Guest) -> None:
    guest.start(1000)
    for tick in range(1, 11):
        guest.clock.advance(1000, late=300) if tick > 1 else guest.clock.advance(1300, late=300)
        assert guest[TICKS] == tick
        guest.acknowledge()
        assert guest[COUNT] == 700
    assert guest[OVERRUN] == 0


def test_missed_periods_are_overruns_not_interrupts(guest: Guest) -> None:
    guest.start(1000)
    guest.clock.advance(7500)
    assert guest.edges == 1
    assert (guest[TICKS], guest[COUNT]) == (7, 500)
    guest.acknowledge()
    assert not guest.line, "what ended before the acknowledgement makes no interrupt"
    assert guest[OVERRUN] == 6
    assert guest[OVERRUN] == 0, "cleared by reading"
    guest.clock.advance(500)
    assert guest.line
    assert guest[TICKS] == 8


def test_nothing_is_scheduled_until_the_acknowledgement(guest: Guest) -> None:
    guest.start(SHORTEST_US)
    guest.clock.advance(10_000_000)
    assert not guest.clock.pending
    assert guest[TICKS] == 10_000_000 // SHORTEST_US
    guest.acknowledge()
    assert len(guest.clock.pending) == 1


def test_a_host_far_behind_makes_one_interrupt(guest: Guest) -> None:
    guest.start(1000)
    guest.clock.advance(5200, late=4200)
    assert (guest.edges, guest[TICKS], guest[OVERRUN]) == (1, 5, 4)


@pytest.mark.parametrize("period", [0, 1, 49, 50])
def test_the_shortest_period(guest: Guest, period: int) -> None:
    guest.start(period)
    assert guest[PERIOD] == period
    assert guest[COUNT] == SHORTEST_US
    guest.clock.advance(SHORTEST_US - 1)
    assert guest[STATUS] == 0
    guest.clock.advance(1)
    assert guest[STATUS] == EXPIRED


def test_the_longest_period(guest: Guest) -> None:
    guest.start(0xFFFF_FFFF)
    assert guest[COUNT] == 0xFFFF_FFFF
    guest.clock.advance(0xFFFF_FFFF)
    assert guest[TICKS] == 1


def test_without_irq_enable_the_line_stays_down(guest: Guest) -> None:
    guest.start(100, ENABLE)
    guest.clock.advance(100)
    assert guest[STATUS] == EXPIRED
    assert not guest.line
    guest[CTRL] = IRQ_ENABLE
    assert guest.line
    guest[CTRL] = 0
    assert not guest.line


def test_disabling_cancels(guest: Guest) -> None:
    guest.start(1000)
    guest.clock.advance(300)
    guest[CTRL] = 0
    assert not guest.clock.pending
    guest.clock.advance(5000)
    assert (guest[STATUS], guest[TICKS], guest[COUNT]) == (0, 0, 0)


def test_setting_enable_again_does_not_restart(guest: Guest) -> None:
    guest.start(1000)
    guest.clock.advance(400)
    guest[CTRL] = ENABLE | PERIODIC
    assert guest[COUNT] == 600
    guest[PERIOD] = 50
    assert guest[COUNT] == 600, "the period is taken when ENABLE is set"


def test_a_new_start_counts_from_zero(guest: Guest) -> None:
    guest.start(100)
    guest.clock.advance(1000)
    guest[CTRL] = 0
    assert guest[TICKS] == 10
    guest.acknowledge()
    guest.start(200)
    assert (guest[TICKS], guest[COUNT]) == (0, 200)


def test_a_periodic_timer_may_become_one_shot(guest: Guest) -> None:
    guest.start(1000)
    guest.clock.advance(2500)
    guest[CTRL] = ENABLE | IRQ_ENABLE
    guest.acknowledge()
    guest.clock.advance(5000)
    assert (guest[TICKS], guest[CTRL]) == (3, IRQ_ENABLE)


def test_a_guest_that_polls_needs_no_callback(guest: Guest) -> None:
    """The registers follow the clock even before the host came round to the call."""
    guest.start(1000)
    guest.clock.time += 1_000_000
    assert guest.device.peek("STATUS") == EXPIRED
    assert guest[STATUS] == EXPIRED
    assert guest.line, "the interrupt comes with it"
    guest.acknowledge()
    guest.clock.advance(0)
    assert guest.edges == 1


def test_an_expiry_before_a_blind_acknowledgement_is_not_lost(guest: Guest) -> None:
    guest.start(1000)
    guest.clock.time += 1_000_000
    guest.acknowledge()
    assert (guest[TICKS], guest[OVERRUN], guest[STATUS]) == (1, 0, 0)


@pytest.mark.parametrize("value", [0, 2, 0xFFFF_FFFE])
def test_only_the_expired_bit_acknowledges(guest: Guest, value: int) -> None:
    guest.start(100)
    guest.clock.advance(100)
    guest[STATUS] = value
    assert guest[STATUS] == EXPIRED


def test_peek_is_pure(guest: Guest) -> None:
    guest.start(1000)
    guest.clock.advance(3500)
    guest.clock.time += 2_000_000
    seen = guest.device.peek()
    assert guest.device.peek() == seen
    assert (seen["TICKS"], seen["COUNT"], seen["OVERRUN"], seen["STATUS"]) == (5, 500, 4, EXPIRED)
    assert guest[OVERRUN] == 4
    guest[CTRL] = 0
    guest.acknowledge()
    guest.start(1000, ENABLE)
    guest.clock.time += 1_000_000
    assert guest.device.peek("CTRL") == 0
    assert guest.device.r.CTRL == ENABLE, "looking has not settled it"
    assert guest[CTRL] == 0


def test_reset_cancels(guest: Guest) -> None:
    guest.start(1000)
    guest.clock.advance(1500)
    guest.device.reset()
    assert not guest.line
    assert not guest.clock.pending
    guest.clock.advance(5000)
    assert guest.device.peek() == Timer().peek()


def test_a_late_call_after_a_cancel_does_nothing(guest: Guest) -> None:
    guest.start(1000)
    late = guest.clock.pending[0].call
    guest[CTRL] = 0
    guest.clock.time += 5_000_000
    late()
    assert (guest[STATUS], guest.edges) == (0, 0)
    guest.start(1000)
    late()
    assert (guest[STATUS], guest[COUNT]) == (0, 1000), "nor does it touch the next period"


def test_unplugging_cancels(guest: Guest) -> None:
    guest.start(1000)
    late = guest.clock.pending[0].call
    guest.device.detached()
    assert not guest.clock.pending
    guest.clock.time += 5_000_000
    late()
    assert guest.edges == 0


def test_a_running_timer_travels(guest: Guest) -> None:
    guest.start(1000)
    guest.clock.advance(700)
    moved: Timer = pickle.loads(pickle.dumps(guest.device))
    clock = ManualClock()
    clock.time = 10**15
    moved.clock = clock
    moved.attached()
    assert moved.peek("COUNT") == 1000, "another clock: the period starts anew"
    clock.advance(1000)
    assert moved.irq.level


def test_no_growth_under_a_guest_that_restarts_for_ever() -> None:
    device, clock = Timer(), Clock()
    device.clock = clock
    device.write(PERIOD, 4, 0xFFFF_FFFF)
    for _ in range(5000):
        device.write(CTRL, 4, ENABLE)
        device.write(CTRL, 4, 0)
    assert len(clock._queue) < 200
    clock.close()


@pytest.fixture
def real() -> Iterator[tuple[Timer, Clock]]:
    device, clock = Timer(), Clock()
    device.clock = clock
    device.attached()
    yield device, clock
    device.detached()
    clock.close()


def test_on_a_real_clock(real: tuple[Timer, Clock]) -> None:
    device, clock = real
    raised = threading.Event()

    class Sink:
        def set(self, level: bool) -> None:
            if level:
                raised.set()

        def pulse(self) -> None:
            """Never."""

        def close(self) -> None:
            """Nothing."""

    device.irq._sink = Sink()
    clock.resume()
    device.write(PERIOD, 4, 2000)
    device.write(CTRL, 4, ENABLE | IRQ_ENABLE | PERIODIC)
    for tick in range(1, 4):
        assert raised.wait(2)
        assert device.peek("TICKS") >= tick
        raised.clear()
        device.write(STATUS, 4, EXPIRED)
    device.write(CTRL, 4, 0)
    assert device.irq.raised >= 3
