"""The bytes of the code at a linear address."""

from __future__ import annotations

from typing import TYPE_CHECKING

from vmlab.engine.kvm import abi
from vmlab.errors import EngineError

if TYPE_CHECKING:
    from vmlab.core.memory import GuestMemory
    from vmlab.engine.kvm.descriptors import VcpuFd

__all__ = ["code_bytes"]

#: x86 instructions are at most 15 bytes long
CODE_BYTES = 16
PAGE = 0x1000


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
