"""Interrupts of an Arm Generic Interrupt Controller: what versions 2 and 3 have in common.

ARM IHI 0048B (GICv2) and IHI 0069H (GICv3): states of an interrupt (§1.4.1, §4.1.2), priorities and
preemption (§3.3, §4.8). INTIDs 0 to 15 are software-generated, 16 to 31 private to a CPU, from 32 on shared.
A set of interrupts is an integer, bit = INTID. The register files are `gicv2` and `gicv3`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

__all__ = ["LINES", "NONE", "PRIVATE", "SPURIOUS", "Bank", "Gic", "Interface"]

#: INTIDs that there are: 0 to LINES - 1
LINES = 192
#: below it each CPU has its own
PRIVATE = 32
#: what a CPU reads where there is nothing to acknowledge (§2.2.1)
SPURIOUS = 1023
#: of five bits that are implemented: no running interrupt
IDLE = 0xFF
PRIORITY_BITS = 0xF8


class Candidate(NamedTuple):
    """The interrupt that a CPU would take next. group: 0 or 1."""

    intid: int
    priority: int
    group: int


#: no interrupt waits
NONE = Candidate(SPURIOUS, 0x100, 0)


class Bank:
    """The state of some interrupts. priority: a byte an INTID."""

    __slots__ = ("active", "edge", "enabled", "group", "latched", "level", "priority")

    def __init__(self, edge: int = 0) -> None:
        self.edge = edge
        self.enabled = self.latched = self.level = self.active = self.group = 0
        self.priority = bytearray(LINES)

    @property
    def pending(self) -> int:
        return self.latched | self.level & ~self.edge

    def drive(self, intid: int, level: bool) -> bool:
        """The line of `intid` is at `level` -> whether that made it pending."""
        bit = 1 << intid
        was, rises = self.pending & bit, level and not self.level & bit
        self.level = self.level | bit if level else self.level & ~bit
        if rises and self.edge & bit:
            self.latched |= bit
        return rises and not was


class Interface:
    """What a CPU interface holds. `running`: (INTID, priority) of what was acknowledged, the last on top."""

    __slots__ = ("enabled", "mask", "points", "running", "split")

    def __init__(self, point: int) -> None:
        #: bit = group
        self.enabled = 0
        #: the priority mask: what is to be taken has a smaller number
        self.mask = 0
        #: the binary point of each group: a priority's bits from there on decide about preemption
        self.points = [point, point]
        #: EOImode 1: the end of an interrupt drops its priority, and another write deactivates it
        self.split = False
        self.running: list[tuple[int, int]] = []

    @property
    def running_priority(self) -> int:
        return self.running[-1][1] if self.running else IDLE


class Gic:
    """Distributor and CPU interfaces without their registers. The owner's lock is held by each caller.

    signal: called with a CPU and whether an interrupt waits for it, after each change.
    """

    def __init__(self, cpus: int, point: int, signal: Callable[[int, bool], None]) -> None:
        self.cpus = cpus
        self._point = point
        self._signal = signal
        #: told of INTIDs that are acknowledged ("ack") and ended ("eoi")
        self.seen: Callable[[str, int], None] | None = None
        self.reset()

    def reset(self) -> None:
        #: bit = group that the distributor forwards
        self.forwards = 0
        # the software-generated ones are edges for ever
        self.private = [Bank(0xFFFF) for _ in range(self.cpus)]
        self.shared = Bank()
        #: CPU -> the shared interrupts that may be sent to it
        self.aimed = [0] * self.cpus
        self.interfaces = [Interface(self._point) for _ in range(self.cpus)]

    def bank(self, cpu: int, intid: int) -> Bank:
        return self.private[cpu] if intid < PRIVATE else self.shared

    # -- lines ---------------------------------------------------------------------------------------

    def drive(self, intid: int, level: bool) -> bool:
        """The line of a shared interrupt; whether it became pending by that."""
        rose = self.shared.drive(intid, level)
        self.update()
        return rose

    def drive_private(self, cpu: int, intid: int, level: bool) -> bool:
        rose = self.private[cpu].drive(intid, level)
        self.update_cpu(cpu)
        return rose

    # -- what is next --------------------------------------------------------------------------------

    def highest(self, cpu: int, groups: int = 3) -> Candidate:
        """The pending interrupt of highest priority for `cpu` that the groups let through; NONE."""
        allowed = groups & self.forwards & self.interfaces[cpu].enabled
        best = NONE
        if not allowed:
            return best
        for bank, aimed in ((self.private[cpu], -1), (self.shared, self.aimed[cpu])):
            waiting = bank.pending & bank.enabled & ~bank.active & aimed
            if not allowed & 1:
                waiting &= bank.group
            if not allowed & 2:
                waiting &= ~bank.group
            while waiting:
                intid = (waiting & -waiting).bit_length() - 1
                waiting &= waiting - 1
                if bank.priority[intid] < best.priority:
                    best = Candidate(intid, bank.priority[intid], bank.group >> intid & 1)
        return best

    def ready(self, cpu: int, groups: int = 3) -> Candidate:
        """As `highest`, if the priority mask and what is running let it through (IHI 0048B §3.3)."""
        found = self.highest(cpu, groups)
        interface = self.interfaces[cpu]
        if found.priority >= interface.mask:
            return NONE
        if interface.running:
            keep = -1 << interface.points[found.group] + self._shift
            if found.priority & keep >= interface.running_priority & keep:
                return NONE
        return found

    #: how far a group's binary point is from the lowest bit of the group priority
    _shift = 1

    def update_cpu(self, cpu: int) -> None:
        self._signal(cpu, self.ready(cpu) is not NONE)

    def update(self) -> None:
        for cpu in range(self.cpus):
            self.update_cpu(cpu)

    # -- acknowledge and end -------------------------------------------------------------------------

    def acknowledge(self, cpu: int, groups: int = 3) -> int:
        """The CPU takes its interrupt -> INTID; SPURIOUS when there is none any more."""
        found = self.ready(cpu, groups)
        if found is NONE:
            return SPURIOUS
        if self.seen is not None:
            self.seen("ack", found.intid)
        self.bank(cpu, found.intid).active |= 1 << found.intid
        self._consume(cpu, found.intid)
        self.interfaces[cpu].running.append((found.intid, found.priority))
        self._taken(cpu, found.intid)
        return found.intid

    def _consume(self, cpu: int, intid: int) -> None:
        """An edge is taken."""
        self.bank(cpu, intid).latched &= ~(1 << intid)

    def _taken(self, cpu: int, intid: int) -> None:
        if intid < PRIVATE:
            self.update_cpu(cpu)
        else:
            self.update()

    def end(self, cpu: int, intid: int) -> None:
        """Priority drop, and deactivation where EOImode says so. Ends that match nothing are ignored."""
        interface = self.interfaces[cpu]
        for at in reversed(range(len(interface.running))):
            if interface.running[at][0] == intid:
                del interface.running[at]
                break
        else:
            return
        if self.seen is not None:
            self.seen("eoi", intid)
        if interface.split:
            self.update_cpu(cpu)
        else:
            self.deactivate(cpu, intid)

    def deactivate(self, cpu: int, intid: int) -> None:
        if intid < LINES:
            self.bank(cpu, intid).active &= ~(1 << intid)
            self._taken(cpu, intid)

    # -- the distributor's registers that both versions have ------------------------------------------

    def read_bank(self, bank: Bank, offset: int, size: int) -> int:
        """A register of GICD (or of a redistributor's SGI page) about the interrupts in `bank`: those of
        one bit an INTID at 0x080 to 0x3FF, priorities at 0x400, trigger modes at 0xC00."""
        if 0x400 <= offset < 0x400 + LINES:
            return int.from_bytes(bank.priority[offset - 0x400 : offset - 0x400 + size], "little")
        if 0xC00 <= offset < 0xC00 + LINES // 4:
            first = (offset - 0xC00) * 4
            return sum((bank.edge >> first + n & 1) << 2 * n + 1 for n in range(4 * size))
        kinds = {1: bank.group, 2: bank.enabled, 3: bank.enabled, 4: bank.pending, 5: bank.pending}
        kinds |= {6: bank.active, 7: bank.active}
        return kinds.get(offset >> 7, 0) >> 8 * (offset & 0x7F) & (1 << 8 * size) - 1

    def write_bank(self, bank: Bank, offset: int, size: int, value: int, of: int) -> None:
        """As `read_bank`. of: the INTIDs that the register file has."""
        if 0x400 <= offset < 0x400 + LINES:
            for n in range(size):
                if of >> offset - 0x400 + n & 1:
                    bank.priority[offset - 0x400 + n] = value >> 8 * n & PRIORITY_BITS
        elif 0xC00 <= offset < 0xC00 + LINES // 4:
            self._set_triggers(bank, (offset - 0xC00) * 4, size, value, of)
        else:
            low = 8 * (offset & 0x7F)
            width = (1 << 8 * size) - 1 << low & of
            self._set_bits(bank, offset >> 7, value << low & width, width)
        self.update()

    @staticmethod
    def _set_triggers(bank: Bank, first: int, size: int, value: int, of: int) -> None:
        for n in range(4 * size):
            bit = 1 << first + n & of & ~0xFFFF
            bank.edge = bank.edge | bit if value >> 2 * n & 2 else bank.edge & ~bit

    @staticmethod
    def _set_bits(bank: Bank, kind: int, bits: int, width: int) -> None:
        """kind: IGROUPR, ISENABLER, ICENABLER, ISPENDR, ICPENDR, ISACTIVER, ICACTIVER from 1 on."""
        if kind == 1:
            bank.group = bank.group & ~width | bits
        elif kind == 2:
            bank.enabled |= bits
        elif kind == 3:
            bank.enabled &= ~bits
        elif kind == 4:
            bank.latched |= bits
        elif kind == 5:
            bank.latched &= ~bits
        elif kind == 6:
            bank.active |= bits
        elif kind == 7:
            bank.active &= ~bits
