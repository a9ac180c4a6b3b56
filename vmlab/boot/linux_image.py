"""The header of a Linux Image: RISC-V's boot protocol has taken arm64's over."""

from __future__ import annotations

import struct

from vmlab.errors import KernelError

__all__ = ["read_header"]

_HEADER = 0x40
#: of text_offset, image_size and flags
_FIELDS = 8
#: a flag
_BIG_ENDIAN = 1 << 0


def read_header(image: bytes | bytearray | memoryview, name: str) -> tuple[int, int]:
    """(text_offset, image_size) as they stand there; KernelError when it is cut, or for other CPUs."""
    if len(image) < _HEADER:
        raise KernelError(f"{name}: truncated: an Image is longer than its {len(image)} bytes")
    offset, size, flags = struct.unpack_from("<3Q", image, _FIELDS)
    if flags & _BIG_ENDIAN:
        raise KernelError(f"{name}: a big-endian kernel; this machine's CPUs run little-endian")
    return offset, size
