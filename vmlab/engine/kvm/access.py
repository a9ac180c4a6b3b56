"""The accesses that the run loop does not take itself: odd MMIO sizes and every kind of port I/O.

Offsets are those of struct kvm_run (KVM API 5), as indices into arrays of the field's own width.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from vmlab.engine.kvm import abi

if TYPE_CHECKING:
    from vmlab.engine.api import AccessBus
    from vmlab.engine.kvm.descriptors import VcpuFd

__all__ = ["has_written", "mmio", "port_io"]

_U: Final = abi.Run.u.offset
_IO = _U + abi._RunUnion.io.offset
_DEBUG = _U + abi._RunUnion.debug.offset
_MMIO = _U + abi._RunUnion.mmio.offset

# by width: u8[...], u16[...], u32[...], u64[...]
IMMEDIATE_EXIT_8 = abi.Run.immediate_exit.offset
EXIT_REASON_32 = abi.Run.exit_reason.offset // 4
IO_DIRECTION_8 = _IO + abi._RunIo.direction.offset
IO_SIZE_8 = _IO + abi._RunIo.size.offset
IO_PORT_16 = (_IO + abi._RunIo.port.offset) // 2
IO_COUNT_32 = (_IO + abi._RunIo.count.offset) // 4
IO_DATA_64 = (_IO + abi._RunIo.data_offset.offset) // 8
DEBUG_EXCEPTION_32 = (_DEBUG + abi._RunDebug.exception.offset) // 4
DEBUG_DR6_64 = (_DEBUG + abi._RunDebug.dr6.offset) // 8
MMIO_ADDRESS_64 = (_MMIO + abi._RunMmio.phys_addr.offset) // 8
MMIO_DATA_8 = _MMIO + abi._RunMmio.data.offset
MMIO_LENGTH_32 = (_MMIO + abi._RunMmio.len.offset) // 4
MMIO_WRITE_8 = _MMIO + abi._RunMmio.is_write.offset


def has_written(vcpu: VcpuFd) -> bool:
    """Whether the exit is for a write: of MMIO or to a port."""
    if vcpu.u32[EXIT_REASON_32] == abi.KVM_EXIT_MMIO:
        return bool(vcpu.u8[MMIO_WRITE_8])
    return vcpu.u8[IO_DIRECTION_8] == abi.KVM_EXIT_IO_OUT


def mmio(vcpu: VcpuFd, bus: AccessBus) -> None:
    """One MMIO exit of any size. KVM splits an access at the page's end, so 3, 5, 6 and 7 bytes
    occur; the bus sees them as the largest power of two that is left, low addresses first."""
    u8 = vcpu.u8
    address, left = vcpu.u64[MMIO_ADDRESS_64], min(vcpu.u32[MMIO_LENGTH_32], 8)
    write, at = u8[MMIO_WRITE_8], MMIO_DATA_8
    while left:
        size = 1 << (left.bit_length() - 1)
        if write:
            bus.write(address, size, int.from_bytes(u8[at : at + size], "little"))
        else:
            u8[at : at + size] = bus.read(address, size).to_bytes(size, "little")
        address, at, left = address + size, at + size, left - size


def port_io(vcpu: VcpuFd, bus: AccessBus) -> None:
    """One port exit: `count` elements of `size` bytes (rep ins/outs) lie in the run page."""
    u8 = vcpu.u8
    size, port, at = u8[IO_SIZE_8], vcpu.u16[IO_PORT_16], vcpu.u64[IO_DATA_64]
    out = u8[IO_DIRECTION_8] == abi.KVM_EXIT_IO_OUT
    for start in range(at, at + size * vcpu.u32[IO_COUNT_32], size):
        if out:
            bus.write(port, size, int.from_bytes(u8[start : start + size], "little"))
        else:
            u8[start : start + size] = bus.read(port, size).to_bytes(size, "little")
