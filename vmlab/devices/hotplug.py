"""The hot-plug controller: which windows hold a device, and what the guest answers.

A bare-metal kernel reads it directly; ACPI methods can as well, for every register is a plain 32-bit
word and what ACPI wants to know of a slot is a byte of its own. One edge on its line says "look at
EVENT"; for a guest with ACPI the line stays up until it has looked, so that an event from before its
driver was there is not lost.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from vmlab.core.counters import DEVICE_STATES, DeviceState
from vmlab.core.device import Device, command, on_peek, on_read, on_write
from vmlab.regs import Registers, block, rc, ro, rw, wo

__all__ = ["SLOT_COUNT", "HotPlug", "Slot"]

SLOT_COUNT = 64
NO_LINE = 0xFFFF_FFFF
#: ACPI's _STA of a device that is there: present, enabled, shown, working (ACPI 6.5 §6.3.7)
PRESENT = 0x0F
#: ANSWER values, by what they make of the device's state
ANSWERS = {1: "seen", 2: "driver_ok", 3: "failed"}
RELEASED = 4
# what the generic event device notifies a slot's container of (ACPI 6.5 §5.6.6)
BUS_CHECK, EJECT_REQUEST = 0, 3
#: _OST's status: it was done (§6.3.5.2)
SUCCESS = 0
#: the ACPI blocks' offsets, for the DSDT
VIRTIO_AT, LINE_AT, NOTE_AT, OST_AT, EVENTS_AT = 0x140, 0x180, 0x1C0, 0x200, (0x10, 0x14)


class Slot(NamedTuple):
    """A device in a window. kind: its virtio device id, 0 for any other device."""

    base: int
    size: int
    irq: int | None
    kind: int
    holder: Device


class SlotState:
    """What is known of a slot. unbound: the guest has unbound its driver; only its user space can bind one
    again. held: it is empty, and its driver still bound, for the device was taken out by force."""

    def __init__(self) -> None:
        self.device: Slot | None = None
        self.unbound = self.held = False


class HotPlug(Device):
    """Slot n is the n-th window of the MMIO device manager."""

    type = "hot-plug"

    class regs(Registers):
        ID = ro(0x00, '"VLHP"', reset=0x5048_4C56)
        VERSION = ro(0x04, "version of this interface", reset=1)
        SLOTS = ro(0x08, "how many slots there are", reset=SLOT_COUNT)
        EVENT_LOW = rc(0x10, "slots 0 to 31 that changed since the last read")
        EVENT_HIGH = rc(0x14, "slots 32 to 63 that changed since the last read")
        SLOT = rw(0x18, "the slot that the following registers speak of")
        STATE = ro(0x1C, "0 empty, 1 added, 2 seen, 3 driver_ok, 4 failed, 5 removing")
        BASE_LOW = ro(0x20, "guest-physical address of the device's window")
        BASE_HIGH = ro(0x24, "its upper half")
        SIZE = ro(0x28, "bytes of the window")
        IRQ = ro(0x2C, "its interrupt line; all ones: none")
        KIND = ro(0x30, "its virtio device id; 0: not a virtio device")
        ANSWER = wo(0x34, "1 seen, 2 driver_ok, 3 failed, 4 released (the guest lets it go)")
        POWER = rc(0x38, "1: the power button was pressed since the last read")
        STA = block(0x100, SLOT_COUNT, "a byte a slot, as ACPI's _STA: 0x0f present, 0 empty")
        VIRTIO = block(
            VIRTIO_AT, SLOT_COUNT, "a byte a slot: as STA, but 0 for devices of other kinds"
        )
        LINE = block(LINE_AT, SLOT_COUNT, "a byte a slot: its interrupt line; 0xff: none")
        NOTE = block(NOTE_AT, SLOT_COUNT, "a byte a slot: what ACPI is to notify its container of")
        OST = block(OST_AT, SLOT_COUNT, "a byte a slot: the status of ACPI's _OST")

    def __init__(self) -> None:
        self._slots = [SlotState() for _ in range(SLOT_COUNT)]
        #: called with the slot that the guest has let go
        self._on_released: Callable[[int], None] = lambda index: None
        #: whether a guest listens: it has read the event registers
        self._watched = False
        #: whether the guest has ACPI tables: set by the machine
        self.acpi = False
        #: whether the line has another holder, whose guest may know nothing of this controller: set by the
        #: machine. Then the line stays down until the guest has read an event register.
        self.shares_line = False
        #: whether the guest's user space serves requests: it has answered one
        self._served = False

    # --- the machine's side ---------------------------------------------------------------------

    @property
    def watched(self) -> bool:
        return self._watched or self.acpi

    def on_released(self, call: Callable[[int], None]) -> None:
        self._on_released = call

    def fill(self, index: int, slot: Slot, announce: bool) -> None:
        """A device is in the slot now; `announce`: tell the guest."""
        with self.lock:
            self._slots[index].device = slot
            if announce:
                self._event(index)

    @command
    def press(self) -> None:
        """Press the power button, for a guest that looks here for it: one without ACPI."""
        self.r.POWER = 1

    def ask_removal(self, index: int) -> None:
        """Ask the guest to let the slot's device go."""
        with self.lock:
            slot = self._slots[index].device
            if slot is not None:
                slot.holder.counters.state = DeviceState.REMOVING
                self._event(index)

    def empty(self, index: int, announce: bool) -> None:
        """The device is gone."""
        with self.lock:
            self._slots[index].device = None
            if announce:
                self._event(index)

    def _event(self, index: int) -> None:
        if index < 32:
            self.r.EVENT_LOW |= 1 << index
        else:
            self.r.EVENT_HIGH |= 1 << (index - 32)
        if not self.acpi and (self._watched or not self.shares_line):
            self.irq.pulse()
        self.update()

    def irq_level(self) -> bool:
        return self.acpi and bool(self.r.EVENT_LOW or self.r.EVENT_HIGH)

    def unbound(self, index: int) -> None:
        """The driver has reset the device in the slot. When it was asked to let it go it will, having
        put its own things away; a kernel with ACPI says no more than that."""
        with self.lock:
            state = self._slots[index]
            slot = state.device
            asked = slot is not None and slot.holder.counters.state == DeviceState.REMOVING
            if state.held or (self.acpi and asked):
                state.held, state.unbound = False, True

    def is_unbound(self, index: int) -> bool:
        return index < SLOT_COUNT and self._slots[index].unbound

    def is_held(self, index: int) -> bool:
        return self._slots[index].held

    def is_left(self, index: int) -> bool:
        """Whether a device that came to this slot would find no driver."""
        state = self._slots[index]
        return state.held or (state.unbound and not self._served)

    def let_go(self, index: int, driven: bool) -> bool:
        """The slot's device goes, with its driver bound if `driven`. -> `is_left`"""
        with self.lock:
            if driven:
                self._slots[index].held = True
            return self.is_left(index)

    def reset(self) -> None:
        with self.lock:
            super().reset()
            self._watched = self._served = False
            for state in self._slots:
                state.unbound = state.held = False

    # --- the guest's side -----------------------------------------------------------------------

    @property
    def _selected(self) -> Slot | None:
        index: int = self.r.SLOT
        return self._slots[index].device if index < SLOT_COUNT else None

    @on_read("EVENT_LOW")
    def _event_low(self) -> int:
        self._watched = True
        low: int = self.r.EVENT_LOW
        return low

    @on_read("EVENT_HIGH")
    def _event_high(self) -> int:
        self._watched = True
        high: int = self.r.EVENT_HIGH
        return high

    @on_peek("STATE")
    def _state(self) -> int:
        slot = self._selected
        return 0 if slot is None else 1 + DEVICE_STATES.index(slot.holder.counters.state)

    @on_peek("BASE_LOW")
    def _base_low(self) -> int:
        slot = self._selected
        return slot.base & 0xFFFF_FFFF if slot else 0

    @on_peek("BASE_HIGH")
    def _base_high(self) -> int:
        slot = self._selected
        return slot.base >> 32 if slot else 0

    @on_peek("SIZE")
    def _size(self) -> int:
        slot = self._selected
        return slot.size if slot else 0

    @on_peek("IRQ")
    def _irq(self) -> int:
        slot = self._selected
        return NO_LINE if slot is None or slot.irq is None else slot.irq

    @on_peek("KIND")
    def _kind(self) -> int:
        slot = self._selected
        return slot.kind if slot else 0

    @on_write("ANSWER")
    def _answer(self, value: int) -> None:
        slot = self._selected
        self._served = self._served or value == RELEASED
        if slot is None and value == RELEASED and self.is_unbound(self.r.SLOT):
            return  # its device was taken out before
        if slot is None:
            self.mistake(f"an answer for slot {self.r.SLOT}, which is empty")
        elif value == RELEASED:
            if slot.holder.counters.state != DeviceState.REMOVING:
                self.mistake(f"slot {self.r.SLOT} was released and nobody had asked")
            else:
                self._on_released(self.r.SLOT)
        elif value not in ANSWERS:
            self.mistake(f"an answer of {value:#x}")
        else:
            self._believe(slot, ANSWERS[value])

    @staticmethod
    def _believe(slot: Slot, state: str) -> None:
        """A virtio device knows from its Status register how far its driver is; the guest's word tells
        it only that it was seen, and that there is no driver."""
        counters = slot.holder.counters
        known = slot.kind and (
            state == DeviceState.DRIVER_OK
            or counters.state in (DeviceState.DRIVER_OK, DeviceState.FAILED)
        )
        if counters.state != DeviceState.REMOVING and not known:
            counters.state = state

    @on_read("STA")
    def _sta(self, offset: int, size: int) -> int:
        there = bytes(
            PRESENT if state.device else 0 for state in self._slots[offset : offset + size]
        )
        return int.from_bytes(there, "little")

    @on_read("VIRTIO")
    def _virtio(self, offset: int, size: int) -> int:
        """Anything but a virtio device is none of the driver's business; a placeholder neither."""
        slots = [state.device for state in self._slots[offset : offset + size]]
        there = bytes(PRESENT if slot is not None and slot.kind else 0 for slot in slots)
        return int.from_bytes(there, "little")

    @on_read("LINE")
    def _line(self, offset: int, size: int) -> int:
        slots = [state.device for state in self._slots[offset : offset + size]]
        lines = bytes(0xFF if slot is None or slot.irq is None else slot.irq for slot in slots)
        return int.from_bytes(lines, "little")

    @on_read("NOTE")
    def _note(self, offset: int, size: int) -> int:
        """Linux tells user space of an eject request alone: a device to be unbound, there or gone, or one
        that has come to where a driver was unbound."""
        notes = bytearray(size)
        for index in range(offset, min(offset + size, SLOT_COUNT)):
            state = self._slots[index]
            slot = state.device
            if state.held or (
                slot is not None
                and (slot.holder.counters.state == DeviceState.REMOVING or state.unbound)
            ):
                notes[index - offset] = EJECT_REQUEST
        self._watched = True
        return int.from_bytes(notes, "little")

    @on_write("OST")
    def _ost(self, offset: int, size: int, value: int) -> None:
        """_OST after a bus check. The driver's own status says more when it went well; after an eject
        request it says nothing, since user space is still at it."""
        slot = self._slots[offset].device if offset < SLOT_COUNT else None
        if slot is None or slot.holder.counters.state == DeviceState.REMOVING:
            return
        if value & 0xFF != SUCCESS and not self.is_unbound(offset):
            slot.holder.counters.state = DeviceState.FAILED
        elif slot.holder.counters.state == DeviceState.ADDED:
            slot.holder.counters.state = DeviceState.SEEN

    @on_write("STA")
    def _sta_written(self, offset: int, size: int, value: int) -> None:
        self.mistake(f"{size} bytes written to STA at {offset:#x}, which only tells")
