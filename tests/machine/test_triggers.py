"""What the tables declare of each line against what its device does, on an interrupt controller."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import NamedTuple

import pytest

from vmlab.arch.x86_64 import platform
from vmlab.boot.acpi import aml
from vmlab.core.irq import IrqLine, SharedLine
from vmlab.core.manager import MMIO_LEN, MMIODeviceManager
from vmlab.devices.hotplug import HotPlug, Slot
from vmlab.devices.power import Power
from vmlab.devices.uart16550 import Uart16550
from vmlab.engine.soft.x86_64.ioapic import IoApic
from vmlab.machine.board import pc_description as tables
from vmlab.machine.board.events import SLOTS
from vmlab.testing import DeviceHarness, Driver
from vmlab.virtio import Rng
from vmlab.virtio.registers import CONFIG_CHANGE

VECTOR = 0x30


class Declared(NamedTuple):
    level: bool
    shared: bool


def declared() -> dict[int, list[Declared]]:
    """Line -> what each descriptor of the DSDT says of it (ACPI 6.5 §6.4.3.6)."""
    blob, found, at = tables.acpi_tables(1, SLOTS), dict[int, list[Declared]](), 0
    while (at := blob.find(b"\x89", at)) >= 0:
        size, flags, count = struct.unpack_from("<HBB", blob, at + 1)
        if size == 2 + 4 * count and flags & ~0b1011 == 0 and flags & 1:
            for line in struct.unpack_from(f"<{count}I", blob, at + 5):
                found.setdefault(line, []).append(Declared(not flags & 2, bool(flags & 8)))
        at += 1
    return found


DECLARED = declared()


class Pin:
    """An I/O APIC's pin as a guest programs it by the declaration, with a CPU that takes what comes."""

    def __init__(self, line: int) -> None:
        self.line, self.taken = line, 0
        self.chip = IoApic(self._message)
        level = DECLARED[line][0].level
        for index, value in ((0x11, 0), (0x10, VECTOR | level << 15)):
            self.chip.write(0, index + 2 * line)
            self.chip.write(0x10, value)

    def _message(self, *_: object) -> bool:
        self.taken += 1
        return True

    def set(self, level: bool) -> None:
        self.chip.set_line(self.line, level)

    def pulse(self) -> None:
        self.set(True)
        self.set(False)

    def close(self) -> None:
        """Nothing to let go of."""

    def served(self) -> None:
        self.chip.end_of_interrupt(VECTOR)


class Wired:
    """A virtio device whose line goes to a pin."""

    def __init__(self, pin: Pin) -> None:
        self.driver = Driver(Rng())
        self.line = IrqLine(pin.line, pin)
        self.driver.transport.irq = self.line

    def close(self) -> None:
        self.driver.close()


@pytest.fixture
def slot_line(request: pytest.FixtureRequest) -> Iterator[tuple[Pin, Wired]]:
    pin = Pin(request.param)
    wired = Wired(pin)
    yield pin, wired
    wired.close()


def test_every_line_is_declared_in_one_way() -> None:
    slots = {*range(5, 16), *range(17, 22)}
    assert set(DECLARED) == {platform.COM1_IRQ, platform.HOTPLUG_IRQ, platform.POWER_IRQ} | slots
    for line in slots:
        assert set(DECLARED[line]) == {Declared(line >= 16, line >= 16)}
        assert len(DECLARED[line]) == 1 or line >= 16, "an edge has one holder"
    assert sum(len(DECLARED[line]) for line in slots) == SLOTS


def test_the_tables_give_a_slot_the_line_that_the_manager_gives_it() -> None:
    manager = MMIODeviceManager(shared_irqs=platform.SHARED_LINES, slots=SLOTS)
    manager.paired = True
    blob = tables.acpi_tables(1, SLOTS)
    for number in range(SLOTS):
        base, line = manager.register_mmio_device(_Nothing(), 4, f"rng{number}")
        window = aml.memory32(base, MMIO_LEN)
        at = blob.index(window) + len(window)
        assert struct.unpack_from("<I", blob, at + 5) == (line,)


class _Nothing:
    def read(self, offset: int, size: int) -> int:
        return 0

    def write(self, offset: int, size: int, value: int) -> None:
        """Takes it."""


SLOT_LINES = [*range(5, 16), *range(17, 22)]


@pytest.mark.parametrize("slot_line", SLOT_LINES, indirect=True)
def test_no_cause_of_a_virtio_device_is_lost(slot_line: tuple[Pin, Wired]) -> None:
    """virtio 1.2 §4.2.3.4: whatever comes between the driver's look, its acknowledgement and the end."""
    pin, wired = slot_line
    transport, driver = wired.driver.transport, wired.driver
    before = pin.taken

    def looks() -> int:
        """One interrupt, and what its handler sees."""
        assert pin.taken == before + 1
        return driver.read("InterruptStatus")

    transport._interrupt(1)
    assert wired.line.level
    transport._interrupt(1)  # it was not seen yet: the same interrupt serves both
    seen = looks()
    transport._interrupt(CONFIG_CHANGE)  # between look and acknowledgement
    driver.write("InterruptACK", seen)
    assert wired.line.level
    pin.served()
    before += 1
    seen = looks()
    assert seen == CONFIG_CHANGE
    driver.write("InterruptACK", seen)
    assert not wired.line.level
    transport._interrupt(1)  # between acknowledgement and end
    pin.served()
    before += 1
    driver.write("InterruptACK", looks())
    pin.served()
    before += 1
    assert pin.taken == before, "and none that has no cause"
    assert wired.line.raised == 3
    transport._interrupt(1)
    driver.write("Status", 0)
    assert not wired.line.level, "a reset takes every cause back"


@pytest.mark.parametrize("line", range(17, 24))
def test_devices_that_share_a_line(line: int) -> None:
    DECLARED.setdefault(line, [Declared(True, True)])
    pin = Pin(line)
    shared = SharedLine(IrqLine(line, pin))
    first, second, third = (shared.hold() for _ in range(3))
    first.set(True)
    assert pin.taken == 1
    second.set(True)
    first.set(False)
    pin.served()
    assert pin.taken == 2, "the second one's level is up"
    third.set(True)
    second.set(False)
    third.close()
    pin.served()
    assert (pin.taken, first.raised, second.raised) == (2, 1, 1)
    second.set(True)
    assert (pin.taken, second.raised) == (3, 2)
    second.close()
    first.close()
    assert not shared.held


def test_the_hot_plug_controllers_level_stays_until_its_events_are_read() -> None:
    pin = Pin(platform.HOTPLUG_IRQ)
    assert DECLARED[pin.line] == [Declared(level=True, shared=False)]
    hotplug = HotPlug()
    hotplug.acpi = True
    with DeviceHarness(hotplug):
        hotplug.irq = IrqLine(pin.line, pin)
        for slot, word in ((3, HotPlug.regs.EVENT_LOW), (40, HotPlug.regs.EVENT_HIGH)):
            before = pin.taken
            hotplug.fill(slot, Slot(0, 0, None, 4, hotplug), announce=True)
            assert (pin.taken, hotplug.irq.level) == (before + 1, True)
            assert hotplug.read(word.offset, 4) == 1 << (slot & 31)
            assert not hotplug.irq.level
            pin.served()
            assert pin.taken == before + 1


def test_the_power_button_is_an_edge() -> None:
    pin = Pin(platform.POWER_IRQ)
    assert DECLARED[pin.line] == [Declared(level=False, shared=False)]
    power = Power()
    power.irq = IrqLine(pin.line, pin)
    for turn in range(1, 4):
        power.press()
        assert pin.taken == turn


def test_the_serial_port_is_an_edge_that_a_driver_follows_until_it_is_down() -> None:
    pin = Pin(platform.COM1_IRQ)
    assert DECLARED[pin.line] == [Declared(level=False, shared=False)]
    uart = Uart16550()
    uart.irq = IrqLine(pin.line, pin)
    uart.write(1, 1, 1)
    uart.receive(b"a")
    uart.receive(b"b")
    assert pin.taken == 1
    while uart.read(5, 1) & 1:
        uart.read(0, 1)
    uart.receive(b"c")
    assert pin.taken == 2
