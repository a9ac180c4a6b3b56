"""The access log: every access with its register's name, the last N kept."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable
from typing import NamedTuple

from vmlab.core.bus import Bus, BusRange

__all__ = ["AccessEvent", "AccessLog"]


class AccessEvent(NamedTuple):
    """One access. time: seconds since the log began; space: "mmio" or "port"; device and register are
    "" where nothing answered; size in bytes. pc: where the instruction lies, its first byte or, of a write
    under KVM on x86_64, one of its bytes; None where the engine does not know."""

    time: float
    cpu: int
    space: str
    address: int
    device: str
    register: str
    write: bool
    size: int
    value: int
    pc: int | None = None


class AccessLog:
    """Observes buses while it is on. Bounded: the oldest entries go when `last` are there.

    device: keep only accesses to that id.
    """

    def __init__(self, last: int = 10_000, device: str | None = None) -> None:
        self.device = device
        self.dropped = 0
        self._events: deque[AccessEvent] = deque(maxlen=last)
        self._lock = threading.Lock()
        self._start = time.perf_counter()
        self._buses: list[Bus] = []

    def watch(
        self,
        bus: Bus,
        current_cpu: Callable[[], int],
        program_counter: Callable[[], int | None] = lambda: None,
    ) -> None:
        space, start, clock = bus.name, self._start, time.perf_counter

        def seen(found: BusRange | None, address: int, size: int, value: int, write: bool) -> None:
            name = register = ""
            if found is not None:
                name = found.name
                register = found.register_at(address, size, write)
            if self.device is None or name == self.device:
                event = AccessEvent(
                    clock() - start,
                    current_cpu(),
                    space,
                    address,
                    name,
                    register,
                    write,
                    size,
                    value,
                    program_counter(),
                )
                with self._lock:
                    if len(self._events) == self._events.maxlen:
                        self.dropped += 1
                    self._events.append(event)

        bus.observe(seen)
        self._buses.append(bus)

    def stop(self) -> None:
        for bus in self._buses:
            bus.observe(None)
        self._buses.clear()

    def take(self, limit: int | None = None) -> tuple[list[AccessEvent], int]:
        """The entries since the last `take`, oldest first and at most `limit`, and how many were
        dropped since the beginning."""
        with self._lock:
            count = len(self._events) if limit is None else min(limit, len(self._events))
            return [self._events.popleft() for _ in range(count)], self.dropped
