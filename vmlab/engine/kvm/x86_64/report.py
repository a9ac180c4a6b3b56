"""Why a vCPU stopped, in one line: what KVM said, RIP, and the code bytes there."""

from __future__ import annotations

import ctypes
from typing import TYPE_CHECKING

from vmlab.engine.api import Stop
from vmlab.engine.kvm import abi, access
from vmlab.engine.kvm.x86_64 import state
from vmlab.errors import EngineError

if TYPE_CHECKING:
    from vmlab.core.memory import GuestMemory
    from vmlab.engine.kvm.vm import VcpuFd

__all__ = ["code_bytes", "explain", "failure"]

#: x86 instructions are at most 15 bytes long
CODE_BYTES = 16
PAGE = 0x1000
RESET_VECTOR = (0xFFFF_0000, 0xFFF0)  # CS base and RIP

_SUBERRORS = {
    abi.KVM_INTERNAL_ERROR_EMULATION: "an instruction that KVM cannot emulate",
    abi.KVM_INTERNAL_ERROR_SIMUL_EX: "exceptions at the same time",
    abi.KVM_INTERNAL_ERROR_DELIVERY_EV: "an exit while an event was being delivered",
    abi.KVM_INTERNAL_ERROR_UNEXPECTED_EXIT_REASON: "an unexpected hardware exit",
}
_EVENTS = {
    abi.KVM_SYSTEM_EVENT_SHUTDOWN: "shutdown",
    abi.KVM_SYSTEM_EVENT_RESET: "reset",
    abi.KVM_SYSTEM_EVENT_CRASH: "crash",
}


def explain(vcpu: VcpuFd, memory: GuestMemory) -> Stop:
    """The exit that lies in the run page and ends the vCPU's run."""
    reason = vcpu.u32[access.EXIT_REASON_32]
    union = abi._RunUnion.from_buffer_copy(vcpu.u8, abi.Run.u.offset)
    if reason == abi.KVM_EXIT_SHUTDOWN:
        return _stop("shutdown", "the guest triple-faulted", vcpu, memory)
    if reason == abi.KVM_EXIT_INTERNAL_ERROR:
        return _stop("internal-error", _internal(union.internal), vcpu, memory)
    if reason == abi.KVM_EXIT_FAIL_ENTRY:
        why = union.fail_entry.hardware_entry_failure_reason
        text = f"the hardware refused to enter the guest (reason {why:#x})"
        return _stop("fail-entry", text, vcpu, memory)
    if reason == abi.KVM_EXIT_SYSTEM_EVENT:
        kind = union.system_event.type
        text = f"system event: {_EVENTS.get(kind, f'type {kind}')}"
        return _stop("system-event", text, vcpu, memory)
    text = f"KVM exit {reason}, which vmlab does not know"
    if reason == abi.KVM_EXIT_UNKNOWN:
        text = f"KVM does not know why it left (hardware reason {union.hw.hardware_exit_reason:#x})"
    return _stop("unknown-exit", text, vcpu, memory)


def failure(text: str, vcpu: VcpuFd, memory: GuestMemory) -> Stop:
    """The engine's own failure: KVM_RUN refused, or a bus raised."""
    return _stop("engine-error", text, vcpu, memory)


def _internal(error: abi._RunInternal) -> str:
    data = ", ".join(f"{error.data[i]:#x}" for i in range(min(error.ndata, 16)))
    meaning = _SUBERRORS.get(error.suberror, "no name")
    return f"KVM internal error, suberror {error.suberror} ({meaning}), data [{data}]"


def _stop(kind: str, text: str, vcpu: VcpuFd, memory: GuestMemory) -> Stop:
    try:
        sregs = vcpu.sregs()
        registers = state.as_dict(vcpu.regs(), sregs)
    except EngineError as error:
        return Stop(kind, f"{text}; vCPU {vcpu.index}, its registers cannot be read: {error}")
    if kind == "shutdown" and (sregs.cs.base, registers["rip"]) == RESET_VECTOR:
        # AMD's VMCB is undefined after a shutdown, so KVM resets the vCPU (AMD APM vol. 2, 15.14.3)
        return Stop(
            kind, f"{text}; vCPU {vcpu.index}, this host's CPU does not tell where", registers
        )
    code = code_bytes(vcpu, memory, sregs.cs.base + registers["rip"])
    where = f"vCPU {vcpu.index} at rip {registers['rip']:#x}"
    if sregs.cs.base:
        where += f" (cs base {sregs.cs.base:#x})"
    return Stop(kind, f"{text}; {where}, code {code.hex(' ') or 'not in memory'}", registers)


def code_bytes(vcpu: VcpuFd, memory: GuestMemory, linear: int) -> bytes:
    """Up to `CODE_BYTES` bytes at a linear address, fewer at the page's end, none outside RAM."""
    at = abi.Translation(linear_address=linear & 0xFFFF_FFFF_FFFF_FFFF)
    try:
        vcpu.call("KVM_TRANSLATE", at)
    except EngineError:
        return b""
    if not at.valid:
        return b""
    size = min(CODE_BYTES, PAGE - at.physical_address % PAGE)
    if memory.find(at.physical_address, size) is None:
        return b""
    return memory.read(at.physical_address, size)


assert ctypes.sizeof(abi.Run) == abi.Run.u.offset + 256  # the union's room is part of the ABI
