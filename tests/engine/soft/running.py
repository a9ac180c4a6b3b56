"""What benches for guests of any processor have in common."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Sequence

from tests.waiting import until
from vmlab.core.memory import GuestMemory
from vmlab.engine.api import Stop
from vmlab.engine.soft.engine import SoftEngine

__all__ = ["Bus", "MmioBus", "Running", "answer_with_the_next"]


class Bus:
    """Records (kind, address, size, value); reads are answered by `reader`."""

    def __init__(self) -> None:
        self.log: list[tuple[str, int, int, int]] = []
        self.reader: Callable[[int, int], int] = lambda address, size: (1 << 8 * size) - 1
        self.on_write: Callable[[int, int, int], None] = lambda address, size, value: None

    def read(self, address: int, size: int) -> int:
        value = self.reader(address, size)
        self.log.append(("r", address, size, value))
        return value

    def write(self, address: int, size: int, value: int) -> None:
        self.log.append(("w", address, size, value))
        self.on_write(address, size, value)


class MmioBus(Bus):
    """As Bus; a write to the address `ends` pauses the engine and sets `exited`."""

    def __init__(self, lab: Running, ends: int) -> None:
        super().__init__()
        self._lab, self._ends = lab, ends

    def write(self, address: int, size: int, value: int) -> None:
        if address == self._ends:
            self._lab.engine.request_pause()
            self._lab.exited.set()
        else:
            super().write(address, size, value)


class Running:
    """exited: the guest has ended, or cannot go on; stops: (CPU, why) of those that cannot."""

    memory: GuestMemory
    engine: SoftEngine

    def __init__(self) -> None:
        self.exited = threading.Event()
        self.stops: list[tuple[int, Stop]] = []

    def _stopped(self, cpu: int, stop: Stop) -> None:
        self.stops.append((cpu, stop))
        self.exited.set()

    def wait_for(self, condition: Callable[[], bool], timeout: float = 5.0) -> None:
        until(condition, "it happened", timeout)

    def finish(self, timeout: float = 60.0) -> None:
        assert self.exited.wait(timeout), "the guest did not end"
        assert self.engine.pause(5.0)

    def close(self) -> None:
        self.engine.close()
        self.memory.close()


def answer_with_the_next(
    lab: Running, bus: Bus, lines: Sequence[int], count: int, device: int
) -> list[int]:
    """Another thread pulses a line when the interrupt before has been handled: when the guest writes which
    one it was to `device`, and once before, when it says elsewhere that it is ready -> what it writes."""
    sinks = [lab.engine.irq_sink(line) for line in lines]
    due: queue.SimpleQueue[int] = queue.SimpleQueue()
    seen: list[int] = []

    def on_write(address: int, _size: int, value: int) -> None:
        if address == device:
            seen.append(value)
        due.put(len(seen))

    def send() -> None:
        while (number := due.get()) < count:
            assert sinks[number % len(sinks)].pulse()

    bus.on_write = on_write
    threading.Thread(target=send, daemon=True).start()
    return seen
