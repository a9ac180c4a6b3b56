"""A bench for small RISC-V guests: memory, recording buses, and the engine.

Physical memory: 0x8000_0000 code, 0x8002_0000 parameters, 0x8004_0000 results. The guest ends by writing to
EXIT.
"""

from __future__ import annotations

import mmap
import struct
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest

from tests.engine.soft.riscv.guest import CODE, Guest
from tests.engine.soft.running import MmioBus, Running
from vmlab.arch.riscv64.cpu_state import CpuState
from vmlab.core.memory import GuestMemory
from vmlab.engine.api import EngineConfig, Hit

pytest.importorskip("unicorn", reason="unicorn is not installed: pip install 'vmlab[soft]'")

from vmlab.engine.soft.riscv.engine import RiscvEngine

__all__ = ["CODE", "DEVICE", "PARAMETERS", "RESULTS", "WAYS", "Lab", "bench"]

SIZE = 16 << 20
PARAMETERS, RESULTS = 0x8002_0000, 0x8004_0000
EXIT, READY, DEVICE = 0x0A00_F000, 0x0A00_E000, 0x0A00_1000
#: the ways of everything: with the library's inner functions, without, and with its hooks left alone as well
WAYS = pytest.mark.parametrize("way", ["native", "portable", "bare"])


class Lab(Running):
    engine: RiscvEngine

    def __init__(
        self, cpus: int, way: str, on_break: Callable[[int, Hit], None] = lambda cpu, hit: None
    ) -> None:
        super().__init__()
        self.memory = GuestMemory(mmap.mmap(-1, SIZE), [(CODE, SIZE)])
        self.bus = MmioBus(self, EXIT)
        self.bus.reader = lambda address, size: 0x8877_6655_4433_2211 & (1 << 8 * size) - 1
        config = EngineConfig(
            self.memory, self.bus, self.bus, cpus, self._stopped, arch="riscv64", on_break=on_break
        )
        self.engine = RiscvEngine(config, way != "native", way == "bare")

    def write(self, address: int, *words: int) -> None:
        values = (word % (1 << 64) for word in words)
        self.memory.write(address, struct.pack(f"<{len(words)}Q", *values))

    def results(self, count: int) -> list[int]:
        return list(struct.unpack(f"<{count}Q", self.memory.read(RESULTS, 8 * count)))

    def start(self, guest: Guest, supervisor: bool = False) -> None:
        self.memory.write(CODE, guest.code)
        self.engine.load(CpuState(CODE, supervisor))
        self.engine.start()

    def run(self, guest: Guest, supervisor: bool = False, timeout: float = 60.0) -> None:
        self.start(guest, supervisor)
        self.finish(timeout)


@contextmanager
def bench(
    cpus: int = 1,
    way: str = "native",
    on_break: Callable[[int, Hit], None] = lambda cpu, hit: None,
) -> Iterator[Lab]:
    lab = Lab(cpus, way, on_break)
    try:
        yield lab
    finally:
        lab.close()
