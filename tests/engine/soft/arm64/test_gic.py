"""The interrupt controllers' states and registers, without a CPU."""

from __future__ import annotations

import pytest

from vmlab.engine.soft.arm64 import gicv2, gicv3
from vmlab.engine.soft.arm64.gic import SPURIOUS
from vmlab.engine.soft.arm64.gicv2 import GicV2
from vmlab.engine.soft.arm64.gicv3 import GicV3

ENABLE, DISABLE, PEND, UNPEND, PRIORITY, TRIGGER = 0x100, 0x180, 0x200, 0x280, 0x400, 0xC00
ACTIVE = 0x300


class V2(GicV2):
    """With all lines of one CPU enabled, as one group."""

    def __init__(self, cpus: int = 1) -> None:
        self.lines: dict[int, bool] = {}
        super().__init__(cpus, self.lines.__setitem__)
        self.write_distributor(0, gicv2.CTLR, 4, 1)
        for cpu in range(cpus):
            self.write_cpu(cpu, gicv2.PMR, 0xFF)
            self.write_cpu(cpu, gicv2.C_CTLR, 1)

    def enable(self, intid: int, priority: int = 0xA0, targets: int = 1, edge: bool = True) -> None:
        self.write_distributor(0, ENABLE + intid // 32 * 4, 4, 1 << intid % 32)
        self.write_distributor(0, PRIORITY + intid, 1, priority)
        self.write_distributor(0, gicv2.ITARGETSR + intid, 1, targets)
        self.write_distributor(0, TRIGGER + intid // 16 * 4, 4, edge * 0xAAAA_AAAA)

    def take(self, cpu: int = 0) -> int:
        return self.read_cpu(cpu, gicv2.IAR)

    def finish(self, intid: int, cpu: int = 0) -> None:
        self.write_cpu(cpu, gicv2.EOIR, intid)


def test_an_edge_is_pending_until_it_is_taken() -> None:
    gic = V2()
    gic.enable(40)
    assert gic.drive(40, True)
    gic.drive(40, False)
    assert gic.lines[0]
    assert gic.take() == 40
    assert not gic.lines[0]
    assert gic.take() == SPURIOUS
    gic.drive(40, True)
    assert not gic.lines[0], "it is active: once more when it has ended"
    gic.finish(40)
    assert gic.lines[0]
    assert gic.take() == 40


def test_a_level_is_pending_while_it_is_up() -> None:
    gic = V2()
    gic.enable(41, edge=False)
    assert gic.drive(41, True)
    assert gic.take() == 41
    gic.finish(41)
    assert gic.take() == 41
    gic.drive(41, False)
    gic.finish(41)
    assert gic.take() == SPURIOUS


def test_disabled_lines_stay_pending() -> None:
    gic = V2()
    gic.enable(40)
    gic.write_distributor(0, DISABLE + 4, 4, 1 << 8)
    gic.drive(40, True)
    assert not gic.lines[0]
    assert gic.read_distributor(0, PEND + 4, 4) == 1 << 8
    gic.write_distributor(0, ENABLE + 4, 4, 1 << 8)
    assert gic.lines[0]
    gic.write_distributor(0, UNPEND + 4, 4, 1 << 8)
    assert not gic.lines[0]


def test_priorities_and_preemption() -> None:
    gic = V2()
    for intid, priority in ((40, 0xA0), (41, 0x80), (42, 0xA0), (43, 0x40)):
        gic.enable(intid, priority)
    gic.drive(42, True)
    gic.drive(40, True)
    assert gic.take() == 40, "of equal priorities the lower number"
    assert not gic.lines[0]
    gic.drive(41, True)
    assert gic.lines[0]
    assert gic.take() == 41
    assert gic.read_cpu(0, gicv2.RPR) == 0x80
    gic.drive(43, True)
    gic.write_cpu(0, gicv2.BPR, 7)
    assert gic.take() == SPURIOUS, "no bit of a priority is a group's: nothing preempts"
    gic.write_cpu(0, gicv2.BPR, 2)
    assert gic.take() == 43
    for intid in (43, 41, 40):
        gic.finish(intid)
    assert gic.read_cpu(0, gicv2.RPR) == 0xFF
    assert gic.take() == 42


def test_the_mask_holds_back_what_is_not_above_it() -> None:
    gic = V2()
    gic.enable(40, 0x80)
    gic.drive(40, True)
    gic.write_cpu(0, gicv2.PMR, 0x80)
    assert not gic.lines[0]
    assert gic.read_cpu(0, gicv2.HPPIR) == 40
    gic.write_cpu(0, gicv2.PMR, 0x88)
    assert gic.lines[0]


def test_split_ends() -> None:
    gic = V2()
    gic.enable(40)
    gic.write_cpu(0, gicv2.C_CTLR, 1 | 1 << 9)
    gic.drive(40, True)
    assert gic.take() == 40
    gic.finish(40)
    assert gic.read_distributor(0, ACTIVE + 4, 4) == 1 << 8
    gic.drive(40, False)
    gic.drive(40, True)
    assert not gic.lines[0]
    gic.write_cpu(0, gicv2.DIR, 40)
    assert gic.take() == 40


def test_software_generated_interrupts_keep_their_senders() -> None:
    gic = V2(3)
    gic.write_distributor(1, gicv2.SGIR, 4, 1 << 16 | 5)
    gic.write_distributor(2, gicv2.SGIR, 4, 1 << 24 | 5)
    assert gic.read_distributor(0, gicv2.SPENDSGIR + 5, 1) == 0b110
    assert gic.lines == {0: True, 1: True, 2: False}
    assert gic.take() == 5 | 1 << 10
    gic.finish(5 | 1 << 10)
    assert gic.take() == 5 | 2 << 10
    gic.finish(5 | 2 << 10)
    assert gic.take() == SPURIOUS
    assert gic.take(1) == 5 | 2 << 10


def test_an_interrupt_of_several_cpus_is_taken_once() -> None:
    gic = V2(2)
    gic.enable(40, targets=3)
    gic.drive(40, True)
    assert gic.lines == {0: True, 1: True}
    assert gic.take(1) == 40
    assert gic.take(0) == SPURIOUS
    assert gic.lines == {0: False, 1: False}


def test_group_1_is_acknowledged_by_its_own_registers() -> None:
    gic = V2()
    gic.enable(40)
    gic.write_distributor(0, 0x84, 4, 1 << 8)
    gic.drive(40, True)
    assert not gic.lines[0]
    gic.write_distributor(0, gicv2.CTLR, 4, 3)
    gic.write_cpu(0, gicv2.C_CTLR, 3)
    assert gic.take() == 1022
    assert gic.read_cpu(0, gicv2.AIAR) == 40
    gic.write_cpu(0, gicv2.AEOIR, 40)


def test_identification_and_what_is_read_only() -> None:
    gic = V2(4)
    assert gic.read_distributor(0, gicv2.TYPER, 4) == 5 | 3 << 5
    assert gic.read_distributor(2, gicv2.ITARGETSR, 4) == 0x0404_0404
    assert gic.read_distributor(0, gicv2.PIDR2, 4) >> 4 == 2
    gic.write_distributor(0, DISABLE, 4, 0xFFFF)
    assert gic.read_distributor(0, ENABLE, 4) & 0xFFFF == 0xFFFF
    assert gic.read_distributor(0, TRIGGER, 4) == 0xAAAA_AAAA
    assert gic.read_distributor(0, 0xFFC, 4) == 0
    gic.write_distributor(0, 0xFFC, 4, 1)


class V3(GicV3):
    def __init__(self, cpus: int = 2) -> None:
        self.lines: dict[int, bool] = {}
        super().__init__(cpus, self.lines.__setitem__)
        self.write_distributor(gicv3.CTLR, 4, 2)
        for word in range(1, 6):
            self.write_distributor(gicv3.IGROUPR + 4 * word, 4, 0xFFFF_FFFF)
        for cpu in range(cpus):
            self.write_redistributor(cpu, gicv3.WAKER, 4, 0)
            self.write_redistributor(cpu, gicv3.SGI_PAGE + gicv3.IGROUPR, 4, 0xFFFF_FFFF)
            self.write_redistributor(cpu, gicv3.SGI_PAGE + ENABLE, 4, 0xFFFF_FFFF)
            self.write_register(cpu, "ICC_PMR_EL1", 0xFF)
            self.write_register(cpu, "ICC_IGRPEN1_EL1", 1)

    def enable(self, intid: int) -> None:
        self.write_distributor(ENABLE + intid // 32 * 4, 4, 1 << intid % 32)
        self.write_distributor(TRIGGER + intid // 16 * 4, 4, 0xAAAA_AAAA)


def test_v3_takes_and_ends_by_registers() -> None:
    gic = V3()
    gic.enable(40)
    gic.drive(40, True)
    assert gic.lines == {0: True, 1: False}
    assert gic.read_register(0, "ICC_HPPIR1_EL1") == 40
    assert gic.read_register(0, "ICC_IAR1_EL1") == 40
    assert gic.read_register(0, "ICC_RPR_EL1") == 0
    assert gic.read_register(0, "ICC_AP1R0_EL1") == 1
    gic.write_register(0, "ICC_EOIR1_EL1", 40)
    assert gic.read_register(0, "ICC_IAR1_EL1") == SPURIOUS
    assert gic.read_register(0, "ICC_RPR_EL1") == 0xFF


@pytest.mark.parametrize("size", [4, 8])
def test_v3_routes_by_affinity(size: int) -> None:
    gic = V3()
    gic.enable(40)
    gic.write_distributor(gicv3.IROUTER + 8 * 40, size, 1)
    gic.drive(40, True)
    assert gic.lines == {0: False, 1: True}
    assert gic.read_distributor(gicv3.IROUTER + 8 * 40, size) == 1
    gic.write_distributor(gicv3.IROUTER + 8 * 40, size, 1 << 31)
    assert gic.lines == {0: True, 1: True}
    gic.write_distributor(gicv3.IROUTER + 8 * 40, size, 5)
    assert gic.lines == {0: False, 1: False}, "nobody has this affinity"


def test_v3_software_generated() -> None:
    gic = V3(4)
    gic.write_register(0, "ICC_SGI1R_EL1", 3 << 24 | 0b1010)
    assert gic.lines == {0: False, 1: True, 2: False, 3: True}
    assert gic.read_register(1, "ICC_IAR1_EL1") == 3
    gic.write_register(1, "ICC_SGI1R_EL1", 4 << 24 | 1 << 40)
    assert gic.lines == {0: True, 1: False, 2: True, 3: True}
    gic.write_register(1, "ICC_SGI1R_EL1", 5 << 24 | 1 << 16 | 1)
    assert gic.read_redistributor(0, gicv3.SGI_PAGE + PEND, 4) == 1 << 4, "of another cluster"


def test_v3_group_0_is_not_signalled() -> None:
    gic = V3()
    gic.enable(40)
    gic.write_distributor(gicv3.IGROUPR + 4, 4, 0)
    gic.drive(40, True)
    assert not gic.lines[0]


def test_v3_redistributors_say_whose_they_are() -> None:
    gic = V3(3)
    typers = [gic.read_redistributor(cpu, gicv3.R_TYPER, 8) for cpu in range(3)]
    assert typers == [0, 1 << 32 | 1 << 8, 2 << 32 | 2 << 8 | 1 << 4]
    assert gic.read_redistributor(2, gicv3.R_TYPER_HIGH, 4) == 2
    assert gic.read_redistributor(0, gicv3.PIDR2, 4) >> 4 == 3
    assert gic.read_redistributor(0, gicv3.WAKER, 4) == 0
    gic.write_redistributor(0, gicv3.WAKER, 4, 2)
    assert gic.read_redistributor(0, gicv3.WAKER, 4) == 6
    assert gic.read_distributor(gicv3.CTLR, 4) == 0x52
    assert gic.read_register(0, "ICC_SRE_EL1") == 7


def test_a_reset_forgets_it_all() -> None:
    gic = V3()
    gic.enable(40)
    gic.drive(40, True)
    gic.reset()
    gic.update()
    assert gic.lines == {0: False, 1: False}
    assert gic.read_distributor(ENABLE + 4, 4) == 0
