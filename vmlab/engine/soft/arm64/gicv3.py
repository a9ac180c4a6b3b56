"""GICv3: the distributor's, the redistributors' and the CPU interfaces' registers (ARM IHI 0069H chapter 12).

One Security state (GICD_CTLR.DS is 1), affinity routing always on, no LPIs. Interrupts of group 1 are
signalled as IRQ; those of group 0, which would be FIQs, are not signalled. CPU n has the affinity 0.0.0.n.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from vmlab.engine.soft.arm64.gic import LINES, PRIVATE, SPURIOUS, Gic

__all__ = ["CPU_REGISTERS", "MAX_CPUS", "SIZE_DISTRIBUTOR", "SIZE_REDISTRIBUTOR", "GicV3"]

#: what one Aff0 and the target list of ICC_SGI1R hold
MAX_CPUS = 16
SIZE_DISTRIBUTOR, SIZE_REDISTRIBUTOR = 0x10000, 0x20000
_SHARED: Final = (1 << LINES) - (1 << PRIVATE)
_OWN: Final = (1 << PRIVATE) - 1

# the distributor, GICD_; the banked registers at 0x080 to 0xCFF are `Gic.read_bank`'s
CTLR, TYPER, IIDR, IGROUPR, IROUTER, PIDR2 = 0, 4, 8, 0x80, 0x6000, 0xFFE8
_BANKED_END: Final = 0xD00
# a redistributor, GICR_: the first page, and the second with the registers of SGIs and PPIs
R_IIDR, R_TYPER, R_TYPER_HIGH, WAKER, SGI_PAGE = 0x04, 0x08, 0x0C, 0x14, 0x10000
#: GICD_CTLR: ARE and DS read as one
_ALWAYS = 1 << 4 | 1 << 6
_ID, _VERSION_3 = 0x0000_043B, 0x3B
#: GICD_IROUTER: any CPU
_ANY = 1 << 31
_SLEEP, _ASLEEP = 1 << 1, 1 << 2
_LEAST_POINT = 3

#: (op0, op1, CRn, CRm, op2) -> name (IHI 0069H §12.2)
CPU_REGISTERS: Final = {
    (3, 0, 4, 6, 0): "ICC_PMR_EL1",
    (3, 0, 12, 8, 0): "ICC_IAR0_EL1",
    (3, 0, 12, 8, 1): "ICC_EOIR0_EL1",
    (3, 0, 12, 8, 2): "ICC_HPPIR0_EL1",
    (3, 0, 12, 8, 3): "ICC_BPR0_EL1",
    (3, 0, 12, 8, 4): "ICC_AP0R0_EL1",
    (3, 0, 12, 9, 0): "ICC_AP1R0_EL1",
    (3, 0, 12, 11, 1): "ICC_DIR_EL1",
    (3, 0, 12, 11, 3): "ICC_RPR_EL1",
    (3, 0, 12, 11, 5): "ICC_SGI1R_EL1",
    (3, 0, 12, 11, 6): "ICC_ASGI1R_EL1",
    (3, 0, 12, 11, 7): "ICC_SGI0R_EL1",
    (3, 0, 12, 12, 0): "ICC_IAR1_EL1",
    (3, 0, 12, 12, 1): "ICC_EOIR1_EL1",
    (3, 0, 12, 12, 2): "ICC_HPPIR1_EL1",
    (3, 0, 12, 12, 3): "ICC_BPR1_EL1",
    (3, 0, 12, 12, 4): "ICC_CTLR_EL1",
    (3, 0, 12, 12, 5): "ICC_SRE_EL1",
    (3, 0, 12, 12, 6): "ICC_IGRPEN0_EL1",
    (3, 0, 12, 12, 7): "ICC_IGRPEN1_EL1",
}


class GicV3(Gic):
    """Methods take the accessing CPU (of a redistributor: its own), and offset and size in bytes."""

    _shift = 0

    def __init__(self, cpus: int, signal: Callable[[int, bool], None]) -> None:
        super().__init__(cpus, _LEAST_POINT, signal)

    def reset(self) -> None:
        super().reset()
        self.routes = [0] * LINES
        self.awake = [False] * self.cpus
        for bit in range(PRIVATE, LINES):
            self._route(bit, 0)

    # -- the distributor -------------------------------------------------------------------------------

    def read_distributor(self, offset: int, size: int) -> int:
        if IROUTER <= offset < IROUTER + 8 * LINES:
            value = self.routes[(offset - IROUTER) // 8] >> 8 * (offset & 7)
        elif IGROUPR <= offset < _BANKED_END:
            value = self.read_bank(self.shared, offset, size)
        else:
            # TYPER: INTIDs of ten bits
            value = {
                CTLR: self.forwards | _ALWAYS,
                TYPER: LINES // 32 - 1 | 9 << 19,
                IIDR: _ID,
                PIDR2: _VERSION_3,
            }.get(offset, 0)
        return value & (1 << 8 * size) - 1

    def write_distributor(self, offset: int, size: int, value: int) -> None:
        if offset == CTLR:
            self.forwards = value & 3
            self.update()
        elif IROUTER <= offset < IROUTER + 8 * LINES:
            intid, low = (offset - IROUTER) // 8, 8 * (offset & 7)
            if intid >= PRIVATE:
                kept = self.routes[intid] & ~((1 << 8 * size) - 1 << low)
                self._route(intid, kept | value << low)
                self.update()
        elif IGROUPR <= offset < _BANKED_END and not 0x800 <= offset < 0xC00:
            self.write_bank(self.shared, offset, size, value, _SHARED)

    def _route(self, intid: int, value: int) -> None:
        """To the CPU of that affinity, or to any (the one that takes it first)."""
        self.routes[intid] = value & (_ANY | 0xFF_00FF_FFFF)
        for cpu in range(self.cpus):
            aimed = bool(value & _ANY) or value & 0xFF_00FF_FFFF == cpu
            self.aimed[cpu] = self.aimed[cpu] & ~(1 << intid) | aimed << intid

    # -- a redistributor ---------------------------------------------------------------------------------

    def read_redistributor(self, cpu: int, offset: int, size: int) -> int:
        if offset >= SGI_PAGE:
            return self.read_bank(self.private[cpu], offset - SGI_PAGE, size)
        # bits 63:32 the affinity, 23:8 the number, 4 the last one
        typer = cpu << 32 | cpu << 8 | (cpu == self.cpus - 1) << 4
        value = {
            R_IIDR: _ID,
            R_TYPER: typer,
            R_TYPER_HIGH: typer >> 32,
            WAKER: 0 if self.awake[cpu] else _SLEEP | _ASLEEP,
            PIDR2: _VERSION_3,
        }.get(offset, 0)
        return value & (1 << 8 * size) - 1

    def write_redistributor(self, cpu: int, offset: int, size: int, value: int) -> None:
        if offset == WAKER:
            self.awake[cpu] = not value & _SLEEP
        elif offset >= SGI_PAGE:
            self.write_bank(self.private[cpu], offset - SGI_PAGE, size, value, _OWN)

    # -- a CPU's interface: system registers ---------------------------------------------------------------

    def read_register(self, cpu: int, name: str) -> int:
        """An ICC_ register; those that are written only read as 0."""
        interface = self.interfaces[cpu]
        if name == "ICC_IAR1_EL1":
            return self.acknowledge(cpu, 2)
        if name == "ICC_HPPIR1_EL1":
            return self.highest(cpu, 2).intid
        if name in ("ICC_IAR0_EL1", "ICC_HPPIR0_EL1"):
            return SPURIOUS
        if name == "ICC_SRE_EL1":
            # system registers, and neither IRQ nor FIQ bypass
            return 7
        if name == "ICC_CTLR_EL1":
            # five bits of priority (less one), affinity 3, EOImode
            return 1 << 15 | 4 << 8 | interface.split << 1
        if name in ("ICC_IGRPEN0_EL1", "ICC_IGRPEN1_EL1"):
            return interface.enabled >> (name == "ICC_IGRPEN1_EL1") & 1
        if name in ("ICC_BPR0_EL1", "ICC_BPR1_EL1"):
            return interface.points[name == "ICC_BPR1_EL1"]
        if name == "ICC_AP1R0_EL1":
            # a bit for each active priority of five bits
            return sum(1 << level for level in {priority >> 3 for _, priority in interface.running})
        return {"ICC_PMR_EL1": interface.mask, "ICC_RPR_EL1": interface.running_priority}.get(
            name, 0
        )

    def write_register(self, cpu: int, name: str, value: int) -> None:
        interface = self.interfaces[cpu]
        if name == "ICC_EOIR1_EL1":
            self.end(cpu, value & 0xFF_FFFF)
        elif name == "ICC_SGI1R_EL1":
            self._generate(cpu, value)
        elif name == "ICC_DIR_EL1":
            if interface.split:
                self.deactivate(cpu, value & 0xFF_FFFF)
        elif name == "ICC_PMR_EL1":
            interface.mask = value & 0xF8
        elif name == "ICC_CTLR_EL1":
            interface.split = bool(value & 2)
        elif name == "ICC_IGRPEN1_EL1":
            interface.enabled = interface.enabled & 1 | (value & 1) << 1
        elif name in ("ICC_BPR0_EL1", "ICC_BPR1_EL1"):
            interface.points[name == "ICC_BPR1_EL1"] = max(_LEAST_POINT, value & 7)
        elif name == "ICC_AP1R0_EL1" and not value:
            interface.running.clear()
        self.update_cpu(cpu)

    def _generate(self, cpu: int, value: int) -> None:
        """ICC_SGI1R_EL1: bits 27:24 the INTID, 15:0 the list of Aff0, 40 everybody else; other affinities are
        nobody's."""
        everybody = (1 << self.cpus) - 1
        if value >> 40 & 1:
            targets = everybody & ~(1 << cpu)
        else:
            others = (
                value >> 16 & 0xFF or value >> 32 & 0xFF or value >> 48 & 0xFF or value >> 44 & 0xF
            )
            targets = 0 if others else value & everybody
        for target in range(self.cpus):
            if targets >> target & 1:
                self.private[target].latched |= 1 << (value >> 24 & 15)
                self.update_cpu(target)
