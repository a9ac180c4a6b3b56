"""A RISC-V machine's interrupt controllers and timers, and who is told when something waits."""

from __future__ import annotations

import threading
from collections.abc import Callable

from vmlab.arch.riscv64 import platform
from vmlab.engine.soft.access import NoPorts
from vmlab.engine.soft.guest_clock import GuestClock
from vmlab.engine.soft.riscv import plic
from vmlab.engine.soft.riscv.clint import NEVER, Clint
from vmlab.engine.soft.riscv.plic import Plic
from vmlab.engine.soft.riscv.traps import MEIP, MSIP, MTIP, SEIP, SSIP, STIP
from vmlab.engine.soft.timers import Timers

__all__ = ["LINES", "Chipset"]

#: interrupt lines that there are: PLIC sources
LINES = range(1, plic.SOURCES)
TICK_NS = 1_000_000_000 // platform.TICK_HZ
_WORD = 0xFFFF_FFFF


class Chipset(NoPorts):
    """`lock` guards it all. wake: called with the lock held when the lines of a hart change; `new`: one of
    them has risen.

    `lines`: of each hart the bits of mip that are driven from here; `owned`: those that its writes to mip do
    not reach.
    """

    def __init__(
        self, harts: int, lock: threading.RLock, wake: Callable[[int, bool], None]
    ) -> None:
        self.lock = lock
        self._wake = wake
        self.clock = GuestClock(TICK_NS)
        self.timers = Timers(lock, "vmlab-soft-timer")
        self.lines = [0] * harts
        self.owned = [0] * harts
        #: supervisor software interrupts that the firmware has sent and the hart has not got
        self.sent = [False] * harts
        self.stimecmp = [NEVER] * harts
        self.plic = Plic(2 * harts, self._external)
        self.clint = Clint(harts, self.clock.ticks, self._software, self._timer)
        ranges = (
            (platform.CLINT_BASE, platform.CLINT_SIZE),
            (platform.PLIC_BASE, platform.PLIC_SIZE),
        )
        self.pages = frozenset(n for at, size in ranges for n in range(at >> 12, at + size >> 12))

    # -- lines ---------------------------------------------------------------------------------------

    def _drive(self, hart: int, bit: int, level: bool) -> None:
        before = self.lines[hart]
        self.lines[hart] = after = before | bit if level else before & ~bit
        if after or before:
            self._wake(hart, bool(after & ~before))

    def _external(self, context: int, level: bool) -> None:
        self._drive(context >> 1, SEIP if context & 1 else MEIP, level)

    def _software(self, hart: int, level: bool) -> None:
        self._drive(hart, MSIP, level)

    def send(self, hart: int) -> None:
        """A supervisor software interrupt, from the firmware."""
        with self.lock:
            self.sent[hart] = True
            self._wake(hart, True)

    def set_line(self, source: int, level: bool) -> bool:
        with self.lock:
            return self.plic.drive(source, level)

    def pulse_line(self, source: int) -> bool:
        with self.lock:
            return self.plic.pulse(source)

    def watch(self, seen: Callable[[str, int, int | None], None] | None) -> None:
        """See `Engine.watch_interrupts`."""
        self.plic.seen = None
        if seen is not None:
            self.plic.seen = lambda what, source: seen(what, source, source)

    # -- timers --------------------------------------------------------------------------------------

    def _timer(self, hart: int) -> None:
        """MTIMECMP or stimecmp was written, time goes on, or a deadline has come."""
        now = self.clock.ticks()
        for bit, compare in ((MTIP, self.clint.timecmp[hart]), (STIP, self.stimecmp[hart])):
            if not self.owned[hart] & bit:
                continue
            met = now >= compare
            self._drive(hart, bit, met)
            due = None if met or compare == NEVER else self.clock.host_time(compare)
            self.timers.set((hart, bit), due, lambda: self._timer(hart))

    def set_supervisor_timer(self, hart: int, compare: int) -> None:
        with self.lock:
            self.stimecmp[hart] = compare
            self._timer(hart)

    def own_supervisor_timer(self, hart: int, own: bool) -> None:
        """STIP is the comparison with stimecmp from now on, and not the guest's to write, or the reverse."""
        with self.lock:
            if own:
                self.owned[hart] |= STIP
            else:
                self._drive(hart, STIP, False)
                self.owned[hart] &= ~STIP
            self._timer(hart)

    def stop_time(self) -> None:
        """Nothing runs: the timers stand still. The lock is held."""
        self.clock.stop()
        for hart in range(len(self.lines)):
            for bit in (MTIP, STIP):
                self.timers.set((hart, bit), None, _nothing)

    def go_on(self) -> None:
        """The lock is held."""
        self.clock.go()
        for hart in range(len(self.lines)):
            self._timer(hart)

    # -- for the engine ------------------------------------------------------------------------------

    def reset(self) -> None:
        with self.lock:
            self.clock.reset()
            for hart in range(len(self.lines)):
                self.lines[hart], self.sent[hart] = 0, False
                self.owned[hart] = MSIP | MTIP | MEIP | SEIP
                self.stimecmp[hart] = NEVER
            self.clint.reset()
            self.plic.reset()
            self.plic.update()

    def pending(self, hart: int) -> int:
        """As bits of mip: what is driven, and what was sent."""
        return self.lines[hart] | (SSIP if self.sent[hart] else 0)

    def close(self) -> None:
        self.timers.close()

    # -- registers -----------------------------------------------------------------------------------

    def read_mmio(self, _cpu: int, address: int, size: int) -> int:
        with self.lock:
            if address < platform.PLIC_BASE:
                return self.clint.read(address - platform.CLINT_BASE, size)
            offset = address - platform.PLIC_BASE
            value = self.plic.read(offset & ~3)
            if size > 4:
                value |= self.plic.read((offset & ~3) + 4) << 32
            return value >> 8 * (offset & 3) & (1 << 8 * size) - 1

    def write_mmio(self, _cpu: int, address: int, size: int, value: int) -> None:
        """The PLIC's registers are written as words; what is narrower is ignored."""
        with self.lock:
            if address < platform.PLIC_BASE:
                self.clint.write(address - platform.CLINT_BASE, size, value)
                return
            offset = address - platform.PLIC_BASE
            if size < 4 or offset & 3:
                return
            for at in range(0, size, 4):
                self.plic.write(offset + at, value >> 8 * at & _WORD)


def _nothing() -> None:
    return
