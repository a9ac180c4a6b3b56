"""The Linux/arm64 boot protocol (Documentation/arch/arm64/booting.rst): the Image's header.

A kernel is entered at its first byte, at EL1, with the MMU off and the device tree's address in x0.
"""

from __future__ import annotations

from typing import NamedTuple

from vmlab.boot.linux_image import read_header
from vmlab.errors import KernelError

__all__ = ["KERNEL_SPACE", "Image", "is_image"]

#: where a vmlinux lies in the kernel's own address space: the upper half
KERNEL_SPACE = 1 << 63
_MAGIC_AT, _MAGIC = 0x38, b"ARM\x64"
#: what kernels from before the header had these fields (3.17) expect
_OLD_OFFSET = 0x8_0000
#: where it goes is a whole number of these, and `text_offset` more
_ALIGNED = 2 << 20


class Image(NamedTuple):
    """text_offset: bytes from a 2 MiB boundary to where it goes; size: bytes of memory that it takes, of its
    own variables included."""

    text_offset: int
    size: int

    @classmethod
    def read(cls, image: bytes | bytearray | memoryview, name: str, size: int) -> Image:
        """KernelError when it is damaged or of a kind that cannot be run. size: the file's."""
        offset, memory = read_header(image, name)
        if not memory:
            offset, memory = _OLD_OFFSET, size
        if offset >= _ALIGNED:
            raise KernelError(
                f"{name}: a text offset of {offset:#x}; it is less than {_ALIGNED:#x}"
            )
        return cls(offset, max(memory, size))


def is_image(first: bytes | bytearray | memoryview) -> bool:
    return bytes(first[_MAGIC_AT : _MAGIC_AT + 4]) == _MAGIC
