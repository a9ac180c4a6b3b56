"""A bus that writes everything down, and an engine on top of it."""

from __future__ import annotations

import itertools
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from tests.engine.kvm import guests
from vmlab.arch.x86_64.cpu_state import CpuState
from vmlab.core.host import HOST, Host
from vmlab.core.memory import GuestMemory
from vmlab.engine.api import EngineConfig, Stop
from vmlab.engine.kvm import KvmEngine

MEMORY = 1 << 20


class Bus:
    """Notes ("r"/"w", address, size, value); reads are answered by `answer`."""

    def __init__(self) -> None:
        self.log: list[tuple[str, int, int, int]] = []
        self.answer: Callable[[int, int], int] = lambda address, size: (1 << 8 * size) - 1
        self.hook: Callable[[str, int, int, int], None] | None = None

    def read(self, address: int, size: int) -> int:
        value = self.answer(address, size)
        self._note("r", address, size, value)
        return value

    def write(self, address: int, size: int, value: int) -> None:
        self._note("w", address, size, value)

    def _note(self, kind: str, address: int, size: int, value: int) -> None:
        self.log.append((kind, address, size, value))
        if self.hook is not None:
            self.hook(kind, address, size, value)

    def values(self, kind: str, address: int) -> list[int]:
        return [value for k, at, _, value in self.log if (k, at) == (kind, address)]


class Rig:
    """An engine over 1 MiB with recording buses. `done` is set by a write to port 0xf4."""

    def __init__(self, cpus: int = 1, host: Host = HOST) -> None:
        self.memory = GuestMemory.allocate(MEMORY)
        self.mmio, self.ports = Bus(), Bus()
        self.stops: list[tuple[int, Stop]] = []
        self.done, self.stopped = threading.Event(), threading.Event()
        self.ports.hook = self._port
        config = EngineConfig(self.memory, self.mmio, self.ports, cpus, self._on_stop)
        try:
            self.engine = KvmEngine(config, host)
        except BaseException:
            self.memory.close()
            raise

    def _port(self, kind: str, port: int, size: int, value: int) -> None:
        if (kind, port) == ("w", guests.DONE):
            self.done.set()

    def _on_stop(self, cpu: int, stop: Stop) -> None:
        self.stops.append((cpu, stop))
        self.stopped.set()

    def load(self, code: bytes, state: CpuState = guests.PROTECTED) -> None:
        self.memory.write(guests.CODE, code)
        self.engine.load(state)

    def run(self, code: bytes, state: CpuState = guests.PROTECTED) -> None:
        """Until the guest says that it is done."""
        self.load(code, state)
        self.engine.start()
        assert self.done.wait(10), "the guest did not finish"
        self.engine.pause()

    def close(self) -> None:
        self.engine.close()
        self.memory.close()


@contextmanager
def rig(cpus: int = 1, host: Host = HOST) -> Iterator[Rig]:
    made = Rig(cpus, host)
    try:
        yield made
    finally:
        made.close()


def consecutive(values: list[int]) -> bool:
    return all((a + 1) & 0xFFFFFFFF == b for a, b in itertools.pairwise(values))


def park_in(r: Rig) -> Callable[[str, int, int, int], None]:
    def hook(kind: str, address: int, size: int, value: int) -> None:
        r.engine.park()

    return hook
