"""The interrupt controllers and timers, wired as KVM wires its in-kernel ones.

GSI n < 16 goes to 8259A input n and I/O APIC pin n, but GSI 0 to pin 2 (the PC's usual override);
16..23 to the I/O APIC alone. Nothing of this is visible on the machine's buses, so that the same guest
gives the same counts on both engines.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

from vmlab.engine.soft.timers import Timers
from vmlab.engine.soft.x86_64 import ioapic, lapic
from vmlab.engine.soft.x86_64.ioapic import IoApic
from vmlab.engine.soft.x86_64.lapic import Ipi, LocalApic
from vmlab.engine.soft.x86_64.pic import CASCADE, PicPair
from vmlab.engine.soft.x86_64.pit import Pit

__all__ = ["PORTS", "Chipset"]

GSIS = ioapic.PINS
_PIC_PORTS = (0x20, 0x21, 0xA0, 0xA1, 0x4D0, 0x4D1)
_PIT_PORTS = (0x40, 0x41, 0x42, 0x43, 0x61)
#: the ports that never reach a bus
PORTS = frozenset(_PIC_PORTS + _PIT_PORTS)


class Chipset:
    """State and routing. `lock` guards all of it; no method calls out to a device.

    wake(cpu, new): an interrupt waits for this CPU, and did not before; called with the lock held.
    signal(cpu, ipi): an INIT, start-up or NMI message for a CPU, likewise.
    """

    #: what never reaches a bus
    pages = frozenset((ioapic.BASE >> 12, lapic.BASE >> 12))
    ports = PORTS

    def __init__(
        self,
        cpus: int,
        lock: threading.RLock,
        wake: Callable[[int, bool], None],
        signal: Callable[[int, Ipi], None],
        clock: Callable[[], int] = time.monotonic_ns,
    ) -> None:
        self.lock = threading.Condition(lock)
        self._wake, self._signal = wake, signal
        self._seen: Callable[[str, int, int | None], None] | None = None
        #: per CPU: an interrupt is waiting that its local APIC would let through
        self.line = [False] * cpus
        self.levels = [False] * GSIS
        self.timers = Timers(lock, "vmlab-soft-timer")
        self.pic = PicPair()
        self.ioapic = IoApic(self._message)
        self.lapics = [
            LocalApic(n, clock, self._ipi_of(n), self._eoi, self._timer_of(n)) for n in range(cpus)
        ]
        self.pit = Pit(clock, self._pit_pulse, self._arm_pit)

    def reset(self) -> None:
        with self.lock:
            self.pic.reset()
            self.ioapic.reset()
            for apic in self.lapics:
                apic.reset()
            self.pit.reset()
            for gsi, level in enumerate(self.levels):
                if level:  # devices keep their lines up through a reset of the controllers
                    self._drive(gsi, True)
            self._refresh()

    def close(self) -> None:
        self.timers.close()

    # -- wiring ------------------------------------------------------------------------------------

    def set_gsi(self, gsi: int, level: bool) -> None:
        if self.levels[gsi] == level:
            return  # idempotent without the lock: only the line's own holder changes it
        with self.lock:
            self.levels[gsi] = level
            self._drive(gsi, level)
            self._refresh()

    def pulse_gsi(self, gsi: int) -> None:
        """One edge; on a line that is up, a new one."""
        with self.lock:
            if self.levels[gsi]:
                self._drive(gsi, False)
            self._drive(gsi, True)
            if not self.levels[gsi]:
                self._drive(gsi, False)
            self._refresh()

    def _drive(self, gsi: int, level: bool) -> None:
        if gsi < 16 and gsi != CASCADE:
            self.pic.set_line(gsi, level)
        self.ioapic.set_line(2 if gsi == 0 else gsi, level)

    def _pit_pulse(self) -> None:
        self.pulse_gsi(0)

    def _message(
        self, vector: int, mode: int, destination: int, logical: bool, level: bool
    ) -> bool:
        """An interrupt message from the I/O APIC; whether a CPU took it."""
        ipi = Ipi(vector, mode, logical, level, True, 0, destination)
        return self._deliver(ipi, self._targets(ipi, None))

    def _targets(self, ipi: Ipi, source: int | None) -> list[LocalApic]:
        if ipi.shorthand == 1:
            return [self.lapics[source or 0]]
        if ipi.shorthand:
            return [a for a in self.lapics if ipi.shorthand == 2 or a.number != source]
        targets = [a for a in self.lapics if a.matches(ipi.destination, ipi.logical)]
        if ipi.mode == lapic.LOWEST:
            return sorted(targets, key=lambda apic: apic.ppr)[:1]
        return targets

    def _deliver(self, ipi: Ipi, targets: list[LocalApic]) -> bool:
        """Whether one of them took it, where that is known."""
        taken = False
        for apic in targets:
            if ipi.mode in (lapic.FIXED, lapic.LOWEST):
                taken = apic.accept(ipi.vector, ipi.level) or taken
            elif ipi.mode == lapic.INIT:
                if ipi.assert_ or not ipi.level:  # a level de-assert only synchronised old APICs
                    self._signal(apic.number, ipi)
            elif ipi.mode in (lapic.NMI, lapic.STARTUP):
                self._signal(apic.number, ipi)
        return taken

    def _ipi_of(self, source: int) -> Callable[[Ipi], None]:
        def send(ipi: Ipi) -> None:
            self._deliver(ipi, self._targets(ipi, source))

        return send

    def _eoi(self, vector: int) -> None:
        self.ioapic.end_of_interrupt(vector)

    def _timer_of(self, number: int) -> Callable[[int | None], None]:
        def expired() -> None:
            self.lapics[number].timer_expired()
            self._refresh()

        def arm(deadline: int | None) -> None:
            self.timers.set(("lapic", number), deadline, expired)

        return arm

    def _arm_pit(self, deadline: int | None) -> None:
        self.timers.set("pit", deadline, self._pit_expired)

    def _pit_expired(self) -> None:
        self.pit.expired()

    def _refresh(self) -> None:
        """Recompute which CPUs have something to take, after any change."""
        extint = self.pic.output
        for number, apic in enumerate(self.lapics):
            line = apic.pending() is not None or (extint and apic.takes_extint)
            new = line and not self.line[number]
            self.line[number] = line
            # also when the line was up already: a kick that came too early must not be the last
            if line:
                self._wake(number, new)

    def acknowledge(self, cpu: int) -> int | None:
        """The CPU takes its interrupt -> the vector, None when there is none any more."""
        with self.lock:
            apic = self.lapics[cpu]
            vector: int | None = None
            line: int | None = None
            if self.pic.output and apic.takes_extint:
                vector = self.pic.acknowledge()
                line = self.pic.line_of(vector)
            elif apic.pending() is not None:
                vector = apic.acknowledge()
                line = self.ioapic.line_of(vector) if self._seen is not None else None
            if vector is not None and self._seen is not None:
                self._seen("ack", vector, line)
            self._refresh()
            return vector

    def watch(self, seen: Callable[[str, int, int | None], None] | None) -> None:
        """See `Engine.watch_interrupts`."""
        self._seen = seen
        self.pic.watch(None if seen is None else lambda vector, line: seen("eoi", vector, line))
        for apic in self.lapics:
            apic.ended = self._ended if seen is not None else None

    def _ended(self, vector: int) -> None:
        if self._seen is not None:
            self._seen("eoi", vector, self.ioapic.line_of(vector))

    # -- registers ---------------------------------------------------------------------------------

    def read_port(self, port: int) -> int:
        with self.lock:
            if port in _PIC_PORTS:
                value = self.pic.read(port)
                self._refresh()  # a poll acknowledges
                return value
            return self.pit.read(port)

    def write_port(self, port: int, value: int) -> None:
        with self.lock:
            if port in _PIC_PORTS:
                self.pic.write(port, value)
                self._refresh()
            else:
                self.pit.write(port, value)

    def read_mmio(self, cpu: int, address: int, size: int) -> int:
        """A register of the I/O APIC or of this CPU's local APIC: 32 bits every 16 bytes."""
        with self.lock:
            offset = address & 0xFF0
            chip = self.lapics[cpu] if address >= lapic.BASE else self.ioapic
            value = chip.read(offset)
        return value >> 8 * (address & 15) & (1 << 8 * size) - 1

    def write_mmio(self, cpu: int, address: int, size: int, value: int) -> None:
        """As `read_mmio`; a write that is not aligned to a register is ignored."""
        if address & 15:
            return
        with self.lock:
            if address >= lapic.BASE:
                self.lapics[cpu].write(address & 0xFF0, value & 0xFFFF_FFFF)
                if address & 0xFF0 in lapic.ADDRESSING:
                    self.ioapic.retry()
            else:
                self.ioapic.write(address & 0xFF0, value)
            self._refresh()
