"""A bench for small guests: memory with tables in place, recording buses, and the engine.

Physical memory: 0x1000 page tables (4 GiB identity, user-accessible, 2 MiB pages), 0x8000 GDT, 0x9000 IDT,
0xA000 TSS, 0x40000 results, 0x100000 code. The guest ends by writing to port 0xF4.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import pytest

from tests.engine.soft.guest import Guest
from tests.engine.soft.running import Bus, Running
from vmlab.arch.x86_64.cpu_state import CpuState
from vmlab.core.memory import GuestMemory
from vmlab.engine.api import EngineConfig
from vmlab.errors import VmlabError

pytest.importorskip("unicorn", reason="unicorn is not installed: pip install 'vmlab[soft]'")

from vmlab.engine.soft.x86_64.engine import X86Engine

SIZE = 4 << 20
CODE = 0x100000
STACK = 0x80000
RESULTS = 0x40000
PML4, GDT, IDT, TSS = 0x1000, 0x8000, 0x9000, 0xA000
IDT_POINTER, IDT32_POINTER = 0x7000, 0x7010
EXIT_PORT = 0xF4
DEVICE = 0xD000_0000
#: GDT selectors
KCODE, KDATA, UDATA, UCODE, TSS_SEL, KCODE32, UCODE32 = 0x10, 0x18, 0x20, 0x28, 0x30, 0x40, 0x48
_DESCRIPTORS = (
    0, 0, 0x00AF9B000000FFFF, 0x00CF93000000FFFF, 0x00CFF3000000FFFF, 0x00AFFB000000FFFF,
    0x0000890000000067 | TSS << 16, 0, 0x00CF9B000000FFFF, 0x00CFFB000000FFFF,
)  # fmt: skip


class Ports(Bus):
    """As Bus; a write to EXIT_PORT pauses the engine and sets `exited`."""

    def __init__(self, lab: Lab) -> None:
        super().__init__()
        self._lab = lab

    def write(self, address: int, size: int, value: int) -> None:
        if address == EXIT_PORT:
            self._lab.code = value
            self._lab.engine.request_pause()
            self._lab.exited.set()
        else:
            super().write(address, size, value)


class Lab(Running):
    """Memory, buses and an engine."""

    engine: X86Engine

    def __init__(self, cpus: int = 1, deterministic: bool = False) -> None:
        super().__init__()
        self.memory = GuestMemory.allocate(SIZE)
        self.mmio, self.ports = Bus(), Ports(self)
        self.code: int | None = None
        config = EngineConfig(self.memory, self.mmio, self.ports, cpus, self._stopped)
        try:
            self.engine = X86Engine(config, deterministic)
        except VmlabError:
            self.memory.close()
            raise
        self.deterministic = deterministic
        self._tables()

    def _tables(self) -> None:
        write = self.memory.write
        write(PML4, struct.pack("<Q", PML4 + 0x1000 | 7))
        for gib in range(4):
            directory = PML4 + 0x2000 + gib * 0x1000
            write(PML4 + 0x1000 + 8 * gib, struct.pack("<Q", directory | 7))
            entries = [(gib << 30 | n << 21) | 0x87 for n in range(512)]
            write(directory, struct.pack("<512Q", *entries))
        write(GDT, struct.pack(f"<{len(_DESCRIPTORS)}Q", *_DESCRIPTORS))
        write(IDT_POINTER, struct.pack("<HQ", 0xFFF, IDT))
        write(IDT32_POINTER, struct.pack("<HI", 0x7FF, IDT))
        # TSS: RSP0, then IST1; in its 32-bit reading ESP0 and SS0
        write(TSS + 4, struct.pack("<Q", 0x60000))
        write(TSS + 36, struct.pack("<Q", 0x70000))

    def gate(self, vector: int, address: int, ist: int = 0, kind: int = 0x8E) -> None:
        """A 64-bit gate; `kind` is P, DPL and type."""
        low = address & 0xFFFF | KCODE << 16 | ist << 32 | kind << 40 | (address & 0xFFFF0000) << 32
        self.memory.write(IDT + 16 * vector, struct.pack("<QQ", low, address >> 32))

    def gate32(self, vector: int, address: int, kind: int = 0x8E) -> None:
        low = address & 0xFFFF | KCODE32 << 16 | kind << 40 | (address & 0xFFFF0000) << 32
        self.memory.write(IDT + 8 * vector, struct.pack("<Q", low))

    def load(
        self,
        guest: Guest | bytes,
        mode: str = "long",
        rip: int = CODE,
        regs: Mapping[str, int] | None = None,
    ) -> None:
        code = guest if isinstance(guest, bytes) else guest.code
        self.memory.write(rip, code)
        values = {"rsp": STACK, **(regs or {})}
        gdt = (GDT, 8 * len(_DESCRIPTORS) - 1)
        state = CpuState(mode, rip, values, cr3=PML4, gdt=gdt)  # type: ignore[arg-type]
        self.engine.load(state)

    def run(self, guest: Guest | bytes, mode: str = "long", timeout: float = 10.0) -> None:
        """Load, start, and wait until the guest has exited or stopped."""
        self.load(guest, mode)
        self.engine.start()
        self.finish(timeout)

    def finish(self, timeout: float = 10.0) -> None:
        assert self.exited.wait(timeout), "the guest did not end"
        self.engine.pause()

    def u64(self, address: int) -> int:
        return int.from_bytes(self.memory.read(address, 8), "little")

    def results(self, count: int) -> list[int]:
        return [self.u64(RESULTS + 8 * n) for n in range(count)]


@contextmanager
def bench(cpus: int = 1, deterministic: bool = False) -> Iterator[Lab]:
    lab = Lab(cpus, deterministic)
    try:
        yield lab
    finally:
        lab.close()
