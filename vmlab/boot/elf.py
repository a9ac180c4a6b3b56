"""ELF, as far as a loader needs it: segments, notes, the entry (System V gABI, chapters 4 and 5).

The file is not trusted: every offset and length is checked against it before use.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from itertools import islice
from typing import NamedTuple

from vmlab.arch import HOMES, get
from vmlab.arch.api import OnlyWindows
from vmlab.errors import KernelError

__all__ = ["ELF_MAGIC", "EM_AARCH64", "EM_X86_64", "ET_DYN", "ET_EXEC", "ElfFile", "Segment"]
__all__ += ["EM_386", "EM_RISCV", "Target", "other"]

ELF_MAGIC = b"\x7fELF"
PT_LOAD, PT_INTERP, PT_NOTE = 1, 3, 4
ET_EXEC, ET_DYN = 2, 3
EM_386, EM_X86_64, EM_AARCH64, EM_RISCV = 3, 62, 183, 243
_MACHINES = {
    EM_386: "i386",
    EM_X86_64: "x86_64",
    EM_AARCH64: "arm64",
    40: "arm",
    EM_RISCV: "riscv",
    22: "s390",
    21: "ppc64",
}
#: program headers that an image may have; the largest kernels have about a dozen
MAX_SEGMENTS = 1024
#: notes that are looked at, in all of an image's PT_NOTE segments; kernels have about twenty
MAX_NOTES = 1024
#: bytes of a note's owner; one with more is nobody who is asked for here
_OWNER_MAX = 16


class Target(NamedTuple):
    """The machine that is to load a file: its architecture, and whose code it runs."""

    arch: str
    machines: tuple[int, ...]


def other(arch: str, target: Target) -> str:
    """What is wrong with a kernel for `arch`, and what to do."""
    known = arch in HOMES and not isinstance(get(arch), OnlyWindows)
    hint = f"; arch={arch!r} (--arch {arch}) makes one for it" if known else ""
    return f"made for {arch}; this machine is {target.arch}{hint}"


class Segment(NamedTuple):
    """A PT_LOAD segment. paddr: guest-physical; sizes in bytes."""

    offset: int
    paddr: int
    vaddr: int
    file_size: int
    memory_size: int

    @property
    def end(self) -> int:
        return self.paddr + self.memory_size


class ElfFile:
    """A parsed executable. KernelError, with the reason in words, when it is not one."""

    def __init__(
        self,
        data: bytes | bytearray | memoryview,
        name: str,
        target: Target,
        size: int | None = None,
    ) -> None:
        """size: the file's, where `data` is only its beginning: enough for the program headers."""
        self.data = memoryview(data)
        self.name = name
        self.size = len(self.data) if size is None else size
        if len(data) < 52:
            raise KernelError(
                f"{name}: truncated: an ELF header is longer than its {len(data)} bytes"
            )
        self.bits = {1: 32, 2: 64}.get(self.data[4], 0)
        if not self.bits or self.data[5] != 1:
            raise KernelError(f"{name}: not a little-endian 32- or 64-bit ELF file")
        head = "<HHIQQQIHHHHHH" if self.bits == 64 else "<HHIIIIIHHHHHH"
        kind, machine, _, entry, phoff, _, _, _, phentsize, phnum, *_ = self._unpack(head, 16)
        if machine not in target.machines:
            what = _MACHINES.get(machine, f"machine {machine}")
            raise KernelError(f"{name}: {other(what, target)}")
        if kind not in (ET_EXEC, ET_DYN):
            what = {1: "a relocatable object", 4: "a core dump"}.get(kind, f"of type {kind}")
            raise KernelError(
                f"{name}: an ELF file that is {what}, not an executable; link it first"
            )
        self.kind: int = kind
        self.machine: int = machine
        self.entry: int = entry
        #: whether it asks for a program to load it, as programs of an operating system do
        self.interpreted = False
        self.segments: list[Segment] = []
        self._notes: list[tuple[int, int]] = []
        if phnum > MAX_SEGMENTS:
            raise KernelError(f"{name}: {phnum} program headers; at most {MAX_SEGMENTS} make sense")
        for index in range(phnum):
            self._header(phoff + index * phentsize)
        if not self.segments:
            raise KernelError(f"{name}: nothing to load: no PT_LOAD segment")

    def _unpack(self, form: str, at: int) -> tuple[int, ...]:
        try:
            return struct.unpack_from(form, self.data, at)
        except (struct.error, OverflowError):
            raise KernelError(
                f"{self.name}: truncated: {struct.calcsize(form)} bytes at {at:#x} are past its end"
            ) from None

    def _header(self, at: int) -> None:
        if self.bits == 64:
            kind, _, offset, vaddr, paddr, size, memory, _ = self._unpack("<IIQQQQQQ", at)
        else:
            kind, offset, vaddr, paddr, size, memory, _, _ = self._unpack("<IIIIIIII", at)
        self.interpreted |= kind == PT_INTERP
        if kind not in (PT_LOAD, PT_NOTE):
            return
        if offset + size > self.size:
            raise KernelError(
                f"{self.name}: truncated: a segment needs bytes up to {offset + size:#x},"
                f" the file has {self.size:#x}"
            )
        if kind == PT_NOTE:
            self._notes.append((offset, size))
        elif memory:
            if size > memory:
                raise KernelError(
                    f"{self.name}: a segment has {size:#x} bytes for {memory:#x} of memory"
                )
            self.segments.append(Segment(offset, paddr, vaddr, size, memory))

    @property
    def extent(self) -> int:
        """How many bytes of the file a loader needs; symbols and debugging data lie behind them."""
        parts = [(one.offset, one.file_size) for one in self.segments] + self._notes
        return max(offset + size for offset, size in parts)

    def note(self, owner: bytes, kind: int) -> bytes | None:
        """The descriptor of the first note of that owner and type, among the first MAX_NOTES."""
        for name, note_kind, desc in islice(self._every_note(), MAX_NOTES):
            if name == owner and note_kind == kind:
                return desc
        return None

    def _every_note(self) -> Iterator[tuple[bytes, int, bytes]]:
        for start, size in self._notes:
            at, end = start, start + size
            while at + 12 <= end:
                name_size, desc_size, kind = self._unpack("<III", at)
                desc = at + 12 + (name_size + 3 & ~3)
                if desc + desc_size > end:
                    break
                name = bytes(self.data[at + 12 :][: name_size if name_size <= _OWNER_MAX else 0])
                yield name.rstrip(b"\0"), kind, bytes(self.data[desc : desc + min(desc_size, 64)])
                at = desc + (desc_size + 3 & ~3)

    def to_physical(self, vaddr: int) -> int:
        """Where the loaded image has the virtual address `vaddr`; the address itself if nowhere."""
        for one in self.segments:
            if one.vaddr <= vaddr < one.vaddr + one.memory_size:
                return vaddr - one.vaddr + one.paddr
        return vaddr
