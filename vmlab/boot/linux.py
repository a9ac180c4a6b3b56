"""The Linux/x86 boot protocol (Documentation/arch/x86/boot.rst): bzImage, and the 64-bit entry.

A kernel is entered with paging on (the first 4 GiB mapped onto themselves), flat segments 0x10 and
0x18, RSI at `struct boot_params`: the "zero page", which carries the memory map, the initrd, the
command line and where the ACPI tables are.
"""

from __future__ import annotations

import struct
from typing import NamedTuple

from vmlab.boot.elf import ElfFile
from vmlab.boot.layout import BOOT_INFO, CMDLINE, FIRMWARE, GDT, PAGE_TABLES, memory_map
from vmlab.core.memory import PAGE, GuestMemory
from vmlab.core.start import CpuState
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
_XLF_KERNEL_64 = 1
# fields of boot_params
_RSDP, _E820_COUNT, _E820 = 0x70, 0x1E8, 0x2D0
#: the identity map: 4 GiB in pages of 2 MiB
_GIB = 4


class Entry(NamedTuple):
    """The 64-bit entry at `address`. header: the setup header of a bzImage (from 0x1f1 on), if any."""

    address: int
    header: bytes = b""

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
        return CpuState(
            "long", self.address, {"rsi": BOOT_INFO}, _map_memory(memory), _write_gdt(memory)
        )


def _write_gdt(memory: GuestMemory) -> tuple[int, int]:
    """__BOOT_CS 0x10: 64-bit code; __BOOT_DS 0x18: data, as boot.rst asks."""
    table = struct.pack("<4Q", 0, 0, 0x00AF_9B00_0000_FFFF, 0x00CF_9300_0000_FFFF)
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

    The bytes mean the same in protected and in long mode; AL is nobody's there."""
    mask = bytes.fromhex("b0ff e621 e6a1")  # mov al, 0xff; out 0x21, al; out 0xa1, al
    jump = b"\xe9" + struct.pack("<i", state.rip - (FIRMWARE + len(mask) + 5))
    memory.write(FIRMWARE, mask + jump)
    memory.write(RESET_VECTOR, bytes.fromhex("b0fe e664 f4"))  # mov al, 0xfe; out 0x64, al; hlt
    return state._replace(rip=FIRMWARE)


class BzImage:
    """A parsed bzImage. KernelError, with the reason in words, when it is damaged or too old."""

    def __init__(self, image: bytes, name: str) -> None:
        if len(image) < 0x270:
            raise KernelError(f"{name}: truncated: a bzImage is longer than its {len(image)} bytes")
        setup = (image[0x1F1] or 4) + 1
        version, xloadflags = (struct.unpack_from("<H", image, at)[0] for at in (0x206, 0x236))
        if version < 0x20C or not xloadflags & _XLF_KERNEL_64:
            raise KernelError(
                f"{name}: a bzImage of boot protocol {version >> 8}.{version & 0xFF:02} without a"
                " 64-bit entry (2.12 and XLF_KERNEL_64): a 32-bit or very old kernel"
            )
        self.name = name
        self.code = memoryview(image)[setup * 512 :]
        if not self.code:
            raise KernelError(f"{name}: truncated: a bzImage that ends within its setup code")
        #: bytes 0x1f1 on, as boot_params takes them: the length is the jump's target (boot.rst)
        self.header = image[_HEADER : min(0x202 + image[0x201], 0x290)]
        offset, length = struct.unpack_from("<II", image, 0x248)
        if not length or offset + length > len(self.code):
            raise KernelError(
                f"{name}: truncated: its payload ends at {offset + length:#x} of the protected-mode"
                f" code, which has {len(self.code):#x} bytes"
            )
        self.payload = self.code[offset : offset + length]
        self.initrd_max: int = struct.unpack_from("<I", image, 0x22C)[0] or INITRD_MAX
        self.cmdline_max: int = struct.unpack_from("<I", image, 0x238)[0] or 255
        self.load_address: int = struct.unpack_from("<Q", image, 0x258)[0] or _PREFERRED
        self.init_size: int = struct.unpack_from("<I", image, 0x260)[0]

    def own_entry(self) -> tuple[int, memoryview, int, Entry]:
        """(address, bytes, bytes of memory, entry) to let the image unpack itself: the 64-bit entry
        lies 0x200 into the protected-mode code."""
        size = max(self.init_size, len(self.code))
        return self.load_address, self.code, size, Entry(self.load_address + 0x200, self.header)


def is_bzimage(image: bytes) -> bool:
    return len(image) > 0x206 and image[0x202:0x206] == b"HdrS" and image[:4] != b"\x7fELF"


def is_linux(elf: ElfFile) -> bool:
    """Whether an ELF file is a vmlinux: 64-bit, linked where x86_64 Linux lives."""
    return elf.bits == 64 and any(one.vaddr >= _KERNEL_MAP for one in elf.segments)
