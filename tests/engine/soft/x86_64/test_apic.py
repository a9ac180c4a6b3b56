"""The I/O APIC and the local APIC, without a CPU."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from vmlab.engine.soft.x86_64.ioapic import IoApic
from vmlab.engine.soft.x86_64.lapic import Ipi, LocalApic


class Messages(list[tuple[int, int, int, bool, bool]]):
    def __call__(self, *message: int) -> bool:
        self.append(message)  # type: ignore[arg-type]
        return self.taken

    taken = True


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


def test_ioapic_level_that_nobody_took_is_sent_again() -> None:
    sent = Messages()
    chip = IoApic(sent)
    redirect(chip, 9, 0x8039)
    sent.taken = False
    chip.set_line(9, True)
    chip.write(0, 0x10 + 18)
    assert not chip.read(0x10) & 1 << 14, "it is not in service"
    sent.taken = True
    chip.retry()
    chip.retry()
    assert len(sent) == 2
    chip.set_line(9, False)
    chip.end_of_interrupt(0x39)
    chip.retry()
    assert len(sent) == 2


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
    while (vector := apic.pending()) is not None:  # type: ignore[assignment]
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
