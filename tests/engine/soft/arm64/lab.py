"""A bench for small arm64 guests: memory, recording buses, and the engine.

Physical memory: 0x8000_0000 code, 0x8002_0000 parameters, 0x8003_0000 (address, value) pairs that the guest
writes to devices first, 0x8004_0000 results. The guest ends by writing to EXIT.
"""

from __future__ import annotations

import mmap
import struct
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from tests.engine.soft.arm64.guest import CODE, Guest
from tests.engine.soft.running import MmioBus, Running
from vmlab.arch.arm64.cpu_state import CpuState
from vmlab.core.memory import GuestMemory
from vmlab.engine.api import EngineConfig

pytest.importorskip("unicorn", reason="unicorn is not installed: pip install 'vmlab[soft]'")

from vmlab.arch.arm64 import platform
from vmlab.engine.soft.arm64.engine import ArmEngine

SIZE = 16 << 20
PARAMETERS, PAIRS, RESULTS = 0x8002_0000, 0x8003_0000, 0x8004_0000
EXIT, READY, DEVICE, CODE_DEVICE = 0x0A00_F000, 0x0A00_E000, 0x0A00_1000, 0x0A00_D000
#: the ways of everything: with the library's inner functions, without, and with its hooks left alone as well
WAYS = pytest.mark.parametrize("way", ["native", "portable", "bare"])
GICS = pytest.mark.parametrize("gic", [2, 3])


class Lab(Running):
    engine: ArmEngine

    def __init__(self, cpus: int, gic: int, way: str, exact: bool) -> None:
        super().__init__()
        self.memory = GuestMemory(mmap.mmap(-1, SIZE), [(CODE, SIZE)])
        self.bus = MmioBus(self, EXIT)
        config = EngineConfig(self.memory, self.bus, self.bus, cpus, self._stopped, exact=exact)
        self.engine = ArmEngine(config, gic, way != "native", way == "bare")
        self.gic = gic

    def write(self, address: int, *words: int) -> None:
        self.memory.write(address, struct.pack(f"<{len(words)}Q", *words))

    def results(self, count: int) -> list[int]:
        return list(struct.unpack(f"<{count}Q", self.memory.read(RESULTS, 8 * count)))

    def enable(self, *intids: int, edge: bool = True) -> None:
        """Have the guest set up the interrupt controller for these, sent to CPU 0."""
        pairs: list[tuple[int, int]] = []
        base = platform.GICV2_DISTRIBUTOR if self.gic == 2 else platform.GICV3_DISTRIBUTOR
        private = base if self.gic == 2 else platform.redistributors(self.engine.cpus) + 0x10000
        for intid in intids:
            at = private if intid < 32 else base
            word, bit = intid // 32 * 4, 1 << intid % 32
            if self.gic == 3:
                pairs.append((at + 0x80 + word, 0xFFFF_FFFF))
            elif intid >= 32:
                pairs.append((at + 0x800 + intid // 4 * 4, 0x0101_0101))
            if intid >= 32 and edge:
                pairs.append((at + 0xC00 + intid // 16 * 4, 0xAAAA_AAAA))
            pairs.append((at + 0x100 + word, bit))
        pairs.append((base, 1 if self.gic == 2 else 2))
        if self.gic == 2:
            pairs += [(platform.GICV2_CPU + 4, 0xFF), (platform.GICV2_CPU, 1)]
        for number, (address, value) in enumerate([*pairs, (0, 0)]):
            self.write(PAIRS + 16 * number, address, value)

    def interrupts(self, count: int, asleep: bool, tick: int = 0) -> None:
        """The parameters of the guest INTERRUPTS."""
        interface = platform.GICV2_CPU if self.gic == 2 else 0
        self.write(PARAMETERS, int(asleep), count, DEVICE, tick, interface)

    def start(self, guest: Guest) -> None:
        self.memory.write(CODE, guest.code)
        self.engine.load(CpuState(CODE))
        self.engine.start()

    def run(self, guest: Guest, timeout: float = 60.0) -> None:
        self.start(guest)
        self.finish(timeout)

    def run_again(self, guest: Guest) -> None:
        """After a pause, or for the first time."""
        self.exited.clear()
        self.memory.write(CODE, guest.code)
        self.engine.load(CpuState(CODE))
        self.engine.resume()
        self.finish()


@contextmanager
def bench(cpus: int = 1, gic: int = 2, way: str = "native", exact: bool = True) -> Iterator[Lab]:
    lab = Lab(cpus, gic, way, exact)
    try:
        yield lab
    finally:
        lab.close()
