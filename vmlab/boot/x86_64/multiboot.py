"""Multiboot 1 (specification 0.6.96 §3): a header in the first 8 KiB, eax the magic, ebx the information."""

from __future__ import annotations

import struct
from typing import NamedTuple

from vmlab.arch.x86_64.cpu_state import CpuState
from vmlab.boot.x86_64.layout import BASE_MEMORY, BOOT_INFO, CMDLINE, RAM, memory_map
from vmlab.core.memory import PAGE, GuestMemory
from vmlab.errors import KernelError

__all__ = ["Entry", "Header", "Loaded", "find", "is_flat", "is_second"]

HEADER_MAGIC = 0x1BAD_B002
BOOT_MAGIC = 0x2BAD_B002
SEARCH = 8192
# header flags (§3.1.2): page-aligned modules, memory information, a video mode; the address fields hold
_ALIGN, _MEMORY_INFO, _VIDEO, _ADDRESSES = 1 << 0, 1 << 1, 1 << 2, 1 << 16
#: bits that a loader must refuse when it does not know them
_REQUIRED = 0xFFFF
#: the header with all its fields
_HEADER = struct.Struct("<12I")
#: mode_type of a text mode (§3.1.4)
_TEXT = 1
# information flags (§3.3)
_MEMORY, _CMDLINE, _MODULES, _MAP = 1 << 0, 1 << 2, 1 << 3, 1 << 6
_LOADER_NAME, _FRAMEBUFFER = 1 << 9, 1 << 12
#: flags .. color_info; the fields between are not offered
_INFO = struct.Struct("<7I16x2I12xI20xQ3I2B6x")
#: framebuffer_addr .. framebuffer_type of a PC's text screen: 80 by 25, a character and its colours each
_TEXT_SCREEN = (0xB_8000, 160, 80, 25, 16, 2)
_LOADER = b"vmlab\0"
#: CS and the data segments: as GRUB and QEMU have them, on which kernels rely that load a GDT and go on
_SELECTORS = (0x08, 0x10)
#: their descriptors, at the end of the boot data's page: the specification promises no GDT, and kernels that
#: make gates for 0x08 without one of their own run with those loaders
_GDT = struct.pack("<3Q", 0, 0x00CF_9B00_0000_FFFF, 0x00CF_9300_0000_FFFF)
_GDT_AT = BOOT_INFO + PAGE - 0x20
#: multiboot 2 (specification 2.0 §3.1): where its header is, and how it begins
_SECOND_SEARCH, _SECOND_MAGIC = 32768, 0xE852_50D6


class Entry(NamedTuple):
    """text_screen: the kernel has asked for text mode, and is told where the screen is."""

    address: int
    text_screen: bool = False

    def prepare(
        self,
        memory: GuestMemory,
        cmdline: bool,
        module: tuple[int, int] | None,
        rsdp: int = 0,
    ) -> CpuState:
        """Write the information structure; `cmdline` lies at CMDLINE already. It has no place for
        ACPI's `rsdp`: a guest looks for that itself."""
        table = b"".join(
            struct.pack("<IQQI", 20, one.start, one.size, one.kind) for one in memory_map(memory)
        )
        loader = BOOT_INFO + _INFO.size + 4
        modules = loader + 8
        at = modules + 16
        flags = _MEMORY | _MAP | _LOADER_NAME | (_CMDLINE if cmdline else 0)
        flags |= (_MODULES if module else 0) | (_FRAMEBUFFER if self.text_screen else 0)
        upper = sum(
            one.size for one in memory_map(memory) if one.kind == RAM and one.start == 0x10_0000
        )
        info = _INFO.pack(
            flags,
            BASE_MEMORY >> 10,
            upper >> 10,
            0,
            CMDLINE if cmdline else 0,
            1 if module else 0,
            modules if module else 0,
            len(table),
            at,
            loader,
            *(_TEXT_SCREEN if self.text_screen else (0,) * 6),
        )
        memory.write(BOOT_INFO, info)
        memory.write(loader, _LOADER)
        if module:
            start, size = module
            memory.write(modules, struct.pack("<IIII", start, start + size, 0, 0))
        memory.write(at, table)
        memory.write(_GDT_AT, _GDT)
        regs = {"rax": BOOT_MAGIC, "rbx": BOOT_INFO}
        gdt = _GDT_AT, len(_GDT) - 1
        return CpuState("protected", self.address, regs, gdt=gdt, selectors=_SELECTORS)


class Loaded(NamedTuple):
    """What the address fields say: bytes of the file for `address`, `size` of memory, the entry."""

    address: int
    data: memoryview
    size: int
    entry: int


class Header(NamedTuple):
    """The header: its place in the file, and its fields (§3.1.1), zero where the file ends before them."""

    at: int
    flags: int
    header_addr: int
    load_addr: int
    load_end_addr: int
    bss_end_addr: int
    entry_addr: int
    mode_type: int
    width: int
    height: int
    depth: int

    @property
    def has_addresses(self) -> bool:
        return bool(self.flags & _ADDRESSES)

    @property
    def wants_text(self) -> bool:
        return bool(self.flags & _VIDEO) and self.mode_type == _TEXT

    def check(self, name: str) -> None:
        """KernelError when it asks for what this loader does not know."""
        unknown = self.flags & _REQUIRED & ~(_ALIGN | _MEMORY_INFO | _VIDEO)
        if unknown:
            raise KernelError(
                f"{name}: its multiboot header asks for features {unknown:#x} that this loader lacks"
            )

    def warning(self) -> str:
        """What the kernel asks for and does not get, although it starts; "" for nothing."""
        if not self.flags & _VIDEO or self.mode_type == _TEXT:
            return ""
        return (
            f"its multiboot header asks for the video mode {self.width}x{self.height}x{self.depth}; this"
            " machine has no graphics, and tells the kernel of none"
        )

    def loaded(self, image: memoryview, name: str) -> Loaded:
        """The image as the address fields place it: no matter what else the file is."""
        where = f"{name}: its multiboot header's"
        start = self.at - (self.header_addr - self.load_addr)
        if self.header_addr < self.load_addr or start < 0:
            raise KernelError(
                f"{where} load_addr {self.load_addr:#x} does not fit its header_addr"
                f" {self.header_addr:#x}: the header lies {self.at:#x} into the file"
            )
        room = len(image) - start
        size = self.load_end_addr - self.load_addr if self.load_end_addr else room
        if not 0 < size <= room:
            raise KernelError(
                f"{where} load_end_addr {self.load_end_addr:#x} asks for {size:#x} bytes; the file has"
                f" {room:#x}"
            )
        memory = self.bss_end_addr - self.load_addr if self.bss_end_addr else size
        if memory < size:
            raise KernelError(
                f"{where} bss_end_addr {self.bss_end_addr:#x} is below the end of what is loaded,"
                f" {self.load_addr + size:#x}"
            )
        return Loaded(self.load_addr, image[start : start + size], memory, self.entry_addr)


def find(image: bytes | bytearray | memoryview) -> Header | None:
    """The header in an image's first 8 KiB."""
    head = memoryview(image)[:SEARCH]
    for at in range(0, len(head) - 11, 4):
        magic, flags, checksum = struct.unpack_from("<III", head, at)
        if magic == HEADER_MAGIC and not (magic + flags + checksum) & 0xFFFF_FFFF:
            whole = bytes(image[at : at + _HEADER.size]).ljust(_HEADER.size, b"\0")
            fields = _HEADER.unpack(whole)
            return Header(at, flags, *fields[3:])
    return None


def is_flat(image: bytes | bytearray) -> bool:
    """Whether an image that is no ELF file says itself where it is to be loaded."""
    header = find(image)
    return header is not None and header.has_addresses


def is_second(image: bytes | bytearray | memoryview) -> bool:
    """Whether there is a header of multiboot 2, in its first 32 KiB."""
    head = memoryview(image)[:_SECOND_SEARCH]
    for at in range(0, len(head) - 15, 8):
        fields = struct.unpack_from("<IIII", head, at)
        if fields[0] == _SECOND_MAGIC and not sum(fields) & 0xFFFF_FFFF:
            return True
    return False
