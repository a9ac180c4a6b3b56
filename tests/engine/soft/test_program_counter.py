"""Where the instruction lies whose access is handled, in software on each architecture."""

from __future__ import annotations

import mmap
import threading
from collections.abc import Callable
from typing import Any

import pytest

from vmlab.core.memory import GuestMemory
from vmlab.engine.api import EngineConfig

pytest.importorskip("unicorn", reason="unicorn is not installed: pip install 'vmlab[soft]'")

from vmlab.arch.arm64.cpu_state import CpuState as ArmState
from vmlab.arch.riscv64.cpu_state import CpuState as RiscvState
from vmlab.arch.x86_64.cpu_state import CpuState as X86State
from vmlab.engine.soft.arm64.engine import ArmEngine
from vmlab.engine.soft.riscv.engine import RiscvEngine
from vmlab.engine.soft.x86_64.engine import X86Engine

SIZE, DEVICE = 16 << 20, 0x0A00_1000


def words(*values: int) -> bytes:
    return b"".join(value.to_bytes(4, "little") for value in values)


# nop, load, nop, store, loop; the accesses' offsets
X86 = bytes.fromhex("90 8b03 90 8903 90 ebf7"), (1, 4)
ARM = words(0xD503201F, 0xB9400020, 0xD503201F, 0xB9000020, 0x17FFFFFC), (4, 12)
RISCV = words(0x13, 0x0005A503, 0x13, 0x00A5A023, 0xFF1FF06F), (4, 12)
BASE = 0x8000_0000


def _x86(config: EngineConfig) -> Any:
    return X86Engine(config), X86State("protected", 0x10_0000, {"rbx": 0xD000_0000})


def _arm(config: EngineConfig) -> Any:
    return ArmEngine(config, 3), ArmState(BASE, {"x1": DEVICE})


def _riscv(config: EngineConfig) -> Any:
    return RiscvEngine(config), RiscvState(BASE, False, {"x11": DEVICE})


@pytest.mark.parametrize("exact", [True, False])
@pytest.mark.parametrize(
    ("make", "arch", "guest", "at"),
    [
        (_x86, "x86_64", X86, 0x10_0000),
        (_arm, "arm64", ARM, BASE),
        (_riscv, "riscv64", RISCV, BASE),
        (_riscv, "riscv32", RISCV, BASE),
    ],
    ids=["x86_64", "arm64", "riscv64", "riscv32"],
)
def test_each_access_names_its_instruction(
    make: Callable[[EngineConfig], Any],
    arch: str,
    guest: tuple[bytes, tuple[int, int]],
    at: int,
    exact: bool,
) -> None:
    code, (load, store) = guest
    base = 0 if arch == "x86_64" else BASE
    memory = GuestMemory(mmap.mmap(-1, SIZE), [(base, SIZE)])
    seen: list[tuple[str, int | None]] = []
    enough = threading.Event()

    class Bus:
        def read(self, address: int, size: int) -> int:
            seen.append(("r", engine.program_counter()))
            return 0

        def write(self, address: int, size: int, value: int) -> None:
            seen.append(("w", engine.program_counter()))
            if len(seen) >= 20:
                engine.request_pause()
                enough.set()

    bus = Bus()
    engine, state = make(EngineConfig(memory, bus, bus, arch=arch, exact=exact))
    try:
        memory.write(at, code)
        engine.load(state)
        engine.start()
        assert enough.wait(30)
        assert engine.pause(5)
        assert engine.program_counter() is None
    finally:
        engine.close()
        memory.close()
    assert set(seen) == {("r", at + load), ("w", at + store)}
