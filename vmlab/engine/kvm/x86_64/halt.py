"""HLT under a single step, done here.

A HLT that KVM single-steps leaves more behind than MP_STATE_HALTED: where the instruction is emulated, the
request to halt stays and takes effect one instruction after the interrupt that was to end it. So that HLT
never reaches KVM: the state is changed to the one behind it (Intel SDM vol 2, HLT; KVM API 4.39, 4.31).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from vmlab.engine.kvm import abi
from vmlab.engine.kvm.x86_64.code import code_bytes

if TYPE_CHECKING:
    from vmlab.core.memory import GuestMemory
    from vmlab.engine.kvm.descriptors import VcpuFd

__all__ = ["halt"]

_HLT = b"\xf4"
_PREFIXES = b"\x26\x2e\x36\x3e\x64\x65\x66\x67\xf2\xf3"
_REX = bytes(range(0x40, 0x50))
_TF, _RF = 1 << 8, 1 << 16


def halt(fds: VcpuFd, memory: GuestMemory) -> bool:
    """Execute the next instruction if it is a HLT that halts -> whether it was.

    Not one that faults (CPL > 0), nor one that the guest traces itself (TF).
    """
    regs, sregs = fds.regs(), fds.sregs()
    code = code_bytes(fds, memory, sregs.cs.base + regs.rip)
    bare = code.lstrip(_PREFIXES)
    if sregs.cs.l and bare[:1] in _REX:
        bare = bare[1:]
    halted = fds.mp_state() != abi.KVM_MP_STATE_RUNNABLE
    if bare[:1] != _HLT or sregs.ss.dpl or regs.rflags & _TF or halted:
        return False
    regs.rip += len(code) - len(bare) + len(_HLT)
    regs.rflags &= ~_RF
    fds.call("KVM_SET_REGS", regs)
    _end_shadow(fds)
    fds.call("KVM_SET_MP_STATE", abi.MpState(abi.KVM_MP_STATE_HALTED))
    return True


def _end_shadow(fds: VcpuFd) -> None:
    """After STI interrupts wait for one instruction; left as it is, that would be for ever."""
    events = abi.VcpuEvents()
    fds.call("KVM_GET_VCPU_EVENTS", events)
    if events.interrupt_shadow:
        events.interrupt_shadow = 0
        events.flags = abi.KVM_VCPUEVENT_VALID_SHADOW
        fds.call("KVM_SET_VCPU_EVENTS", events)
