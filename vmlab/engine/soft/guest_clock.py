"""The time that a guest's counter shows."""

from __future__ import annotations

import time
from collections.abc import Callable

__all__ = ["GuestClock"]


class GuestClock:
    """The machine's time: the host's monotonic one less all pauses. It begins stopped, at 0. tick_ns:
    nanoseconds of a tick of its counter."""

    def __init__(self, tick_ns: int, now: Callable[[], int] = time.monotonic_ns) -> None:
        self._tick_ns, self._now = tick_ns, now
        #: host time - machine time, in ns
        self.offset = 0
        self._stopped_at: int | None = 0

    def now(self) -> int:
        """In ns."""
        return self._now() - self.offset if self._stopped_at is None else self._stopped_at

    def ticks(self) -> int:
        return self.now() // self._tick_ns

    def host_time(self, ticks: int) -> int:
        """When the counter gets there, in the host's ns, if it is not stopped before."""
        return ticks * self._tick_ns + self.offset

    def reset(self) -> None:
        """Begin anew at 0, stopped."""
        self._stopped_at = 0

    def stop(self) -> None:
        self._stopped_at = self.now()

    def go(self) -> None:
        if self._stopped_at is not None:
            # whole ticks, so that a counter of the host's that is read with an offset is never behind
            self.offset = (self._now() - self._stopped_at) // self._tick_ns * self._tick_ns
            self._stopped_at = None
