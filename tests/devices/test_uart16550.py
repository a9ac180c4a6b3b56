"""The serial port against the clauses of the PC16550D data sheet."""

from __future__ import annotations

import pickle
import threading
import time

import pytest

from vmlab.devices import uart16550
from vmlab.devices.uart16550 import BACKLOG, Uart16550
from vmlab.testing import DeviceHarness

RBR = THR = DLL = 0
IER = DLM = 1
IIR = FCR = 2
LCR, MCR, LSR, MSR, SCR = 3, 4, 5, 6, 7

ERBFI, ETBEI, ELSI, EDSSI = 1, 2, 4, 8
DLAB = 0x80
LOOP = 0x10
DR, OE = 0x01, 0x02
NOTHING, THR_EMPTY, RECEIVED, TIMEOUT, LINE, MODEM = 0x1, 0x2, 0x4, 0xC, 0x6, 0x0
IDLE = 0x60


class Port:
    """A guest's view of the device, and what left it."""

    def __init__(self) -> None:
        self.sent = bytearray()
        self.device = Uart16550(self.sent.extend)

    def get(self, register: int) -> int:
        return self.device.read(register, 1)

    def put(self, register: int, value: int) -> None:
        self.device.write(register, 1, value)

    def drain(self) -> bytes:
        """As a guest does: read while data is ready."""
        got = bytearray()
        while self.get(LSR) & DR:
            got.append(self.get(RBR))
        return bytes(got)

    @property
    def line(self) -> bool:
        return self.device.irq.level

    @property
    def edges(self) -> int:
        return self.device.irq.raised


@pytest.fixture
def port() -> Port:
    return Port()


# --- §8.1, §8.3, §8.9: the registers -------------------------------------------------------------


def test_after_reset(port: Port) -> None:
    assert [port.get(at) for at in range(8)] == [0, 0, 0x01, 0, 0, 0x60, 0xB0, 0]


def test_the_divisor_latch_hides_behind_dlab(port: Port) -> None:
    port.put(IER, 0x05)
    port.put(LCR, DLAB | 3)
    port.put(DLL, 0x01)
    port.put(DLM, 0x02)
    assert (port.get(DLL), port.get(DLM)) == (1, 2)
    assert not port.sent, "DLL is not THR"
    port.put(LCR, 3)
    assert (port.get(RBR), port.get(IER)) == (0, 5)
    port.put(THR, 0x41)
    assert port.sent == b"A"
    port.put(LCR, DLAB)
    assert (port.get(DLL), port.get(DLM)) == (1, 2)


def test_scratch(port: Port) -> None:
    port.put(SCR, 0xA5)
    assert port.get(SCR) == 0xA5


def test_bits_that_are_always_zero(port: Port) -> None:
    port.put(IER, 0xFF)
    port.put(MCR, 0xFF)
    assert (port.get(IER), port.get(MCR)) == (0x0F, 0x1F)


def test_status_registers_cannot_be_written(port: Port) -> None:
    port.put(LSR, 0xFF)
    port.put(MSR, 0xFF)
    assert (port.get(LSR), port.get(MSR)) == (IDLE, 0xB0)


# --- transmitter ----------------------------------------------------------------------------------


def test_sending_takes_no_time(port: Port) -> None:
    for byte in b"hello":
        assert port.get(LSR) & 0x60 == 0x60
        port.put(THR, byte)
    assert port.sent == b"hello"


def test_a_port_that_leads_nowhere() -> None:
    Uart16550().write(THR, 1, 0x41)


def test_enabling_etbei_raises_the_interrupt_at_once(port: Port) -> None:
    port.put(IER, ETBEI)
    assert port.line
    assert port.get(IIR) == THR_EMPTY
    assert not port.line, "§8.5: reading IIR, when it is the source, clears it"
    assert port.get(IIR) == NOTHING


def test_writing_ier_again_is_no_transition(port: Port) -> None:
    port.put(IER, ETBEI)
    port.get(IIR)
    port.put(IER, ETBEI | ERBFI)
    assert not port.line
    port.put(IER, 0)
    port.put(IER, ETBEI)
    assert port.line


def test_each_byte_is_an_edge_of_its_own(port: Port) -> None:
    """A guest on an edge-triggered pin may answer the interrupt with the next byte, without IIR."""
    port.put(IER, ETBEI)
    assert port.edges == 1
    port.put(THR, 0x41)
    assert port.line
    assert port.edges == 2
    port.get(IIR)
    port.put(THR, 0x42)
    assert port.edges == 3
    assert port.get(IIR) == THR_EMPTY


def test_no_interrupt_without_etbei(port: Port) -> None:
    port.put(THR, 0x41)
    assert port.get(IIR) == NOTHING
    assert port.edges == 0


# --- receiver -------------------------------------------------------------------------------------


def test_one_byte(port: Port) -> None:
    assert port.device.receive(b"x") == 1
    assert port.get(LSR) == IDLE | DR
    assert port.get(RBR) == 0x78
    assert port.get(LSR) == IDLE
    assert port.get(RBR) == 0, "nothing to take"


@pytest.mark.parametrize("fifo", [0, 1])
def test_a_guest_that_drains_sees_everything(port: Port, fifo: int) -> None:
    text = bytes(range(256)) * 20
    port.put(FCR, fifo)
    port.device.receive(text[:100])
    port.device.receive(text[100:])
    assert port.drain() == text
    assert port.device.overruns == 0


def test_input_from_another_thread_comes_whole_and_in_order(port: Port) -> None:
    chunks = [bytes([n]) * 37 for n in range(200)]
    whole = b"".join(chunks)
    sender = threading.Thread(target=lambda: [port.device.receive(one) for one in chunks])
    sender.start()
    got = b""
    while len(got) < len(whole):
        got += port.drain()
    sender.join()
    assert got == whole


def test_received_data_in_16450_mode(port: Port) -> None:
    port.put(IER, ERBFI)
    assert not port.line
    port.device.receive(b"ab")
    assert port.line
    assert port.get(IIR) == RECEIVED
    assert port.line, "only reading the data clears it"
    port.get(RBR)
    assert port.line, "the next byte is there already"
    port.get(RBR)
    assert not port.line
    assert port.edges == 1


@pytest.mark.parametrize(("level", "count"), [(0, 1), (1, 4), (2, 8), (3, 14)])
def test_trigger_levels(port: Port, level: int, count: int) -> None:
    """§8.4: at the level "received data"; below it the timeout, here at once, so nothing waits."""
    port.put(FCR, level << 6 | 1)
    port.put(IER, ERBFI)
    if count > 1:
        port.device.receive(b"x" * (count - 1))
        assert port.get(IIR) == 0xC0 | TIMEOUT
        assert port.line
        port.device.receive(b"x")
    else:
        port.device.receive(b"x")
    assert port.get(IIR) == 0xC0 | RECEIVED
    port.get(RBR)
    assert port.get(IIR) == 0xC0 | (TIMEOUT if count > 1 else NOTHING)


def test_iir_says_whether_fifos_are_enabled(port: Port) -> None:
    port.put(FCR, 1)
    assert port.get(IIR) == 0xC1
    port.put(FCR, 0)
    assert port.get(IIR) == 0x01


@pytest.mark.parametrize("fifo", [1, 7])
def test_what_was_typed_before_there_was_a_driver_is_not_lost(port: Port, fifo: int) -> None:
    port.device.receive(b"poke\n")
    port.put(FCR, fifo)
    assert port.drain() == b""
    assert port.drain() == b"poke\n"
    port.device.receive(b"gone")
    port.put(FCR, 3)
    assert port.drain() == port.drain() == b""


def test_the_fifo_reset_bit_empties_sixteen_bytes(port: Port) -> None:
    port.put(FCR, 0x01)
    port.device.receive(b"0123456789abcdefXYZ")
    port.put(FCR, 0x03)
    assert port.drain() == b"", "a driver looks whether it is empty"
    assert port.drain() == b"XYZ", "the rest was still on its way"


@pytest.mark.parametrize("change", [(0x01, 0x03), (0x00, 0x01), (0x01, 0x00), (0x01, 0x07, 0x07)])
def test_what_waits_comes_when_the_guest_has_seen_the_fifo_empty(
    port: Port, change: tuple[int, ...]
) -> None:
    """§8.4. Whatever it reads before: only LSR says that there is nothing."""
    first, *then = change
    port.put(FCR, first)
    port.device.receive(bytes(range(40)))
    for value in then:
        port.put(FCR, value)
    for register in (IIR, MSR, SCR, RBR):
        port.get(register)
    port.put(MCR, LOOP)
    port.put(MCR, 0)
    port.put(FCR, then[-1])
    assert port.device.peek("LSR") & DR == 0, "peek lets nothing in"
    port.device.receive(b"\x28")
    assert port.get(LSR) & DR == 0
    assert port.get(LSR) & DR
    rest = port.drain()
    assert rest == bytes(range(40 - len(rest) + 1, 41))


def test_a_guest_that_only_listens_hears_of_it_a_moment_later() -> None:
    with DeviceHarness(Uart16550()) as socket:
        device = socket.device
        assert isinstance(device, Uart16550)
        for order in ((IER, FCR), (FCR, IER)):
            device.write(IER, 1, 0)
            device.write(FCR, 1, 1)
            device.receive(bytes(20))
            socket.clock.pause()
            for register in order:
                device.write(register, 1, ERBFI if register == IER else 3)
            assert not device.irq.level
            socket.heard.clear()
            socket.clock.resume()
            assert socket.heard.wait(5)
            assert device.read(IIR, 1) & 0xF == RECEIVED
            while device.read(LSR, 1) & DR:
                device.read(RBR, 1)
            device.read(IIR, 1)
        device.write(FCR, 1, 3)
        device.receive(b"x")
        assert device.irq.level, "what comes afterwards does not wait"


def test_a_pause_ends_with_its_port() -> None:
    with DeviceHarness(Uart16550()) as socket:
        device = socket.device
        assert isinstance(device, Uart16550)
        device.write(FCR, 1, 1)
        device.receive(bytes(20))
        device.write(IER, 1, ERBFI)
        device.write(FCR, 1, 3)
        device.reset()
        time.sleep(0.01)
        assert (device.read(LSR, 1) & DR, device.irq.level) == (0, False)
        device.receive(bytes(2))
        device.write(IER, 1, ERBFI)
        device.write(FCR, 1, 1)
        copy = pickle.loads(pickle.dumps(device))
    time.sleep(0.01)
    assert not device.irq.level
    assert copy.read(LSR, 1) & DR == 0


def test_overrun_without_fifos_destroys_the_character_before(port: Port) -> None:
    """§8.2, OE."""
    port.put(MCR, LOOP)
    for value in (0x41, 0x42, 0x43):
        port.put(THR, value)
    assert port.get(LSR) & (DR | OE) == DR | OE
    assert port.get(LSR) & (DR | OE) == DR
    assert port.get(RBR) == 0x43
    assert port.get(LSR) & DR == 0
    assert port.device.overruns == 2
    port.put(FCR, 1)
    for value in range(18):
        port.put(THR, value)
    assert port.drain() == bytes(range(16)), "with FIFOs it is the new one that is lost"
    assert port.device.overruns == 4


def test_the_reset_bit_needs_the_enable_bit(port: Port) -> None:
    port.device.receive(b"x")
    port.put(FCR, 0x02)
    assert port.drain() == b"x"


def test_changing_the_mode_empties_the_fifo(port: Port) -> None:
    port.device.receive(b"x")
    port.put(FCR, 0x01)
    assert not port.get(LSR) & DR
    port.device.receive(b"y")
    port.put(FCR, 0x01)
    assert port.get(LSR) & DR, "that was no change"
    port.put(FCR, 0x00)
    assert not port.get(LSR) & DR


def test_the_backlog_is_bounded(port: Port) -> None:
    assert port.device.receive(b"a") == 1
    assert port.device.receive(b"b" * (BACKLOG + 10)) == BACKLOG
    assert port.device.overruns == 10
    assert port.device.receive(b"c") == 0
    assert port.device.overruns == 11
    assert port.get(LSR) == IDLE | DR | OE
    assert port.get(LSR) == IDLE | DR, "§8.2: reading LSR clears OE"
    port.get(RBR)
    assert port.device.receive(b"c") == 1, "there is room again"


def test_what_a_driver_cleared_takes_no_room_twice(
    port: Port, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(uart16550, "BACKLOG", 4)
    assert port.device.receive(b"aaaa") + port.device.receive(b"a") == 5
    port.put(FCR, 0x07)
    assert port.device.room == 0
    assert port.device.receive(b"bc") == 0
    assert port.device.overruns == 2
    assert port.drain() == b"", "the driver's own clearing"
    assert port.drain() == b"aaaaa"


def test_an_overrun_interrupts(port: Port, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(uart16550, "BACKLOG", 4)
    port.put(IER, ELSI | ERBFI)
    port.device.receive(b"123456")
    assert port.get(IIR) == LINE
    assert port.get(LSR) & OE
    assert port.get(IIR) == RECEIVED
    assert port.drain() == b"1234"


# --- §8.5: priorities -----------------------------------------------------------------------------


def test_causes_are_reported_in_order_of_priority(port: Port) -> None:
    port.put(IER, ERBFI | ETBEI | ELSI | EDSSI)
    port.put(MCR, LOOP)  # CTS, DSR and DCD fall
    port.put(THR, 0x41)
    port.put(THR, 0x42)  # no room: an overrun
    assert port.get(IIR) == LINE
    port.get(LSR)
    assert port.get(IIR) == RECEIVED
    port.get(RBR)
    assert port.get(IIR) == THR_EMPTY
    assert port.get(IIR) == MODEM
    assert port.line, "up as long as any cause is pending"
    port.get(MSR)
    assert port.get(IIR) == NOTHING
    assert not port.line


def test_reading_iir_clears_only_what_it_reports(port: Port) -> None:
    port.put(IER, ERBFI | ETBEI)
    port.device.receive(b"x")
    assert port.get(IIR) == RECEIVED
    port.get(RBR)
    assert port.get(IIR) == THR_EMPTY, "still pending: it was not the source"


def test_a_second_cause_under_a_high_line_is_no_edge(port: Port) -> None:
    port.put(IER, ERBFI | ETBEI)
    assert port.edges == 1
    port.device.receive(b"x")
    port.get(IIR)
    port.get(RBR)
    assert port.line
    assert port.edges == 1


def test_disabling_drops_the_line(port: Port) -> None:
    port.put(IER, ERBFI)
    port.device.receive(b"x")
    port.put(IER, 0)
    assert not port.line
    port.put(IER, ERBFI)
    assert port.line


def test_out2_does_not_gate_the_pin(port: Port) -> None:
    port.put(IER, ERBFI)
    port.put(MCR, 0)
    port.device.receive(b"x")
    assert port.line


# --- §8.7, §8.8: modem lines and loopback ---------------------------------------------------------


def test_loopback_carries_data_back(port: Port) -> None:
    port.put(FCR, 1)
    port.put(MCR, LOOP)
    for byte in b"echo":
        port.put(THR, byte)
    assert port.sent == b""
    assert port.drain() == b"echo"


def test_loopback_overrun(port: Port) -> None:
    port.put(FCR, 1)
    port.put(MCR, LOOP)
    for _ in range(17):
        port.put(THR, 0x41)
    assert port.get(LSR) & OE
    assert port.drain() == b"A" * 16


def test_input_waits_while_in_loopback(port: Port) -> None:
    port.put(FCR, 1)
    port.put(MCR, LOOP)
    port.device.receive(b"later")
    assert not port.get(LSR) & DR
    port.put(THR, 0x41)
    assert port.drain() == b"A"
    port.put(MCR, 0)
    assert port.drain() == b"later"


@pytest.mark.parametrize(
    ("outputs", "inputs"),
    [(0x0, 0x0), (0x1, 0x20), (0x2, 0x10), (0x4, 0x40), (0x8, 0x80), (0xF, 0xF0), (0xA, 0x90)],
)
def test_loopback_wires_outputs_to_inputs(port: Port, outputs: int, inputs: int) -> None:
    port.put(MCR, LOOP | outputs)
    assert port.get(MSR) & 0xF0 == inputs


def test_deltas(port: Port) -> None:
    port.put(MCR, LOOP)
    assert port.get(MSR) == 0x0B, "CTS, DSR and DCD fell; RI was low"
    assert port.get(MSR) == 0x00, "§8.8: reading clears"
    port.put(MCR, LOOP | 0x2)
    assert port.get(MSR) == 0x11
    port.put(MCR, LOOP | 0x2 | 0x4)
    assert port.get(MSR) == 0x50, "RI rising is no event"
    port.put(MCR, LOOP | 0x2)
    assert port.get(MSR) == 0x14, "its trailing edge is"


def test_modem_status_interrupt(port: Port) -> None:
    port.put(MCR, LOOP)
    port.get(MSR)
    port.put(IER, EDSSI)
    assert not port.line
    port.put(MCR, LOOP | 0x1)
    assert port.line
    assert port.get(IIR) == MODEM
    port.get(MSR)
    assert not port.line


def test_outside_loopback_the_peer_is_ready(port: Port) -> None:
    port.put(MCR, LOOP)
    port.put(MCR, 0x0B)
    assert port.get(MSR) & 0xF0 == 0xB0


# --- looking and resetting ------------------------------------------------------------------------


def test_peek_takes_nothing(port: Port) -> None:
    port.put(IER, ETBEI | ERBFI)
    port.put(MCR, LOOP)
    port.put(THR, 0x41)
    port.put(THR, 0x42)
    seen = port.device.peek()
    assert port.device.peek() == seen
    assert (seen["RBR"], seen["LSR"], seen["MSR"], seen["IIR"]) == (0x42, 0x63, 0x0B, RECEIVED)
    assert port.get(RBR) == 0x42
    assert port.get(LSR) == 0x62
    assert port.get(IIR) == THR_EMPTY


def test_reset_forgets_what_was_received(port: Port) -> None:
    port.put(IER, ERBFI)
    port.device.receive(b"x" * 100)
    port.device.reset()
    assert not port.line
    assert port.drain() == b""
    assert port.get(MSR) == 0xB0
