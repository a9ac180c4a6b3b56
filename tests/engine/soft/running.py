"""What benches for guests of any processor have in common."""

from __future__ import annotations

import threading
from collections.abc import Callable

from tests.waiting import until
from vmlab.core.memory import GuestMemory
from vmlab.engine.api import Stop
from vmlab.engine.soft.engine import SoftEngine

__all__ = ["Running"]


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

    def close(self) -> None:
        self.engine.close()
        self.memory.close()
