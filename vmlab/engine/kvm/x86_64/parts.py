"""What KVM has of its own on x86_64: in-kernel PICs, IOAPIC and PIT, CPUID, segments, kvmclock."""

from __future__ import annotations

import contextlib
import ctypes
from collections.abc import Mapping
from typing import TYPE_CHECKING

from vmlab.arch.x86_64 import ARCH
from vmlab.arch.x86_64.cpu_state import CpuState
from vmlab.core.host import Host
from vmlab.engine.api import EngineConfig
from vmlab.engine.kvm import abi, access
from vmlab.engine.kvm.descriptors import control
from vmlab.engine.kvm.parts import Control, Line
from vmlab.engine.kvm.x86_64 import code, cpuid, debug, state
from vmlab.engine.kvm.x86_64.halt import halt
from vmlab.errors import EngineError

if TYPE_CHECKING:
    from vmlab.core.memory import GuestMemory
    from vmlab.engine.kvm.descriptors import VcpuFd

__all__ = ["make"]

#: what 8-bit APIC ids can name (255 means all)
XAPIC_IDS = 255
#: the pins of KVM's IOAPIC, which its default routing gives GSIs 0..23 (KVM API 4.24)
GSIS = 24
#: The line of a PC's clock. While its interrupt is served KVM_IRQ_LINE_STATUS drops the next one, edge or
#: level, as missed (`rtc_irq_check_coalesced`): meant for a timer, and the end of any other device.
RTC_GSI = 8
#: lines from here up are levels: one that waits for an EOI counts as not taken there, and is taken later
LEVELS = 16
#: three pages and one page of guest-physical space that Intel hosts need for real mode (KVM API
#: 4.36, 4.40); below 4 GiB, outside RAM, devices and firmware
TSS_ADDRESS = 0xFFFB_D000
IDENTITY_MAP_ADDRESS = 0xFFFB_C000
#: KVM_SYNC_X86_REGS (KVM API 4.99), and where struct kvm_run has the registers
SYNC_REGS = 1
VALID_REGS_64 = abi.Run.kvm_valid_regs.offset // 8
RIP_64 = (abi.Run.regs.offset + abi.Regs.rip.offset) // 8
MASK64 = (1 << 64) - 1
RESET_VECTOR = (0xFFFF_0000, 0xFFF0)  # CS base and RIP


class X86Parts:
    """See `vmlab.engine.kvm.parts.Parts`."""

    most_cpus = XAPIC_IDS
    events: Mapping[int, str] = {}
    gic = 0

    def __init__(self, cpus: int, template: abi.Cpuid2, synced: bool) -> None:
        self._cpus, self._template = cpus, template
        #: KVM can leave the registers in the run page at each exit
        self._synced = synced

    def furnish(self, vm: Control) -> None:
        vm("KVM_SET_TSS_ADDR", TSS_ADDRESS)
        vm("KVM_SET_IDENTITY_MAP_ADDR", ctypes.c_uint64(IDENTITY_MAP_ADDRESS))
        vm("KVM_CREATE_IRQCHIP")
        # the dummy speaker is what answers at port 0x61, which guests use to calibrate their clocks
        vm("KVM_CREATE_PIT2", abi.PitConfig(flags=abi.KVM_PIT_SPEAKER_DUMMY))

    def set_up(self, vcpu: VcpuFd) -> None:
        vcpu.call("KVM_SET_CPUID2", cpuid.for_vcpu(self._template, vcpu.index, self._cpus))

    def complete(self, vm: Control) -> None:
        """There is nothing more to do."""

    def line(self, number: int) -> Line:
        if not 0 <= number < GSIS:
            raise EngineError(f"KVM's IOAPIC has the lines 0 to {GSIS - 1}, not {number}")
        return Line(number, number, number < LEVELS and number != RTC_GSI)

    def boot(self, vcpu: VcpuFd, start: CpuState) -> None:
        sregs, regs = vcpu.sregs(), state.start_regs(start)
        state.start_sregs(sregs, start)
        vcpu.call("KVM_SET_SREGS", sregs)
        vcpu.call("KVM_SET_REGS", regs)

    def registers(self, vcpu: VcpuFd) -> dict[str, int]:
        return state.as_dict(vcpu.regs(), vcpu.sregs())

    def accessing(self, vcpu: VcpuFd) -> int:
        """From the run page, where the registers are once somebody has asked. Of a write the instruction is
        done with."""
        if vcpu.u64[VALID_REGS_64] & SYNC_REGS:
            rip = vcpu.u64[RIP_64]
        else:
            rip = int(vcpu.regs().rip)
            if self._synced:
                vcpu.u64[VALID_REGS_64] = SYNC_REGS
        return rip - access.has_written(vcpu) & MASK64

    def change(self, vcpu: VcpuFd, values: Mapping[str, int]) -> None:
        regs = vcpu.regs()
        state.apply(regs, values)
        vcpu.call("KVM_SET_REGS", regs)
        if ARCH.program_counter in values and vcpu.mp_state() == abi.KVM_MP_STATE_HALTED:
            # whoever sends it elsewhere wants it to run there
            vcpu.call("KVM_SET_MP_STATE", abi.MpState(abi.KVM_MP_STATE_RUNNABLE))

    def unstarted(self, vcpu: VcpuFd) -> str:
        waits = (abi.KVM_MP_STATE_UNINITIALIZED, abi.KVM_MP_STATE_INIT_RECEIVED)
        return "INIT/SIPI" if vcpu.mp_state() in waits else ""

    def sleeps(self, vcpu: VcpuFd, memory: GuestMemory) -> bool:
        return vcpu.mp_state() == abi.KVM_MP_STATE_HALTED

    def halt(self, vcpu: VcpuFd, memory: GuestMemory) -> bool:
        return halt(vcpu, memory)

    def single_step(self, vcpu: VcpuFd, on: bool) -> None:
        flags = abi.KVM_GUESTDBG_ENABLE | abi.KVM_GUESTDBG_SINGLESTEP if on else 0
        vcpu.call("KVM_SET_GUEST_DEBUG", abi.GuestDebug(control=flags))

    def debugger(self, memory: GuestMemory) -> debug.X86Debugger:
        return debug.X86Debugger(memory)

    def program_counter(self, vcpu: VcpuFd) -> int:
        return int(vcpu.regs().rip)

    def translate(self, vcpu: VcpuFd, address: int) -> int | None:
        return debug.translate(vcpu, address)

    def where(self, vcpu: VcpuFd, memory: GuestMemory, kind: str) -> tuple[str, dict[str, int]]:
        sregs = vcpu.sregs()
        registers = state.as_dict(vcpu.regs(), sregs)
        if kind == "shutdown" and (sregs.cs.base, registers["rip"]) == RESET_VECTOR:
            # AMD's VMCB is undefined after a shutdown, so KVM resets the vCPU (AMD APM vol. 2, 15.14.3)
            return f"vCPU {vcpu.index}, this host's CPU does not tell where", registers
        found = code.code_bytes(vcpu, memory, sregs.cs.base + registers["rip"])
        where = f"vCPU {vcpu.index} at rip {registers['rip']:#x}"
        if sregs.cs.base:
            where += f" (cs base {sregs.cs.base:#x})"
        return f"{where}, code {found.hex(' ') or 'not in memory'}", registers

    def time(self, vm: Control, vcpus: list[VcpuFd]) -> int | None:
        now = abi.ClockData()
        try:
            vm("KVM_GET_CLOCK", now)
        except EngineError:
            return None  # a KVM without a clock
        return int(now.clock)

    def set_time(self, vm: Control, vcpus: list[VcpuFd], time: int) -> None:
        """The guest is told that it was stopped: its watchdogs would take the time for a CPU that hangs (KVM
        API 4.70)."""
        vm("KVM_SET_CLOCK", abi.ClockData(clock=time))
        for vcpu in vcpus:
            with contextlib.suppress(EngineError):  # this guest does not use it
                vcpu.call("KVM_KVMCLOCK_CTRL")


def make(config: EngineConfig, host: Host, kvm: int) -> X86Parts:
    try:
        template = cpuid.supported(host, kvm)
    except OSError as error:
        raise EngineError(f"KVM_GET_SUPPORTED_CPUID failed: {error.strerror}") from error
    synced = control(host, kvm, "KVM_CHECK_EXTENSION", abi.KVM_CAP_SYNC_REGS) & SYNC_REGS
    return X86Parts(config.cpus, template, bool(synced))
