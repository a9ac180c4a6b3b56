"""A machine's clock that moves when it is told."""

from __future__ import annotations

from collections.abc import Callable

from vmlab.core.clock import Clock, Timer

__all__ = ["ManualClock"]


class ManualClock(Clock):
    """Moves by `advance`, in microseconds; `time` is what `now` says, in nanoseconds. made: the calls that it
    was asked for and has not made."""

    def __init__(self) -> None:
        super().__init__()
        self.time = 0
        self.made: list[Timer] = []

    def now(self) -> int:
        return self.time

    def call_at(self, due: int, call: Callable[[], None]) -> Timer:
        timer = Timer(due, call)
        self.made.append(timer)
        return timer

    @property
    def pending(self) -> list[Timer]:
        """Those that have not been cancelled."""
        return [timer for timer in self.made if not timer.cancelled]

    def advance(self, us: int, *, late: int = 0) -> None:
        """Let `us` microseconds pass. late: how far the host is behind with each call, in microseconds."""
        end = self.time + us * 1000
        while due := [timer for timer in self.pending if timer.due + late * 1000 <= end]:
            first = min(due, key=lambda timer: timer.due)
            self.made.remove(first)
            self.time = max(self.time, first.due + late * 1000)
            first.call()
        self.time = end
