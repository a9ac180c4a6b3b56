"""The PL011, driven as its drivers do."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from vmlab.devices.arm import pl011
from vmlab.devices.arm.pl011 import BACKLOG, FIFO_DEPTH, TIMEOUT, Pl011
from vmlab.testing import DeviceHarness, ManualClock

DR, RSR, FR, LCR_H, CR, IFLS, IMSC, RIS, MIS, ICR = (
    *(0x00, 0x04, 0x18, 0x2C, 0x30, 0x34),
    *(0x38, 0x3C, 0x40, 0x44),
)
RX, TX, RT, OE = 1 << 4, 1 << 5, 1 << 6, 1 << 10
RXFE, RXFF, FEN, LBE = 1 << 4, 1 << 6, 1 << 4, 1 << 7


class Port:
    """A plugged port as its guest sees it, and what it has sent."""

    def __init__(self) -> None:
        self.sent = bytearray()
        self.device = Pl011(self.sent.extend)
        self.clock = ManualClock()
        self.harness = DeviceHarness(self.device, clock=self.clock)
        self[LCR_H] = FEN

    def __getitem__(self, register: int) -> int:
        return self.device.read(register, 4)

    def __setitem__(self, register: int, value: int) -> None:
        self.device.write(register, 4, value)

    @property
    def line(self) -> bool:
        return self.device.irq.level

    @property
    def edges(self) -> int:
        return self.harness.irq_count

    def drain(self) -> bytes:
        """As every driver does."""
        found = bytearray()
        while not self[FR] & RXFE:
            found.append(self[DR] & 0xFF)
        return bytes(found)


@pytest.fixture
def port() -> Iterator[Port]:
    made = Port()
    yield made
    made.harness.close()


def test_what_is_sent(port: Port) -> None:
    for letter in b"hello":
        assert not port[FR] & 0x28
        port[DR] = letter
    assert port.sent == b"hello"
    assert not port.line
    assert port[RIS] == TX


def test_transmit_interrupts_an_edge_a_character(port: Port) -> None:
    port[IMSC] = TX
    assert not port.line, "by a transition, not by a level"
    for count, letter in enumerate(b"abc", 1):
        port[DR] = letter
        assert port.line
        assert port.edges == count
    port[ICR] = TX
    assert not port.line


def test_received_as_it_fills(port: Port) -> None:
    port[IMSC] = RX
    port.device.receive(b"x" * 15)
    assert not port.line, "IFLS is half at reset"
    port.device.receive(b"y")
    assert port.line
    assert port[MIS] == RX
    assert port[DR] == ord("x")
    assert not port.line, "below the trigger level"
    assert port.drain() == b"x" * 14 + b"y"


@pytest.mark.parametrize(("select", "level"), [(0, 4), (1, 8), (2, 16), (3, 24), (4, 28), (7, 28)])
def test_trigger_levels(port: Port, select: int, level: int) -> None:
    port[IFLS] = select << 3
    port.device.receive(bytes(level - 1))
    assert not port[RIS] & RX
    port.device.receive(b"\0")
    assert port[RIS] & RX


def test_fewer_characters_are_a_timeout(port: Port) -> None:
    port[IMSC] = RX | RT
    port.device.receive(b"a")
    assert port[MIS] == RT
    assert port.drain() == b"a"
    assert not port.line


def test_a_timeout_that_was_cleared_comes_again_for_what_is_left(port: Port) -> None:
    port[IMSC] = RT
    port.device.receive(b"ab")
    assert port[DR] == ord("a")
    port[ICR] = RT
    assert not port.line
    port.clock.advance(TIMEOUT // 1000)
    assert port.line
    assert port.edges == 2
    assert port.drain() == b"b"


def test_without_fifos_a_character_at_a_time(port: Port) -> None:
    port[LCR_H] = 0
    port[IMSC] = RX
    port.device.receive(b"abc")
    for letter in b"abc":
        assert port.line
        assert port[FR] & RXFF
        assert port[DR] == letter
    assert not port.line
    assert port[FR] & RXFE


def test_switching_fifos_off_loses_nothing(port: Port) -> None:
    port.device.receive(b"abcdef")
    port[LCR_H] = 0
    assert port.drain() == b"abcdef"


def test_a_long_paste_comes_without_a_gap(port: Port) -> None:
    text = bytes(range(256)) * 64
    assert port.device.receive(text) == len(text)
    assert port.drain() == text


def test_what_was_typed_before_there_was_a_driver(port: Port) -> None:
    """Linux clears RX and RT, reads whatever is there until the FIFO is empty, and then enables them."""
    port.device.receive(b"typed early")
    port[ICR] = RX | RT
    for _ in range(2 * FIFO_DEPTH):
        if port[FR] & RXFE:
            break
        port[DR]
    port[IMSC] = RX | RT
    assert port.line
    assert port.drain() == b"typed early"
    port.device.receive(b"!")
    port[ICR] = RX | RT
    assert port.drain() == b"!", "once: later, what is cleared is only an interrupt"


def test_a_guest_that_clears_and_never_looks(port: Port) -> None:
    port.device.receive(b"x")
    port[ICR] = RX | RT
    port[IMSC] = RT
    assert not port.line
    port.clock.advance(TIMEOUT // 1000)
    assert port.line
    assert port.drain() == b"x"


def test_a_handler_that_clears_everything_first_sees_its_data(port: Port) -> None:
    port[IMSC] = RX | RT
    port.device.receive(b"ab")
    port[ICR] = 0x7FF
    assert port.drain() == b"ab"


def test_loopback(port: Port) -> None:
    port[CR] = LBE | 0x300
    port.device.receive(b"outside")
    for letter in range(FIFO_DEPTH):
        port[DR] = letter
    assert not port[RIS] & OE
    port[DR] = 0xFF
    assert port[RIS] & OE
    assert port[RSR] == 8
    assert port[DR] == 1 << 11 | 0, "and the next character says so"
    port[RSR] = 0
    assert port[RSR] == 0
    assert port.drain() == bytes(range(1, FIFO_DEPTH))
    assert port.sent == b""
    port[CR] = 0x300
    assert port.drain() == b"outside"


@pytest.mark.parametrize(
    ("output", "flag", "cause"),
    [(1 << 11, 1, 2), (1 << 10, 2, 8), (1 << 12, 4, 4), (1 << 13, 0x100, 1)],
)
def test_modem_lines_in_loopback(port: Port, output: int, flag: int, cause: int) -> None:
    port[CR] = LBE
    port[ICR] = 0x7FF
    port[IMSC] = 0xF
    port[CR] = LBE | output
    assert port[FR] & 0x107 == flag
    assert port[MIS] == cause
    assert port.line
    port[ICR] = cause
    assert not port.line


def test_more_input_than_fits_is_an_overrun(port: Port) -> None:
    assert port.device.receive(bytes(BACKLOG + FIFO_DEPTH + 1)) == BACKLOG
    assert port.device.overruns == FIFO_DEPTH + 1
    assert port[RIS] & OE


def test_what_a_driver_cleared_takes_no_room_twice(
    port: Port, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pl011, "BACKLOG", FIFO_DEPTH)
    assert [port.device.receive(bytes(FIFO_DEPTH)) for _ in range(2)] == [FIFO_DEPTH] * 2
    port[ICR] = 0x7FF
    assert port.device.room == 0
    assert port.device.receive(b"ab") == 0
    assert port.device.overruns == 2
    assert port.drain() == b"", "the driver's own clearing"
    assert port.drain() == bytes(2 * FIFO_DEPTH)


def test_who_it_is(port: Port) -> None:
    """What a bus of such devices (AMBA) finds its driver by."""
    assert [port[0xFE0 + 4 * n] for n in range(4)] == [0x11, 0x10, 0x34, 0x00]
    assert [port[0xFF0 + 4 * n] for n in range(4)] == [0x0D, 0xF0, 0x05, 0xB1]


def test_a_narrow_access_is_one_to_its_register(port: Port) -> None:
    """As earlycon's `pl011` without mmio32 does."""
    port.device.write(DR, 1, ord("a"))
    port.device.write(DR, 2, ord("b"))
    assert port.sent == b"ab"
    assert port.device.read(FR, 2) & RXFE
