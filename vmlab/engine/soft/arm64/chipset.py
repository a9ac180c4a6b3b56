"""An arm64 machine's interrupt controller and timers, and who is told when something waits."""

from __future__ import annotations

import threading
from collections.abc import Callable

from vmlab.arch.arm64 import platform
from vmlab.engine.soft.access import NoPorts
from vmlab.engine.soft.arm64 import gicv2, gicv3
from vmlab.engine.soft.arm64 import timer as t
from vmlab.engine.soft.arm64.gic import LINES, PRIVATE
from vmlab.engine.soft.arm64.gicv2 import GicV2
from vmlab.engine.soft.arm64.gicv3 import CPU_REGISTERS, GicV3
from vmlab.engine.soft.arm64.registers import COUNTERS, Key
from vmlab.engine.soft.arm64.timer import TICK_NS, Timer
from vmlab.engine.soft.guest_clock import GuestClock
from vmlab.engine.soft.timers import Timers

__all__ = ["LINES", "PRIVATE", "Chipset", "Key"]


def _pages(*windows: tuple[int, int]) -> frozenset[int]:
    return frozenset(n for base, size in windows for n in range(base >> 12, base + size >> 12))


class _V2:
    def __init__(self, cpus: int, signal: Callable[[int, bool], None]) -> None:
        self.gic = GicV2(cpus, signal)
        windows = (
            (platform.GICV2_DISTRIBUTOR, gicv2.SIZE_DISTRIBUTOR),
            (platform.GICV2_CPU, gicv2.SIZE_CPU),
        )
        self.pages = _pages(*windows)

    def read(self, cpu: int, address: int, size: int) -> int:
        if address >= platform.GICV2_DISTRIBUTOR:
            return self.gic.read_distributor(cpu, address - platform.GICV2_DISTRIBUTOR, size)
        return self.gic.read_cpu(cpu, address - platform.GICV2_CPU)

    def write(self, cpu: int, address: int, size: int, value: int) -> None:
        if address >= platform.GICV2_DISTRIBUTOR:
            self.gic.write_distributor(cpu, address - platform.GICV2_DISTRIBUTOR, size, value)
        else:
            self.gic.write_cpu(cpu, address - platform.GICV2_CPU, value)


class _V3:
    def __init__(self, cpus: int, signal: Callable[[int, bool], None]) -> None:
        self.gic = GicV3(cpus, signal)
        self._base = platform.redistributors(cpus)
        self.pages = _pages(
            (platform.GICV3_DISTRIBUTOR, gicv3.SIZE_DISTRIBUTOR),
            (self._base, cpus * gicv3.SIZE_REDISTRIBUTOR),
        )

    def read(self, _cpu: int, address: int, size: int) -> int:
        if address >= platform.GICV3_DISTRIBUTOR:
            return self.gic.read_distributor(address - platform.GICV3_DISTRIBUTOR, size)
        return self.gic.read_redistributor(*self._own(address), size)

    def write(self, _cpu: int, address: int, size: int, value: int) -> None:
        if address >= platform.GICV3_DISTRIBUTOR:
            self.gic.write_distributor(address - platform.GICV3_DISTRIBUTOR, size, value)
        else:
            self.gic.write_redistributor(*self._own(address), size, value)

    def _own(self, address: int) -> tuple[int, int]:
        """(CPU, offset): the address tells whose it is, not who accesses it."""
        return divmod(address - self._base, gicv3.SIZE_REDISTRIBUTOR)


class Chipset(NoPorts):
    """`lock` guards it all. wake: called with the lock held when an interrupt waits for a CPU, or no more;
    `new`: now, and not before."""

    def __init__(
        self, cpus: int, version: int, lock: threading.RLock, wake: Callable[[int, bool], None]
    ) -> None:
        self.lock, self.version = lock, version
        self._wake = wake
        #: CPU -> whether an interrupt waits for it
        self.line = [False] * cpus
        self.clock = GuestClock(TICK_NS)
        self.timers = Timers(lock, "vmlab-soft-timer")
        self._windows: _V2 | _V3 = (_V2 if version == 2 else _V3)(cpus, self._signal)
        self.gic = self._windows.gic
        self.pages = self._windows.pages
        numbers = (t.VIRTUAL_LINE, t.PHYSICAL_LINE)
        self._generic = {(cpu, n): self._timer(cpu, n) for cpu in range(cpus) for n in numbers}

    def _timer(self, cpu: int, number: int) -> Timer:
        def arm(deadline: int | None) -> None:
            self.timers.set((cpu, number), deadline, timer.expired)

        def drive(level: bool) -> None:
            self.gic.drive_private(cpu, number, level)

        timer = Timer(self.clock, drive, arm)
        return timer

    def _signal(self, cpu: int, level: bool) -> None:
        before, self.line[cpu] = self.line[cpu], level
        # also when it was up already: a kick that came too early must not be the last
        if level or before:
            self._wake(cpu, level and not before)

    def watch(self, seen: Callable[[str, int, int | None], None] | None) -> None:
        """See `Engine.watch_interrupts`."""
        self.gic.seen = None
        if seen is not None:
            self.gic.seen = lambda what, intid: seen(
                what, intid, intid if intid >= PRIVATE else None
            )

    # -- for the engine ------------------------------------------------------------------------------

    def reset(self) -> None:
        with self.lock:
            self.clock.reset()
            level = self.gic.shared.level
            self.gic.reset()
            # devices keep their lines up through a reset of the controller
            self.gic.shared.level = level
            for timer in self._generic.values():
                timer.reset()
            self.gic.update()

    def reset_timers(self, cpu: int) -> None:
        """A CPU is turned on."""
        for (owner, _), timer in self._generic.items():
            if owner == cpu:
                timer.reset()

    def stop_time(self) -> None:
        """Nothing runs: the timers stand still. The lock is held."""
        self.clock.stop()
        for key in self._generic:
            self.timers.set(key, None, _nothing)

    def go_on(self) -> None:
        """The lock is held."""
        self.clock.go()
        for timer in self._generic.values():
            timer.update()

    def set_line(self, intid: int, level: bool) -> bool:
        with self.lock:
            return self.gic.drive(intid, level)

    def pulse_line(self, intid: int) -> bool:
        with self.lock:
            taken = self.gic.drive(intid, True)
            self.gic.drive(intid, False)
            return taken

    def close(self) -> None:
        self.timers.close()

    # -- registers -----------------------------------------------------------------------------------

    @property
    def system_registers(self) -> dict[Key, str]:
        """The system registers that are served here."""
        letters = {t.VIRTUAL_LINE: "V", t.PHYSICAL_LINE: "P"}
        names = {key: f"CNT{letters[line]}_{name}_EL0" for key, (line, name) in t.REGISTERS.items()}
        return names | (CPU_REGISTERS if isinstance(self.gic, GicV3) else {})

    def read_system(self, cpu: int, key: Key) -> int:
        """One of `system_registers`, or a counter."""
        if key in COUNTERS:
            return self.clock.ticks()
        with self.lock:
            if key in t.REGISTERS:
                number, register = t.REGISTERS[key]
                return self._generic[cpu, number].read(register)
            assert isinstance(self.gic, GicV3)
            return self.gic.read_register(cpu, CPU_REGISTERS[key])

    def write_system(self, cpu: int, key: Key, value: int) -> None:
        with self.lock:
            if key in t.REGISTERS:
                number, register = t.REGISTERS[key]
                self._generic[cpu, number].write(register, value)
            else:
                assert isinstance(self.gic, GicV3)
                self.gic.write_register(cpu, CPU_REGISTERS[key], value)

    def read_mmio(self, cpu: int, address: int, size: int) -> int:
        """Of 8-byte registers either half alone, too (IHI 0069H §12.1.3)."""
        with self.lock:
            return self._windows.read(cpu, address, size)

    def write_mmio(self, cpu: int, address: int, size: int, value: int) -> None:
        with self.lock:
            self._windows.write(cpu, address, size, value)


def _nothing() -> None:
    return
