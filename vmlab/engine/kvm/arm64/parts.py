"""What KVM has of its own on arm64: an in-kernel GIC, PSCI, registers one by one, the virtual counter."""

from __future__ import annotations

import ctypes
from collections.abc import Mapping
from typing import TYPE_CHECKING

from vmlab.arch.arm64 import ARCH, platform
from vmlab.arch.arm64.cpu_state import CpuState
from vmlab.core.host import Host
from vmlab.engine.api import EngineConfig
from vmlab.engine.kvm import abi as kvm_abi
from vmlab.engine.kvm.arm64 import abi
from vmlab.engine.kvm.parts import Control, Line
from vmlab.errors import EngineError

if TYPE_CHECKING:
    from vmlab.core.memory import GuestMemory
    from vmlab.engine.kvm.descriptors import VcpuFd

__all__ = ["make"]

#: lines that the controller has, the private ones of each CPU included
LINES, PRIVATE = 192, 32
_MASK64 = (1 << 64) - 1
#: EL1 with its own stack pointer, interrupts masked
_START = 0x3C5
#: PSTATE: EL0, or EL1 with EL0's stack pointer
_SP0 = frozenset({0b0000, 0b0100})
#: places in struct kvm_regs, in 32-bit words
_SP_EL0, _PC, _PSTATE, _SP_EL1, _ELR_EL1, _SPSR_EL1 = 62, 64, 66, 68, 70, 72
_CORE = {f"x{number}": 2 * number for number in range(31)} | {
    "pc": _PC,
    "pstate": _PSTATE,
    "elr_el1": _ELR_EL1,
    "spsr_el1": _SPSR_EL1,
    "sp_el0": _SP_EL0,
}
_SYSTEM = {
    "sctlr_el1": (3, 0, 1, 0, 0),
    "ttbr0_el1": (3, 0, 2, 0, 0),
    "ttbr1_el1": (3, 0, 2, 0, 1),
    "tcr_el1": (3, 0, 2, 0, 2),
    "mair_el1": (3, 0, 10, 2, 0),
    "vbar_el1": (3, 0, 12, 0, 0),
    "esr_el1": (3, 0, 5, 2, 0),
    "far_el1": (3, 0, 6, 0, 0),
    "tpidr_el0": (3, 3, 13, 0, 2),
    "tpidr_el1": (3, 0, 13, 0, 4),
}
_IDS = {name: abi.core(word) for name, word in _CORE.items()} | {
    name: abi.system(*number) for name, number in _SYSTEM.items()
}
SETTABLE = (*(f"x{number}" for number in range(31)), "sp", "pc", "pstate")
#: WFI and WFE, as a step finds them
_WAITS = (b"\x7f\x20\x03\xd5", b"\x5f\x20\x03\xd5")


def get(vcpu: VcpuFd, id: int) -> int:
    value = ctypes.c_uint64()
    vcpu.call("KVM_GET_ONE_REG", abi.OneReg(id, ctypes.addressof(value)), abi)
    return value.value


def put(vcpu: VcpuFd, id: int, value: int) -> None:
    held = ctypes.c_uint64(value & _MASK64)
    vcpu.call("KVM_SET_ONE_REG", abi.OneReg(id, ctypes.addressof(held)), abi)


def _stack(pstate: int) -> int:
    """The id of the stack pointer that the CPU uses in that state."""
    return abi.core(_SP_EL0 if pstate & 0xF in _SP0 else _SP_EL1)


class ArmParts:
    """See `vmlab.engine.kvm.parts.Parts`. gic: its version, once a VM is furnished."""

    most_cpus = platform.MAX_CPUS
    events: Mapping[int, str] = {
        kvm_abi.KVM_SYSTEM_EVENT_SHUTDOWN: "power-off",
        kvm_abi.KVM_SYSTEM_EVENT_RESET: "reset",
    }

    def __init__(self, cpus: int, gic: int | None, host: Host) -> None:
        self._cpus, self._wanted, self._host = cpus, gic, host
        self.gic = gic or 3
        self._device = -1

    # --- the machine ----------------------------------------------------------------------------

    def furnish(self, vm: Control) -> None:
        """The controller of the wanted version; of none, the newest that this host's KVM has."""
        self._vm = vm
        made = abi.CreateDevice()
        for version in (self._wanted,) if self._wanted else (3, 2):
            made.type = abi.KVM_DEV_TYPE_ARM_VGIC[version]
            try:
                vm("KVM_CREATE_DEVICE", made, abi)
            except EngineError as error:
                refused = error
                continue
            self.gic, self._device = version, made.fd
            break
        else:
            other = f"; gic={5 - self._wanted} may be there" if self._wanted else ""
            raise EngineError(f"this host's KVM has no such interrupt controller: {refused}{other}")
        if self.gic == 2:
            self._at(abi.KVM_VGIC_V2_ADDR_TYPE_DIST, platform.GICV2_DISTRIBUTOR)
            self._at(abi.KVM_VGIC_V2_ADDR_TYPE_CPU, platform.GICV2_CPU)
        else:
            self._at(abi.KVM_VGIC_V3_ADDR_TYPE_DIST, platform.GICV3_DISTRIBUTOR)
            self._at(abi.KVM_VGIC_V3_ADDR_TYPE_REDIST, platform.redistributors(self._cpus))
        lines = ctypes.c_uint32(LINES)
        self._attribute(abi.KVM_DEV_ARM_VGIC_GRP_NR_IRQS, 0, ctypes.addressof(lines))

    def _at(self, kind: int, address: int) -> None:
        held = ctypes.c_uint64(address)
        self._attribute(abi.KVM_DEV_ARM_VGIC_GRP_ADDR, kind, ctypes.addressof(held))

    def _attribute(self, group: int, attribute: int, address: int = 0) -> None:
        argument = abi.DeviceAttr(0, group, attribute, address)
        try:
            self._host.ioctl(self._device, abi.KVM_SET_DEVICE_ATTR, argument)
        except OSError as error:
            raise EngineError(
                f"KVM_SET_DEVICE_ATTR, group {group} of the interrupt controller: {error.strerror}"
            ) from error

    def set_up(self, vcpu: VcpuFd) -> None:
        init = abi.VcpuInit()
        self._vm("KVM_ARM_PREFERRED_TARGET", init, abi)
        init.features[0] |= abi.KVM_ARM_VCPU_PSCI_0_2
        if vcpu.index:
            init.features[0] |= abi.KVM_ARM_VCPU_POWER_OFF
        vcpu.call("KVM_ARM_VCPU_INIT", init, abi)

    def complete(self, vm: Control) -> None:
        try:
            self._attribute(abi.KVM_DEV_ARM_VGIC_GRP_CTRL, abi.KVM_DEV_ARM_VGIC_CTRL_INIT)
        finally:
            # the VM keeps the controller; its descriptor was for this alone
            self._host.close(self._device)
            self._device = -1

    def line(self, number: int) -> Line:
        if not PRIVATE <= number < LINES:
            raise EngineError(f"the GIC has the lines {PRIVATE} to {LINES - 1}, not {number}")
        return Line(abi.KVM_ARM_IRQ_TYPE_SPI | number, number - PRIVATE, False)

    # --- a vCPU ---------------------------------------------------------------------------------

    def boot(self, vcpu: VcpuFd, start: CpuState) -> None:
        self.change(vcpu, {"pstate": _START, **start.regs, "pc": start.pc})

    def registers(self, vcpu: VcpuFd) -> dict[str, int]:
        stack = _stack(get(vcpu, _IDS["pstate"]))
        return {name: get(vcpu, _IDS.get(name, stack)) for name in ARCH.registers}

    def accessing(self, vcpu: VcpuFd) -> int:
        """KVM goes past the instruction when the vCPU is entered again."""
        return self.program_counter(vcpu)

    def change(self, vcpu: VcpuFd, values: Mapping[str, int]) -> None:
        if unknown := [name for name in values if name not in SETTABLE]:
            names = ", ".join(map(repr, unknown))
            raise EngineError(
                f"no general register is called {names}; there are {', '.join(SETTABLE)}"
            )
        for name in sorted(values, key=lambda name: name == "sp"):  # which one it is, pstate says
            id = _IDS.get(name) or _stack(get(vcpu, _IDS["pstate"]))
            put(vcpu, id, values[name])

    def unstarted(self, vcpu: VcpuFd) -> str:
        return "PSCI CPU_ON" if vcpu.mp_state() == abi.KVM_MP_STATE_STOPPED else ""

    def sleeps(self, vcpu: VcpuFd, memory: GuestMemory) -> bool:
        return self._code(vcpu, memory) in _WAITS

    def halt(self, vcpu: VcpuFd, memory: GuestMemory) -> bool:
        return False  # KVM steps a WFI as it is

    def single_step(self, vcpu: VcpuFd, on: bool) -> None:
        flags = kvm_abi.KVM_GUESTDBG_ENABLE | kvm_abi.KVM_GUESTDBG_SINGLESTEP if on else 0
        vcpu.call("KVM_SET_GUEST_DEBUG", abi.GuestDebug(control=flags), abi)

    def debugger(self, memory: GuestMemory) -> None:
        """Every instruction is stepped: the debug registers of an arm64 host are not used yet."""

    def program_counter(self, vcpu: VcpuFd) -> int:
        return get(vcpu, _IDS["pc"])

    def translate(self, vcpu: VcpuFd, address: int) -> int | None:
        """KVM walks no tables here (KVM_TRANSLATE is x86's): only while the MMU is off."""
        return None if self.registers(vcpu)["sctlr_el1"] & 1 else address

    def where(self, vcpu: VcpuFd, memory: GuestMemory, kind: str) -> tuple[str, dict[str, int]]:
        registers = self.registers(vcpu)
        code = self._code(vcpu, memory).hex(" ") or "not in memory"
        return f"vCPU {vcpu.index} at pc {registers['pc']:#x}, code {code}", registers

    @staticmethod
    def _code(vcpu: VcpuFd, memory: GuestMemory) -> bytes:
        """The next instruction, where addresses are physical or mapped onto themselves; KVM translates
        none."""
        at = get(vcpu, _IDS["pc"])
        return bytes(memory.read(at, 4)) if memory.find(at, 4) is not None else b""

    # --- time -----------------------------------------------------------------------------------

    def time(self, vm: Control, vcpus: list[VcpuFd]) -> int | None:
        return get(vcpus[0], abi.KVM_REG_ARM_TIMER_CNT)

    def set_time(self, vm: Control, vcpus: list[VcpuFd], time: int) -> None:
        put(vcpus[0], abi.KVM_REG_ARM_TIMER_CNT, time)


def make(config: EngineConfig, host: Host, kvm: int) -> ArmParts:
    return ArmParts(config.cpus, config.gic, host)
