"""GICv2: the distributor's and the CPU interfaces' registers (ARM IHI 0048B chapter 4).

Without the Security Extensions: one set of registers, two groups, both signalled as IRQ.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from vmlab.engine.soft.arm64.gic import LINES, PRIVATE, SPURIOUS, Gic

__all__ = ["MAX_CPUS", "SIZE_CPU", "SIZE_DISTRIBUTOR", "GicV2"]

#: a byte of targets an interrupt
MAX_CPUS = 8
SIZE_DISTRIBUTOR, SIZE_CPU = 0x1000, 0x2000
_ALL: Final = (1 << LINES) - 1
_OWN: Final = (1 << PRIVATE) - 1

# the distributor, GICD_
CTLR, TYPER, IIDR, ITARGETSR, SGIR = 0x000, 0x004, 0x008, 0x800, 0xF00
CPENDSGIR, SPENDSGIR, PIDR2 = 0xF10, 0xF20, 0xFE8
# a CPU interface, GICC_
C_CTLR, PMR, BPR, IAR, EOIR, RPR, HPPIR, ABPR = 0x00, 0x04, 0x08, 0x0C, 0x10, 0x14, 0x18, 0x1C
AIAR, AEOIR, AHPPIR, C_IIDR, DIR = 0x20, 0x24, 0x28, 0xFC, 0x1000
#: Arm (0x43B), a GIC-400's
_DISTRIBUTOR_ID, _INTERFACE_ID = 0x0200_143B, 0x0202_143B
#: IAR and HPPIR: what waits is of group 1, and GICC_CTLR.AckCtl does not let it be seen there
_OF_GROUP_1 = 1022
#: with five bits of priority the smallest binary point (§3.3.3)
_LEAST_POINT = 2
_ACK_CTL, _EOI_MODE = 1 << 2, 1 << 9


class GicV2(Gic):
    """`read_distributor` and its like take the accessing CPU, and offset and size in bytes."""

    def __init__(self, cpus: int, signal: Callable[[int, bool], None]) -> None:
        super().__init__(cpus, _LEAST_POINT, signal)

    def reset(self) -> None:
        super().reset()
        # software-generated interrupts are always enabled
        for bank in self.private:
            bank.enabled = 0xFFFF
        #: a byte of CPUs for each shared interrupt
        self.targets = bytearray(LINES)
        #: CPU -> for each software-generated interrupt the CPUs that have sent it
        self.senders = [bytearray(16) for _ in range(self.cpus)]
        self.control = [0] * self.cpus
        #: of the software-generated interrupt that was acknowledged last
        self._sender = 0

    # -- the distributor -------------------------------------------------------------------------------

    def read_distributor(self, cpu: int, offset: int, size: int) -> int:
        if ITARGETSR <= offset < ITARGETSR + LINES:
            return int.from_bytes(
                (self._target(cpu, offset - ITARGETSR + n) for n in range(size)), "little"
            )
        if CPENDSGIR <= offset < SPENDSGIR + 16:
            first = (offset - CPENDSGIR) % 16
            return int.from_bytes(self.senders[cpu][first : first + size], "little")
        registers = {
            CTLR: self.forwards,
            TYPER: LINES // 32 - 1 | self.cpus - 1 << 5,
            IIDR: _DISTRIBUTOR_ID,
            PIDR2: 0x2B,
        }
        if offset in registers:
            return registers[offset] & (1 << 8 * size) - 1
        own = self.read_bank(self.private[cpu], offset, size)
        return own | self.read_bank(self.shared, offset, size)

    def _target(self, cpu: int, intid: int) -> int:
        if intid >= LINES:
            return 0
        return 1 << cpu if intid < PRIVATE else self.targets[intid]

    def write_distributor(self, cpu: int, offset: int, size: int, value: int) -> None:
        if offset == CTLR:
            self.forwards = value & 3
            self.update()
        elif ITARGETSR <= offset < ITARGETSR + LINES:
            self._aim(offset - ITARGETSR, size, value)
        elif offset == SGIR:
            self._generate(cpu, value)
        elif CPENDSGIR <= offset < SPENDSGIR + 16:
            self._set_senders(cpu, offset, size, value)
        else:
            # software-generated interrupts stay enabled, and are pended by GICD_SGIR and SPENDSGIR alone
            kind = offset >> 7
            own = _OWN & ~0xFFFF if kind in (3, 4, 5) else _OWN
            self.write_bank(self.private[cpu], offset, size, value, own)
            self.write_bank(self.shared, offset, size, value, _ALL & ~_OWN)

    def _aim(self, first: int, size: int, value: int) -> None:
        for n in range(max(0, PRIVATE - first), min(size, LINES - first)):
            intid = first + n
            self.targets[intid] = value >> 8 * n & (1 << self.cpus) - 1
            for cpu in range(self.cpus):
                bit = (self.targets[intid] >> cpu & 1) << intid
                self.aimed[cpu] = self.aimed[cpu] & ~(1 << intid) | bit
        self.update()

    # -- software-generated interrupts ------------------------------------------------------------------

    def _generate(self, cpu: int, value: int) -> None:
        """GICD_SGIR (§4.3.15): bits 25:24 how targets are meant, 23:16 their list, 3:0 the INTID."""
        everybody = (1 << self.cpus) - 1
        targets = (value >> 16 & 0xFF, everybody & ~(1 << cpu), 1 << cpu, 0)[value >> 24 & 3]
        for target in range(self.cpus):
            if targets >> target & 1:
                self._send(target, value & 15, 1 << cpu)

    def _send(self, target: int, intid: int, senders: int) -> None:
        self.senders[target][intid] |= senders
        if self.senders[target][intid]:
            self.private[target].latched |= 1 << intid
        self.update_cpu(target)

    def _set_senders(self, cpu: int, offset: int, size: int, value: int) -> None:
        for n in range(size):
            intid, senders = (offset + n) % 16, value >> 8 * n & (1 << self.cpus) - 1
            if offset >= SPENDSGIR:
                self._send(cpu, intid, senders)
                continue
            self.senders[cpu][intid] &= ~senders
            if not self.senders[cpu][intid]:
                self.private[cpu].latched &= ~(1 << intid)
        self.update_cpu(cpu)

    def _consume(self, cpu: int, intid: int) -> None:
        super()._consume(cpu, intid)
        if intid < 16:
            senders = self.senders[cpu][intid]
            self._sender = max(0, (senders & -senders).bit_length() - 1)
            self.senders[cpu][intid] = senders & ~(1 << self._sender)
            if self.senders[cpu][intid]:
                self.private[cpu].latched |= 1 << intid

    # -- a CPU's interface -------------------------------------------------------------------------------

    def read_cpu(self, cpu: int, offset: int) -> int:
        interface = self.interfaces[cpu]
        if offset == IAR:
            return self._acknowledge(cpu)
        if offset == AIAR:
            return self._with_sender(self.acknowledge(cpu, 2))
        if offset == C_CTLR:
            return self.control[cpu]
        if offset == PMR:
            return interface.mask
        if offset in (BPR, ABPR):
            return interface.points[offset == ABPR]
        if offset == RPR:
            return interface.running_priority
        if offset == HPPIR:
            found = self.highest(cpu)
            return _OF_GROUP_1 if self._hidden(cpu, found.group) else found.intid
        if offset == AHPPIR:
            return self.highest(cpu, 2).intid
        return _INTERFACE_ID if offset == C_IIDR else 0

    def _hidden(self, cpu: int, group: int) -> bool:
        return group == 1 and not self.control[cpu] & _ACK_CTL

    def _acknowledge(self, cpu: int) -> int:
        found = self.ready(cpu)
        if self._hidden(cpu, found.group):
            return _OF_GROUP_1
        return self._with_sender(self.acknowledge(cpu))

    def _with_sender(self, intid: int) -> int:
        """Bits 12:10: who has sent a software-generated interrupt."""
        return intid | self._sender << 10 if intid < 16 else intid

    def write_cpu(self, cpu: int, offset: int, value: int) -> None:
        interface = self.interfaces[cpu]
        if offset in (EOIR, AEOIR):
            self.end(cpu, value & SPURIOUS)
        elif offset == DIR:
            if interface.split:
                self.deactivate(cpu, value & SPURIOUS)
        elif offset == C_CTLR:
            self.control[cpu] = value & (3 | _ACK_CTL | _EOI_MODE)
            interface.enabled, interface.split = value & 3, bool(value & _EOI_MODE)
        elif offset == PMR:
            interface.mask = value & 0xF8
        elif offset in (BPR, ABPR):
            interface.points[offset == ABPR] = max(_LEAST_POINT, value & 7)
        self.update_cpu(cpu)
