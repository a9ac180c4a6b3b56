"""The Linux/x86 boot protocol (Documentation/arch/x86/boot.rst): bzImage, the 64-bit and the 32-bit entry.

A kernel is entered with flat segments 0x10 and 0x18 and RSI at `struct boot_params`: the "zero page", which
carries the memory map, the initrd, the command line and where the ACPI tables are. In long mode paging is on,
the first 4 GiB mapped onto themselves.
"""

from __future__ import annotations

import struct
from typing import NamedTuple

from vmlab.arch.x86_64.cpu_state import CpuState
from vmlab.boot.elf import ElfFile
from vmlab.boot.x86_64.layout import (
    BOOT_INFO,
    CMDLINE,
    FIRMWARE,
    GDT,
    PAGE_TABLES,
    PAGE_TABLES_SIZE,
    memory_map,
)
from vmlab.core.memory import PAGE, GuestMemory
from vmlab.errors import KernelError

__all__ = ["BzImage", "Entry", "firmware", "is_bzimage", "is_linux"]

#: where a vmlinux lies in the kernel's own address space (x86_64 mm.rst)
_KERNEL_MAP = 0xFFFF_FFFF_8000_0000
#: the last byte that an initrd may take, for kernels that do not say (boot.rst, `initrd_addr_max`)
INITRD_MAX = 0x7FFF_FFFF
#: bytes of command line, without the NUL (COMMAND_LINE_SIZE - 1)
CMDLINE_MAX = 2047
#: where a kernel that can be relocated goes when it does not say
_PREFERRED = 0x100_0000
#: F000:FFF0, where a PC starts and a BIOS reboots
RESET_VECTOR = 0xF_FFF0
_HEADER = 0x1F1
_LOADED_HIGH, _XLF_KERNEL_64 = 1, 1
#: where the protected-mode code of a bzImage lies that has no 64-bit entry
_CODE32_START = 0x10_0000
# fields of boot_params
_RSDP, _E820_COUNT, _E820 = 0x70, 0x1E8, 0x2D0
#: the identity map: 4 GiB in pages of 2 MiB
_GIB = 4


class Entry(NamedTuple):
    """The entry at `address`, in 64- or 32-bit code. header: the setup header of a bzImage (from 0x1f1 on),
    if any; stack: where RSP points, for a kernel that is no Linux: those, Firecracker starts that way."""

    address: int
    header: bytes = b""
    bits: int = 64
    stack: int = 0

    @property
    def taken(self) -> list[tuple[int, int]]:
        """(address, size) of what `prepare` writes beside BOOT_INFO."""
        tables = [(PAGE_TABLES, PAGE_TABLES_SIZE)] if self.bits == 64 else []
        return [(GDT, 0x20), *tables]

    def prepare(
        self,
        memory: GuestMemory,
        cmdline: bool,
        module: tuple[int, int] | None,
        rsdp: int = 0,
    ) -> CpuState:
        """Write boot_params, page tables and a GDT; the command line lies at CMDLINE already."""
        page = bytearray(PAGE)
        page[_HEADER : _HEADER + len(self.header)] = self.header
        if not self.header:
            struct.pack_into("<H", page, 0x1FE, 0xAA55)
            struct.pack_into("<4sH", page, 0x202, b"HdrS", 0x20F)
            page[0x211] = 1  # LOADED_HIGH
            struct.pack_into("<I", page, 0x230, 0x100_0000)  # kernel_alignment
            struct.pack_into("<I", page, 0x238, CMDLINE_MAX)
        page[0x210] = 0xFF  # type_of_loader: one without a number
        if module:
            struct.pack_into("<II", page, 0x218, *module)
        struct.pack_into("<I", page, 0x228, CMDLINE)
        struct.pack_into("<Q", page, _RSDP, rsdp)
        entries = memory_map(memory)
        page[_E820_COUNT] = len(entries)
        for number, one in enumerate(entries):
            struct.pack_into("<QQI", page, _E820 + 20 * number, *one)
        memory.write(BOOT_INFO, page)
        regs = {"rsi": BOOT_INFO, "rsp": self.stack, "rbp": self.stack}
        if not self.stack:
            regs = {"rsi": BOOT_INFO}
        gdt = _write_gdt(memory, self.bits)
        if self.bits == 32:
            return CpuState("protected", self.address, regs, gdt=gdt)
        return CpuState("long", self.address, regs, _map_memory(memory), gdt)


def _write_gdt(memory: GuestMemory, bits: int) -> tuple[int, int]:
    """__BOOT_CS 0x10: code; __BOOT_DS 0x18: data, as boot.rst asks."""
    code = 0x00AF_9B00_0000_FFFF if bits == 64 else 0x00CF_9B00_0000_FFFF
    table = struct.pack("<4Q", 0, 0, code, 0x00CF_9300_0000_FFFF)
    memory.write(GDT, table)
    return GDT, len(table) - 1


def _map_memory(memory: GuestMemory) -> int:
    """Page tables that map the first 4 GiB onto themselves -> CR3."""
    directories = PAGE_TABLES + PAGE
    tables = directories + PAGE
    memory.write(PAGE_TABLES, struct.pack("<Q", directories | 3))
    memory.write(
        directories, struct.pack(f"<{_GIB}Q", *(tables + n * PAGE | 3 for n in range(_GIB)))
    )
    memory.write(
        tables, struct.pack(f"<{_GIB * 512}Q", *(n << 21 | 0x83 for n in range(_GIB * 512)))
    )
    return PAGE_TABLES


def firmware(memory: GuestMemory, state: CpuState) -> CpuState:
    """Put before the kernel what a firmware would have left: both 8259A masked, since a kernel with
    hardware-reduced ACPI never looks at them and would take their interrupts for exceptions; and at the
    reset vector, where such a kernel jumps to reboot, the keyboard controller's reset.

    AL, and in long mode RAX, is nobody's there."""
    mask = bytes.fromhex("b0ff e621 e6a1")  # mov al, 0xff; out 0x21, al; out 0xa1, al
    distance = state.rip - (FIRMWARE + len(mask) + 5)
    if state.mode == "long" and distance >> 31:
        jump = b"\x48\xb8" + struct.pack("<Q", state.rip) + b"\xff\xe0"  # mov rax, ...; jmp rax
    else:
        jump = b"\xe9" + struct.pack("<I", distance & 0xFFFF_FFFF)
    memory.write(FIRMWARE, mask + jump)
    memory.write(RESET_VECTOR, bytes.fromhex("b0fe e664 f4"))  # mov al, 0xfe; out 0x64, al; hlt
    return state._replace(rip=FIRMWARE)


class BzImage:
    """A parsed bzImage. KernelError, with the reason in words, when it is damaged or too old.

    payload: what the kernel was compressed to; empty where the image does not say."""

    def __init__(self, image: bytes | bytearray, name: str, size: int | None = None) -> None:
        """size: the file's, where `image` is only its beginning."""
        if len(image) < 0x270:
            raise KernelError(f"{name}: truncated: a bzImage is longer than its {len(image)} bytes")
        setup = (image[0x1F1] or 4) + 1
        self.version, xloadflags = (struct.unpack_from("<H", image, at)[0] for at in (0x206, 0x236))
        self.name = name
        self.bits = 64 if self.version >= 0x20C and xloadflags & _XLF_KERNEL_64 else 32
        if self.bits == 32:
            self._check_old(image[0x211])
        self.code = memoryview(image)[setup * 512 :]
        if not self.code:
            raise KernelError(f"{name}: truncated: a bzImage that ends within its setup code")
        #: bytes 0x1f1 on, as boot_params takes them: the length is the jump's target (boot.rst)
        self.header = bytes(image[_HEADER : min(0x202 + image[0x201], 0x290)])
        self.payload = self._find_payload(image, (size or len(image)) - setup * 512)
        # fields that came later are zero in older headers: the setup code lies there
        self.initrd_max = self._field(image, 0x203, "<I", 0x22C) or INITRD_MAX
        self.cmdline_max = self._field(image, 0x206, "<I", 0x238) or 255
        self.load_address = self._field(image, 0x20A, "<Q", 0x258) or _PREFERRED
        self.init_size = self._field(image, 0x20A, "<I", 0x260)

    def _check_old(self, loadflags: int) -> None:
        if self.version < 0x202 or not loadflags & _LOADED_HIGH:
            raise KernelError(
                f"{self.name}: a bzImage of boot protocol {self.version >> 8}.{self.version & 0xFF:02} that"
                " starts in real mode and needs a BIOS; this machine enters kernels in protected or long"
                " mode (2.02, LOADED_HIGH)"
            )

    def _field(self, image: bytes | bytearray, since: int, form: str, at: int) -> int:
        found: int = struct.unpack_from(form, image, at)[0] if self.version >= since else 0
        return found

    def _find_payload(self, image: bytes | bytearray, room: int) -> memoryview:
        offset = self._field(image, 0x208, "<I", 0x248)
        length = self._field(image, 0x208, "<I", 0x24C)
        if offset + length > room:
            raise KernelError(
                f"{self.name}: truncated: its payload ends at {offset + length:#x} of the protected-mode"
                f" code, which has {room:#x} bytes"
            )
        return self.code[offset : offset + length] if offset else self.code[:0]

    @property
    def is_linux(self) -> bool:
        """Whether a Linux is in it: since the payload has a field, other kernels in this format have none."""
        return self.version < 0x208 or bool(self.payload)

    def own_entry(self) -> tuple[int, memoryview, int, Entry]:
        """(address, bytes, bytes of memory, entry) to let the image unpack itself: the 64-bit entry
        lies 0x200 into the protected-mode code, the 32-bit one at its beginning."""
        size = max(self.init_size, len(self.code))
        if self.bits == 64:
            return self.load_address, self.code, size, Entry(self.load_address + 0x200, self.header)
        if self.version >= 0x20A:  # it unpacks itself to its preferred address
            size += max(self.load_address - _CODE32_START, 0)
        return _CODE32_START, self.code, size, Entry(_CODE32_START, self.header, 32)


def is_bzimage(image: bytes | bytearray) -> bool:
    return len(image) > 0x206 and image[0x202:0x206] == b"HdrS" and image[:4] != b"\x7fELF"


def is_linux(elf: ElfFile) -> bool:
    """Whether an ELF file is a vmlinux: 64-bit, linked where x86_64 Linux lives."""
    return elf.bits == 64 and any(one.vaddr >= _KERNEL_MAP for one in elf.segments)
