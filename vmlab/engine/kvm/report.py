"""Why a vCPU stopped, in one line: what KVM said, the program counter, and the code bytes there."""

from __future__ import annotations

from typing import TYPE_CHECKING

from vmlab.engine.api import Stop
from vmlab.engine.kvm import abi, access
from vmlab.errors import EngineError

if TYPE_CHECKING:
    from vmlab.core.memory import GuestMemory
    from vmlab.engine.kvm.descriptors import VcpuFd
    from vmlab.engine.kvm.parts import Parts

__all__ = ["explain", "failure"]

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


def explain(parts: Parts, vcpu: VcpuFd, memory: GuestMemory) -> Stop:
    """The exit that lies in the run page and ends the vCPU's run."""
    reason = vcpu.u32[access.EXIT_REASON_32]
    union = abi._RunUnion.from_buffer_copy(vcpu.u8, abi.Run.u.offset)
    if reason == abi.KVM_EXIT_SHUTDOWN:
        return _stop("shutdown", "the guest triple-faulted", parts, vcpu, memory)
    if reason == abi.KVM_EXIT_INTERNAL_ERROR:
        return _stop("internal-error", _internal(union.internal), parts, vcpu, memory)
    if reason == abi.KVM_EXIT_FAIL_ENTRY:
        why = union.fail_entry.hardware_entry_failure_reason
        text = f"the hardware refused to enter the guest (reason {why:#x})"
        return _stop("fail-entry", text, parts, vcpu, memory)
    if reason == abi.KVM_EXIT_SYSTEM_EVENT:
        kind = union.system_event.type
        text = f"system event: {_EVENTS.get(kind, f'type {kind}')}"
        return _stop(parts.events.get(kind, "system-event"), text, parts, vcpu, memory)
    if reason == abi.KVM_EXIT_ARM_NISV:
        text = "an access to a device by an instruction that KVM cannot take apart"
        return _stop("internal-error", text, parts, vcpu, memory)
    text = f"KVM exit {reason}, which vmlab does not know"
    if reason == abi.KVM_EXIT_UNKNOWN:
        text = f"KVM does not know why it left (hardware reason {union.hw.hardware_exit_reason:#x})"
    return _stop("unknown-exit", text, parts, vcpu, memory)


def failure(text: str, parts: Parts, vcpu: VcpuFd, memory: GuestMemory) -> Stop:
    """The engine's own failure: KVM_RUN refused, or a bus raised."""
    return _stop("engine-error", text, parts, vcpu, memory)


def _internal(error: abi._RunInternal) -> str:
    data = ", ".join(f"{error.data[i]:#x}" for i in range(min(error.ndata, 16)))
    meaning = _SUBERRORS.get(error.suberror, "no name")
    return f"KVM internal error, suberror {error.suberror} ({meaning}), data [{data}]"


def _stop(kind: str, text: str, parts: Parts, vcpu: VcpuFd, memory: GuestMemory) -> Stop:
    try:
        where, registers = parts.where(vcpu, memory, kind)
    except EngineError as error:
        return Stop(kind, f"{text}; vCPU {vcpu.index}, its registers cannot be read: {error}")
    return Stop(kind, f"{text}; {where}", registers)


assert (
    abi.Run.kvm_valid_regs.offset == abi.Run.u.offset + 256
)  # the union's room is part of the ABI
