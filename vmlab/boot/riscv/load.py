"""Puts a kernel into guest memory and says how the harts start.

Where it lies says in which mode: a kernel whose RAM begins with it is the machine's firmware and starts in M
mode on every hart, as on QEMU's "virt" without a BIOS; one that leaves the first 2 MiB to a firmware starts
in S mode on one hart, and the machine answers its SBI calls. Both can be said, and a firmware of one's own
can be put below a kernel (see `firmware`). Every kernel gets a device tree.
"""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

from vmlab.arch.riscv64 import platform
from vmlab.arch.riscv64.cpu_state import CpuState
from vmlab.boot import fdt, image
from vmlab.boot.by_tree import Kernel, check_linked, chosen, complete, lay_out, place_initrd
from vmlab.boot.elf import ELF_MAGIC, ElfFile, Target
from vmlab.boot.fdt import Node
from vmlab.boot.image import check_initrd
from vmlab.boot.payload import MAX_SIZE
from vmlab.boot.pieces import Piece, check_entry, pieces_of
from vmlab.boot.riscv import formats, linux
from vmlab.boot.riscv.firmware import INFO_SIZE, NONE, SBI, Firmware, dynamic_info
from vmlab.core.cmdline import Cmdline
from vmlab.core.memory import GuestMemory
from vmlab.core.safely import named
from vmlab.errors import KernelError

__all__ = ["Kernel", "RiscvLoader", "Told"]

#: bytes of command line that Linux takes (COMMAND_LINE_SIZE), without the NUL
CMDLINE_MAX = 511
#: the device tree's place: this much at RAM's end, on a boundary of that size
_TREE = 0x20_0000


class Told(NamedTuple):
    """What a guest finds in memory of its machine. tree: the device tree, without /memory and /chosen;
    stdout: the path in it of the serial port, whose address is `uart`. firmware: what was said of it."""

    tree: Node = Node("")
    stdout: str = ""
    uart: int = platform.UART_BASE
    firmware: Firmware | None = None


def _is_payload(entry: int, first: int, ram: int) -> bool:
    """Whether a kernel leaves a firmware its room (an ELF file's headers may come with it, a page before)."""
    return first > ram and entry >= platform.SBI_ENTRY


class _Formats(NamedTuple):
    """What `image` asks of an architecture."""

    TARGET: Target

    def is_kernel(self, first: bytes | bytearray) -> bool:
        return formats.is_kernel(first)

    def guess(self, data: bytes | bytearray) -> str:
        return formats.guess(data, self.TARGET)


class RiscvLoader:
    """For harts of so many bits."""

    def __init__(self, bits: int) -> None:
        self._bits = bits
        self._formats = _Formats(formats.TARGETS[bits])

    def read_image(self, path: str | Path, limit: int = MAX_SIZE) -> bytes:
        """A kernel's bytes; see `boot.image.read_image`."""
        return image.read_image(path, self._formats, limit=limit)

    def check_files(self, kernel: str, initrd: str | None, memory: int) -> str:
        """KernelError when a machine with `memory` bytes cannot boot them, as far as that can be told
        quickly. What it would do without: a sentence, or ""."""
        data = self.read_image(kernel, limit=memory)
        first, size = image.beginning(data, named(kernel))
        self._take_apart(first, named(kernel), size)
        if initrd is not None:
            check_initrd(initrd, memory)
        return ""

    def parse(self, data: bytes, name: str, limit: int = MAX_SIZE) -> Kernel:
        """The image taken apart; KernelError when this machine cannot boot it. limit: bytes that it may
        unpack to."""
        said = named(name)
        return self._take_apart(image.unwrap(data, said, self._formats, limit), said)

    def _take_apart(self, data: bytes | bytearray, name: str, size: int | None = None) -> Kernel:
        """size: the image's, where `data` is only its beginning."""
        if linux.is_image(data):
            header = linux.Image.read(data, name, len(data) if size is None else 0)
            piece = Piece(header.text_offset, memoryview(data), max(header.size, len(data)))
            return Kernel(name, [piece], header.text_offset, True, True)
        if data[:4] != ELF_MAGIC:
            raise KernelError(f"{name}: {self._formats.guess(data)}")
        elf = ElfFile(data, name, self._formats.TARGET, size)
        if elf.bits != self._bits:
            raise KernelError(
                f"{name}: made for riscv{elf.bits}; this machine is riscv{self._bits};"
                f" arch='riscv{elf.bits}' (--arch riscv{elf.bits}) makes one for it"
            )
        check_linked(elf)
        entry = elf.to_physical(elf.entry)
        if size is None:
            check_entry(elf, entry)
        return Kernel(elf.name, pieces_of(elf) if size is None else [], entry)

    def place(
        self,
        memory: GuestMemory,
        kernel: Kernel,
        cmdline: Cmdline,
        initrd: bytes | None = None,
        told: Told = Told(),  # noqa: B008  it cannot be changed
    ) -> CpuState:
        """Write kernel, initrd and device tree. Memory is taken to be zeroed."""
        ram = memory.regions[0]
        start = ram.base if kernel.floating else 0
        pieces = [one._replace(address=start + one.address) for one in kernel.pieces]
        entry, first = start + kernel.entry, min(one.address for one in pieces)
        own = told.firmware if told.firmware is not None and told.firmware.is_file else None
        if own is not None:
            if entry < platform.SBI_ENTRY:
                raise KernelError(
                    f"{kernel.name}: it lies at {first:#x}, where the firmware {own.name} is; link it to"
                    f" {platform.SBI_ENTRY:#x}, or leave the firmware out: it is one itself"
                )
            pieces = [*own.pieces, *pieces]
        if kernel.linux and len(cmdline) > CMDLINE_MAX:
            raise KernelError(
                f"{kernel.name}: it takes a command line of {CMDLINE_MAX} bytes; this one has {len(cmdline)}"
            )
        tree = (ram.end - _TREE) & -_TREE if ram.size > _TREE else ram.end - ram.size // 4
        end = lay_out(memory, kernel.name, pieces, (tree, ram.end, "device tree"))
        module = place_initrd(memory, initrd, end, tree) if initrd else None
        properties = chosen(cmdline, told.stdout, module, kernel.linux)
        blob = fdt.flatten(complete(told.tree, memory, properties))
        if tree + len(blob) > ram.end - INFO_SIZE:
            raise KernelError(
                f"{len(blob):#x} bytes of device tree do not fit; give the guest more memory"
            )
        memory.write(tree, blob)
        if own is None:
            said = told.firmware.name if told.firmware is not None else ""
            supervisor = said == SBI or (said != NONE and _is_payload(entry, first, ram.base))
            return CpuState(entry, supervisor, {"x11": tree}, told.uart)
        # behind the tree's room: the firmware writes into that
        memory.write(info := ram.end - INFO_SIZE, dynamic_info(entry, self._bits))
        return CpuState(own.entry, False, {"x11": tree, "x12": info}, told.uart)
