"""The I/O APIC (Intel 82093AA data sheet, 290566): 24 inputs, one redirection entry each."""

from __future__ import annotations

from collections.abc import Callable

__all__ = ["BASE", "PINS", "IoApic"]

BASE = 0xFEC0_0000
PINS = 24
_VERSION = (PINS - 1) << 16 | 0x11

# redirection entry (§3.2.4)
_MASKED, _LEVEL, _REMOTE_IRR, _STATUS = 1 << 16, 1 << 15, 1 << 14, 1 << 12
_READ_ONLY = _REMOTE_IRR | _STATUS
_LOGICAL = 1 << 11
FIXED, LOWEST, NMI = 0, 1, 4

#: send(vector, delivery mode, destination, logical, level-triggered) -> whether a local APIC took it
Send = Callable[[int, int, int, bool, bool], bool]


class IoApic:
    """`send` takes the interrupt messages that leave the chip."""

    def __init__(self, send: Send) -> None:
        self._send = send
        self.reset()

    def reset(self) -> None:
        self.entries = [_MASKED] * PINS
        self.lines = 0
        self.index = 0
        self.id = 0

    def line_of(self, vector: int) -> int | None:
        """The line whose interrupts have that vector; None: those of no line."""
        for pin, entry in enumerate(self.entries):
            if entry & (0xFF | _MASKED) == vector and entry >> 8 & 7 in (FIXED, LOWEST):
                return 0 if pin == 2 else pin
        return None

    def set_line(self, pin: int, level: bool) -> None:
        bit = 1 << pin
        rising = level and not self.lines & bit
        self.lines = self.lines | bit if level else self.lines & ~bit
        # an edge on a masked pin is lost, as §3.4 says; a level waits in its line
        if self.entries[pin] & _LEVEL:
            self._service(pin)
        elif rising and not self.entries[pin] & _MASKED:
            self._deliver(pin)

    def _service(self, pin: int) -> None:
        """Send a level-triggered interrupt that is due."""
        entry = self.entries[pin]
        due = self.lines >> pin & 1 and not entry & (_MASKED | _REMOTE_IRR) and entry & _LEVEL
        if due and self._deliver(pin):
            self.entries[pin] |= _REMOTE_IRR

    def _deliver(self, pin: int) -> bool:
        entry = self.entries[pin]
        mode = entry >> 8 & 7
        if mode not in (FIXED, LOWEST, NMI):
            return False  # SMI, INIT and ExtINT: nothing is wired behind them here (as on KVM)
        level = bool(entry & _LEVEL)
        taken = self._send(entry & 0xFF, mode, entry >> 56, bool(entry & _LOGICAL), level)
        return taken and mode != NMI

    def retry(self) -> None:
        """A local APIC may take now what it did not when it was sent: levels that wait are sent again."""
        if self.lines:
            for pin in range(PINS):
                self._service(pin)

    def end_of_interrupt(self, vector: int) -> None:
        """A local APIC's EOI message for a level-triggered vector."""
        for pin, entry in enumerate(self.entries):
            if entry & _REMOTE_IRR and entry & 0xFF == vector:
                self.entries[pin] &= ~_REMOTE_IRR
                self._service(pin)

    def read(self, offset: int) -> int:
        """A 32-bit register; only IOREGSEL (0x00) and IOWIN (0x10) exist."""
        if offset == 0x00:
            return self.index
        if offset != 0x10:
            return 0
        if self.index in (0, 2):
            return self.id << 24
        if self.index == 1:
            return _VERSION
        pin = (self.index - 0x10) >> 1
        if 0 <= pin < PINS:
            return self.entries[pin] >> 32 * (self.index & 1) & 0xFFFF_FFFF
        return 0

    def write(self, offset: int, value: int) -> None:
        if offset == 0x00:
            self.index = value & 0xFF
        elif offset == 0x10:
            self._write_window(value & 0xFFFF_FFFF)

    def _write_window(self, value: int) -> None:
        if self.index == 0:
            self.id = value >> 24 & 0xF
            return
        pin = (self.index - 0x10) >> 1
        if not 0 <= pin < PINS:
            return
        entry = self.entries[pin]
        if self.index & 1:
            self.entries[pin] = entry & 0xFFFF_FFFF | (value & 0xFF00_0000) << 32
            return
        kept = entry & (_READ_ONLY | 0xFFFF_FFFF << 32)
        entry = kept | value & 0x1_FFFF & ~_READ_ONLY
        if not entry & _LEVEL:
            entry &= ~_REMOTE_IRR  # as real chips do when a pin turns edge-triggered
        self.entries[pin] = entry
        self._service(pin)
