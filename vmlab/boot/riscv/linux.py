"""The Linux/RISC-V boot protocol (Documentation/arch/riscv/boot.rst, boot-image-header.rst).

A kernel is entered at its first byte, in S mode, with the MMU off, the hart's number in a0 and the device
tree's address in a1.
"""

from __future__ import annotations

from typing import NamedTuple

from vmlab.boot.linux_image import read_header
from vmlab.errors import KernelError

__all__ = ["Image", "is_image"]

_MAGIC_AT, _MAGIC = 0x30, b"RISCV\0\0\0"
#: where it goes is a whole number of these, and `text_offset` more
_ALIGNED = 2 << 20


class Image(NamedTuple):
    """text_offset: bytes from RAM's beginning to where it goes; size: bytes of memory that it takes, of its
    own variables included."""

    text_offset: int
    size: int

    @classmethod
    def read(cls, image: bytes | bytearray | memoryview, name: str, size: int) -> Image:
        """KernelError when it is damaged or of a kind that cannot be run. size: the file's."""
        offset, memory = read_header(image, name)
        if offset > 2 * _ALIGNED:
            raise KernelError(
                f"{name}: a text offset of {offset:#x}; a RISC-V Image lies {_ALIGNED:#x} bytes into RAM, one"
                f" of 32 bits {2 * _ALIGNED:#x}"
            )
        return cls(offset, max(memory, size))


def is_image(first: bytes | bytearray | memoryview) -> bool:
    return bytes(first[_MAGIC_AT : _MAGIC_AT + 8]) == _MAGIC
