"""The interrupt controllers and the timer chip, without a CPU."""

from __future__ import annotations

import threading
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vmlab.engine.soft import lapic
from vmlab.engine.soft.chipset import Chipset
from vmlab.engine.soft.ioapic import IoApic
from vmlab.engine.soft.lapic import Ipi, LocalApic
from vmlab.engine.soft.pic import Pic, PicPair
from vmlab.engine.soft.pit import HZ, Pit
from vmlab.engine.soft.timers import Timers


def pic(icw4: int = 1, imr: int = 0) -> Pic:
    chip = Pic(0xF8)
    for odd, value in ((False, 0x11), (True, 0x20), (True, 4), (True, icw4), (True, imr)):
        chip.write(odd, value)
    return chip


# -- 8259A --------------------------------------------------------------------------------------------


def test_pic_priorities_and_eoi() -> None:
    chip = pic()
    for line in (5, 1, 3):
        chip.set_line(line, True)
    assert [chip.acknowledge(), chip.pending()] == [1, None]
    chip.set_line(0, True)
    assert chip.acknowledge() == 0  # a higher one nests
    chip.write(False, 0x20)
    assert chip.isr == 1 << 1
    assert chip.pending() is None
    chip.write(False, 0x61)  # specific EOI of 1
    assert [chip.acknowledge(), chip.isr] == [3, 1 << 3]
    chip.write(False, 0x20)
    assert chip.acknowledge() == 5


def test_pic_mask_reads_and_poll() -> None:
    chip = pic(imr=0x0A)
    chip.set_line(1, True)
    assert not chip.output
    chip.set_line(4, True)
    assert chip.read(True) == 0x0A
    assert chip.read(False) == 1 << 1 | 1 << 4
    chip.write(False, 0x0C)
    assert chip.read(False) == 0x84
    chip.write(False, 0x0B)
    assert chip.read(False) == 1 << 4


def test_pic_spurious_automatic_eoi_and_rotation() -> None:
    chip = pic()
    assert [chip.acknowledge(), chip.isr] == [7, 0]
    chip = pic(icw4=3)
    chip.set_line(2, True)
    assert [chip.acknowledge(), chip.isr] == [2, 0]
    chip = pic()
    chip.set_line(2, True)
    chip.acknowledge()
    chip.write(False, 0xA0)  # rotate on non-specific EOI: 2 is the lowest now
    chip.set_line(1, True)
    chip.set_line(3, True)
    assert chip.acknowledge() == 3
    chip.write(False, 0xC6)  # set priority: 7 is the highest
    chip.set_line(7, True)
    assert chip.pending() == 7


def test_pic_level_and_special_mask() -> None:
    chip = pic()
    chip.elcr = 1 << 5
    chip.set_line(5, True)
    chip.acknowledge()
    chip.write(False, 0x20)
    assert chip.acknowledge() == 5  # still up
    chip.set_line(6, True)
    assert chip.pending() is None
    chip.write(False, 0x68)
    chip.write(True, 1 << 5)
    assert chip.pending() == 6
    chip.set_line(5, False)
    assert not chip.irr >> 5 & 1


def test_pair_cascades() -> None:
    pair = PicPair()
    for base, values in ((0x20, (0x11, 0x20, 4, 1)), (0xA0, (0x11, 0x28, 2, 1))):
        pair.write(base, values[0])
        for value in values[1:]:
            pair.write(base + 1, value)
    pair.set_line(14, True)
    pair.set_line(9, True)
    assert pair.output
    assert pair.acknowledge() == 0x29
    pair.write(0xA0, 0x20)
    pair.write(0x20, 0x20)
    assert pair.acknowledge() == 0x2E
    pair.write(0xA1, 0xFF)
    assert pair.read(0xA1) == 0xFF
    pair.write(0x4D1, 0xFF)
    assert pair.read(0x4D1) == 0xDE


@given(
    st.lists(
        st.one_of(
            st.tuples(st.just("line"), st.integers(0, 15), st.booleans()),
            st.tuples(
                st.just("write"),
                st.sampled_from([0x20, 0x21, 0xA0, 0xA1, 0x4D0]),
                st.integers(0, 255),
            ),
            st.tuples(st.just("ack"), st.just(0), st.just(0)),
            st.tuples(st.just("read"), st.sampled_from([0x20, 0xA1, 0x4D1]), st.just(0)),
        ),
        max_size=60,
    )
)
def test_pair_takes_anything(program: list[tuple[str, int, int]]) -> None:
    pair = PicPair()
    for kind, where, value in program:
        if kind == "line":
            pair.set_line(where, bool(value))
        elif kind == "write":
            pair.write(where, value)
        elif kind == "ack":
            assert 0 <= pair.acknowledge() <= 0xFF
        else:
            assert 0 <= pair.read(where) <= 0xFF
        assert pair.master.irr >> 2 & 1 <= pair.slave.output


# -- I/O APIC -----------------------------------------------------------------------------------------


class Messages(list[tuple[int, int, int, bool, bool]]):
    def __call__(self, *message: int) -> None:
        self.append(message)  # type: ignore[arg-type]


def redirect(chip: IoApic, pin: int, low: int, high: int = 0) -> None:
    for index, value in ((0x11 + 2 * pin, high), (0x10 + 2 * pin, low)):
        chip.write(0, index)
        chip.write(0x10, value)


def test_ioapic_registers() -> None:
    chip = IoApic(Messages())
    chip.write(0, 1)
    assert chip.read(0x10) == 0x170011
    chip.write(0, 0x10)
    assert chip.read(0x10) == 0x10000
    redirect(chip, 3, 0xFFFF_FFFF, 0xFFFF_FFFF)
    assert chip.read(0x10) == 0x1AFFF
    chip.write(0, 0x17)
    assert chip.read(0x10) == 0xFF00_0000
    chip.write(0, 0xFF)
    assert chip.read(0x10) == 0


def test_ioapic_edge() -> None:
    sent = Messages()
    chip = IoApic(sent)
    redirect(chip, 4, 0x1_0034)
    chip.set_line(4, True)
    chip.set_line(4, False)
    redirect(chip, 4, 0x34, 1 << 24)
    assert sent == []  # lost while masked
    chip.set_line(4, True)
    chip.set_line(4, True)
    assert sent == [(0x34, 0, 1, False, False)]


def test_ioapic_level_waits_for_eoi() -> None:
    sent = Messages()
    chip = IoApic(sent)
    redirect(chip, 9, 0x8039)
    chip.set_line(9, True)
    chip.set_line(9, False)
    chip.set_line(9, True)
    assert len(sent) == 1
    chip.write(0, 0x10 + 18)
    assert chip.read(0x10) & 1 << 14
    chip.end_of_interrupt(0x38)
    assert len(sent) == 1
    chip.end_of_interrupt(0x39)
    assert len(sent) == 2
    chip.set_line(9, False)
    chip.end_of_interrupt(0x39)
    assert len(sent) == 2
    assert not chip.read(0x10) & 1 << 14
    chip.write(0x10, 0x1_8039)
    chip.set_line(9, True)
    assert len(sent) == 2
    chip.write(0x10, 0x8039)  # unmasked with the line up
    assert len(sent) == 3


# -- local APIC ---------------------------------------------------------------------------------------


class Bench:
    """A local APIC with its surroundings recorded."""

    def __init__(self, number: int = 0) -> None:
        self.now = 1000
        self.sent: list[Ipi] = []
        self.eois: list[int] = []
        self.deadline: int | None = None
        self.apic = LocalApic(
            number, lambda: self.now, self.sent.append, self.eois.append, self._arm
        )
        self.apic.write(0xF0, 0x1FF)

    def _arm(self, deadline: int | None) -> None:
        self.deadline = deadline


def test_lapic_priorities() -> None:
    b = Bench()
    apic = b.apic
    apic.accept(0x31, False)
    apic.accept(0x52, True)
    assert apic.acknowledge() == 0x52
    apic.accept(0x5F, False)
    assert apic.pending() is None  # the same class waits
    apic.accept(0x60, False)
    assert apic.acknowledge() == 0x60
    assert apic.read(0xA0) == 0x60
    assert apic.read(0x120) == 1 << 0x52 - 0x40
    apic.write(0xB0, 0)
    apic.write(0xB0, 0)
    assert b.eois == [0x52]
    apic.write(0x80, 0x50)
    assert apic.pending() is None
    apic.write(0x80, 0x4F)
    assert apic.acknowledge() == 0x5F
    assert apic.acknowledge() == 0xFF  # spurious


@given(st.lists(st.integers(16, 255), max_size=40), st.integers(0, 255))
def test_lapic_delivers_by_priority(vectors: list[int], tpr: int) -> None:
    apic = Bench().apic
    apic.write(0x80, tpr)
    for vector in vectors:
        apic.accept(vector, False)
    seen = []
    while (vector := apic.pending()) is not None:
        assert apic.acknowledge() == vector
        seen.append(vector)
        apic.write(0xB0, 0)
    assert seen == sorted({v for v in vectors if v >> 4 > tpr >> 4}, reverse=True)


def test_lapic_destinations() -> None:
    apic = Bench(2).apic
    assert apic.matches(2, False)
    assert apic.matches(0xFF, False)
    assert not apic.matches(1, False)
    apic.write(0xD0, 0x04000000)
    assert apic.matches(0x06, True)
    assert not apic.matches(0x03, True)
    apic.write(0xE0, 0x0FFF_FFFF)
    apic.write(0xD0, 0x21000000)
    assert apic.matches(0x23, True)
    assert not apic.matches(0x13, True)


def test_lapic_timer() -> None:
    b = Bench()
    apic = b.apic
    apic.write(0x3E0, 0x3)  # divide by 16
    apic.write(0x380, 1000)
    assert b.deadline is None  # masked: nobody would notice
    apic.write(0x320, 0x40)
    assert b.deadline == 1000 + 16_000
    b.now += 4_000
    assert apic.read(0x390) == 750
    b.now += 12_000
    apic.timer_expired()
    assert apic.read(0x390) == 0
    assert apic.acknowledge() == 0x40
    apic.write(0xB0, 0)
    assert b.deadline == 17_000
    apic.write(0x320, 0x20041)
    apic.write(0x380, 100)
    assert b.deadline == b.now + 1_600
    b.now += 5_000
    apic.timer_expired()
    assert b.deadline == 17_000 + 4 * 1_600  # missed periods are dropped
    assert apic.pending() == 0x41


def test_lapic_software_disable_and_registers() -> None:
    apic = Bench().apic
    apic.write(0x350, 0x700)
    assert apic.takes_extint
    apic.write(0xF0, 0xFF)
    assert not apic.takes_extint
    assert apic.read(0x320) == 0x10000
    apic.accept(0x40, False)
    assert apic.pending() is None
    assert apic.read(0x30) == 0x50014
    assert apic.read(0x20) == 0
    assert apic.read(0x3F0) == 0


@given(st.lists(st.tuples(st.integers(0, 0xFF), st.integers(0, 0xFFFF_FFFF)), max_size=50))
def test_lapic_takes_anything(program: list[tuple[int, int]]) -> None:
    b = Bench()
    for index, value in program:
        b.now += value & 0xFFFF
        b.apic.write(index << 4, value)
        assert 0 <= b.apic.read(index << 4) <= 0xFFFF_FFFF
        b.apic.timer_expired()


# -- 8254 ---------------------------------------------------------------------------------------------


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
            assert b.deadline > b.now - 256_000
            b.pit.expired()


# -- all together -------------------------------------------------------------------------------------


@pytest.fixture
def board():
    woken: list[int] = []
    signals: list[tuple[int, int]] = []
    chipset = Chipset(
        2,
        threading.RLock(),
        lambda cpu, new: woken.append(cpu),
        lambda cpu, ipi: signals.append((cpu, ipi.mode)),
    )
    yield chipset, woken, signals
    chipset.close()


def enable(chipset: Chipset, cpu: int) -> None:
    chipset.write_mmio(cpu, lapic.BASE + 0xF0, 4, 0x1FF)


def test_gsi_reach_both_controllers(board) -> None:
    chipset, woken, _ = board
    enable(chipset, 0)
    for gsi, pin in ((0, 2), (5, 5), (20, 20)):
        redirect(chipset.ioapic, pin, 0x40 + gsi)
        chipset.pulse_gsi(gsi)
        if gsi < 16:  # the 8259A comes first by LINT0, its vector base is 0 here
            assert chipset.acknowledge(0) == gsi
        assert chipset.acknowledge(0) == 0x40 + gsi
        chipset.write_mmio(0, lapic.BASE + 0xB0, 4, 0)
        chipset.pic.master.isr = 0
    assert woken
    assert chipset.acknowledge(0) is None
    assert chipset.line == [False, False]


def test_ipis(board) -> None:
    chipset, _, signals = board
    enable(chipset, 0)
    enable(chipset, 1)

    def icr(low: int, high: int = 0) -> None:
        chipset.write_mmio(0, lapic.BASE + 0x310, 4, high << 24)
        chipset.write_mmio(0, lapic.BASE + 0x300, 4, low)

    icr(0x41, 1)
    assert [chipset.acknowledge(0), chipset.acknowledge(1)] == [None, 0x41]
    icr(0x4_0051)
    assert [chipset.acknowledge(0), chipset.acknowledge(1)] == [0x51, None]
    icr(0xC_0061)
    assert [chipset.acknowledge(0), chipset.acknowledge(1)] == [None, 0x61]
    icr(0x8_0071)
    assert [chipset.acknowledge(0), chipset.acknowledge(1)] == [0x71, 0x71]
    icr(0xC_4500)
    icr(0xC_8500)  # INIT level de-assert: nothing
    icr(0xC_4608)
    icr(0x4400, 1)
    assert signals == [(1, lapic.INIT), (1, lapic.STARTUP), (1, lapic.NMI)]
    icr(0x181, 0xFF)  # lowest priority: one CPU only
    assert sorted([chipset.acknowledge(0) or 0, chipset.acknowledge(1) or 0]) == [0, 0x81]


def test_register_accesses_of_odd_sizes(board) -> None:
    chipset, _, _ = board
    base = lapic.BASE + 0x30
    assert chipset.read_mmio(0, base, 4) == 0x50014
    assert chipset.read_mmio(0, base + 2, 2) == 5
    assert chipset.read_mmio(0, base, 1) == 0x14
    assert chipset.read_mmio(0, base + 8, 4) == 0
    chipset.write_mmio(0, base + 4, 4, 1)


def test_a_reset_keeps_the_devices_lines(board) -> None:
    chipset, _, _ = board
    chipset.set_gsi(5, True)
    chipset.reset()
    assert chipset.ioapic.lines == 1 << 5
    assert chipset.pic.master.lines == 1 << 5


def test_timers_fire_in_order_and_once() -> None:
    lock = threading.RLock()
    timers = Timers(lock, "test")
    fired: list[str] = []
    done = threading.Event()
    now = time.monotonic_ns()
    with lock:
        timers.set("never", now + 10**12, lambda: fired.append("never"))
        timers.set("b", now + 10_000_000, lambda: (fired.append("b"), done.set()))
        timers.set("a", now + 5_000_000, lambda: fired.append("a"))
        timers.set("gone", now + 1_000_000, lambda: fired.append("gone"))
        timers.set("gone", None, lambda: None)
    assert done.wait(5)
    assert fired == ["a", "b"]
    timers.close()
